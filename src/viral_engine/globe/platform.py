"""The platform's state: apps, machines, volumes; every change of it is kept on disk."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from viral_engine.errors import ConflictError, NoCapacityError, NotFoundError, PlatformError
from viral_engine.fly.model import MachineConfig, MachineState, Volume
from viral_engine.globe.app_settings import AppSettings
from viral_engine.globe.leases import Leases
from viral_engine.globe.logbook import LogBook
from viral_engine.globe.machines.checks import OpenSocket
from viral_engine.globe.machines.process import Launch, MachineProcess
from viral_engine.globe.machines.record import MachineRecord, new_machine_id, timestamp
from viral_engine.globe.machines.runner import MachineRunner
from viral_engine.globe.names import write_names
from viral_engine.globe.network.addresses import FIRST_MACHINE, LAST_MACHINE, AddressPlan


class Network(Protocol):
    """What the platform needs of either network."""

    plan: AddressPlan

    def namespace(self, place: str) -> int | None:
        """The namespace of a place; None where all share the machine's own."""

    def open_socket_in(self, place: str) -> OpenSocket:
        """Makes TCP sockets that belong to a place."""

    async def add_address(self, place: str, address: str) -> None:
        """Let a place answer one more address."""


DESTROYED_KEPT = 1000
"""Machines of which it is still known that they were destroyed."""


@dataclass(eq=False, slots=True)
class Platform:
    """Everything that the API shows; ``home`` is the data folder.

    Each machine has one owner, its runner; apps and volumes are changed by the methods here, which
    never wait between reading and writing them.
    """

    home: Path
    network: Network
    logs: LogBook
    environ: Mapping[str, str]
    isolate: bool
    on_change: list[Callable[[], None]] = field(default_factory=list)
    apps: dict[str, dict[str, Any]] = field(default_factory=dict)
    volumes: dict[str, tuple[str, Volume]] = field(default_factory=dict)
    runners: dict[str, MachineRunner] = field(default_factory=dict)
    destroyed: dict[str, MachineRecord] = field(default_factory=dict)
    lost_hosts: set[str] = field(default_factory=set)
    leases: Leases = field(default_factory=Leases)
    _settings: dict[str, AppSettings] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _change: asyncio.Event = field(default_factory=asyncio.Event)
    _closing: bool = False

    # machines

    def runner(self, app: str, machine: str) -> MachineRunner:
        """The owner of a machine; raises NotFoundError."""
        found = self.runners.get(machine)
        if found is None or found.record.app != app:
            raise NotFoundError(f"machine {machine} not found in app {app}", status=404)
        return found

    def machines(self, app: str | None = None) -> list[MachineRecord]:
        """The machines of an app, or all of them, oldest first."""
        records = [runner.record for runner in self.runners.values()]
        return sorted((r for r in records if app in (None, r.app)), key=lambda r: r.created_at)

    async def create_machine(
        self,
        app: str,
        *,
        name: str,
        region: str,
        config: MachineConfig,
        launch: bool,
        registered: bool = True,
    ) -> MachineRecord:
        """Make a machine with an address of its own; starts it when ``launch`` is on."""
        self.app(app)
        if region not in self.network.plan.regions:
            raise PlatformError(f"region {region} is not one of this globe", status=422)
        if region in self.lost_hosts:
            raise NoCapacityError(
                f"insufficient capacity: no host of {region} can be reached", status=422
            )
        if any(record.name == name for record in self.machines(app)):
            raise ConflictError("already_exists: unique machine name violation", status=409)
        self.check_mounts(app, region, config)
        number = self._free_number(region)
        name = name or self._free_name(app, f"{app}-{region}-{number}")
        record = MachineRecord(
            id=new_machine_id(),
            app=app,
            name=name,
            region=region,
            number=number,
            private_ip=self.network.plan.machine(region, number),
            config=config,
            cordoned=not registered,
        )
        record.note("launch", "created", source="user")
        runner = self._adopt(record)
        await self.network.add_address(region, record.private_ip)
        if launch:
            runner.order_soon("start", "user")
        self.changed()
        return record

    async def delete_machine(self, runner: MachineRunner, *, force: bool) -> None:
        """Destroy a machine; raises ConflictError when it runs and ``force`` is off."""
        record = runner.record
        if not force and record.state in (MachineState.STARTED, MachineState.STARTING):
            raise ConflictError(
                f"failed_precondition: machine {record.id} is {record.state}, stop it or use force",
                status=412,
            )
        task = self._tasks[record.id]
        await runner.order("destroy")  # raises for the second of two who destroy it at once
        await asyncio.wait({task})

    async def wait_for(self, condition: Callable[[], bool], *, timeout: float) -> bool:
        """Wait until a condition over this state holds; False when it does not in time."""
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    await self._change.wait()
        except TimeoutError:
            return False
        return True

    # apps and volumes

    def create_app(self, name: str) -> None:
        """Make an app; raises PlatformError when the name is taken."""
        if name in self.apps:
            raise PlatformError("Validation failed: Name has already been taken", status=422)
        self.apps[name] = {"id": name, "name": name, "created_at": timestamp()}
        self.changed()

    def delete_app(self, name: str) -> None:
        """Remove an app that has no machines left, and its volumes."""
        self.app(name)
        if self.machines(name):
            raise ConflictError(f"failed_precondition: app {name} has machines", status=412)
        for volume in [key for key, (owner, _) in self.volumes.items() if owner == name]:
            self.delete_volume(volume)
        del self.apps[name]
        self._settings.pop(name, None)
        self.changed()

    def settings_of(self, app: str) -> AppSettings:
        """The secrets, addresses and certificates of an app; raises NotFoundError."""
        self.app(app)
        return self._settings.setdefault(app, AppSettings())

    def delete_volume(self, volume: str) -> None:
        """Destroy a volume and what is on it."""
        del self.volumes[volume]
        shutil.rmtree(self.volume_folder(volume), ignore_errors=True)
        self.changed()

    def create_volume(self, app: str, *, name: str, region: str, size_gb: int) -> Volume:
        """Make a volume: a folder that stays until the volume is destroyed."""
        self.app(app)
        if region not in self.network.plan.regions:
            raise PlatformError(f"region {region} is not one of this globe", status=422)
        volume = Volume(
            id=f"vol_{new_machine_id()}", name=name, region=region, size_gb=size_gb,
            created_at=timestamp(),
        )  # fmt: skip
        self.volume_folder(volume.id).mkdir(parents=True, mode=0o700)
        self.volumes[volume.id] = (app, volume)
        self.changed()
        return volume

    def volume_folder(self, volume: str) -> Path:
        """Where the data of a volume is."""
        return self.home / "volumes" / volume

    def attached_to(self, volume: str) -> str | None:
        """The machine that mounts a volume."""
        for record in self.machines():
            if any(mount.volume == volume for mount in record.config.mounts):
                return record.id
        return None

    # what the runners need

    def launch_of(self, record: MachineRecord) -> Launch:
        """How to start a machine now: its command, environment, network and folder."""
        init = record.config.init
        argv = (*(init.entrypoint or ()), *(init.exec or init.cmd or ()))
        return Launch(
            argv=_resolved(argv),
            env=self.environment_of(record),
            cwd=self._working_folder(record),
            namespace=self.network.namespace(record.region),
            isolate=self.isolate,
            names=self.home / "etc" if self.isolate else None,
        )

    def launch_inside(
        self, record: MachineRecord, argv: tuple[str, ...], process: MachineProcess
    ) -> Launch:
        """How to run one more command inside a running machine."""
        launch = self.launch_of(record)
        return replace(launch, argv=_resolved(argv), join=process.first_process)

    def environment_of(self, record: MachineRecord) -> dict[str, str]:
        """The environment of a machine as on Fly.io, secrets included, and its volume's folder."""
        config = record.config
        folder = self._working_folder(record)
        platform = {
            "PATH": os.pathsep.join(
                (str(Path(sys.executable).parent), self.environ.get("PATH", ""))
            ),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            "FLY_APP_NAME": record.app,
            "FLY_MACHINE_ID": record.id,
            "FLY_ALLOC_ID": record.id,
            "FLY_MACHINE_VERSION": record.instance_id,
            "FLY_REGION": record.region,
            "FLY_PRIVATE_IP": record.private_ip,
            "FLY_PROCESS_GROUP": config.metadata.get("fly_process_group", "app"),
            "FLY_VM_MEMORY_MB": str(config.guest.memory_mb),
            "FLY_IMAGE_REF": config.image,
            "VIRAL_DATA": str(folder),
        }
        settings = self._settings.get(record.app, AppSettings())
        return {**config.env, **settings.environment(), **platform}

    def open_socket_in(self, region: str) -> OpenSocket:
        """Sockets of a region."""
        return self.network.open_socket_in(region)

    def hear(self, record: MachineRecord, line: str) -> None:
        """Keep a line of a machine."""
        role = record.config.metadata.get("fly_process_group", "app")
        self.logs.write(region=record.region, machine=record.id, role=role, line=line)

    def changed(self) -> None:
        """Keep the state on disk and wake everybody who waits for a change of it."""
        write_names(self.home / "etc", self.machines())
        if not self._closing:  # what ran before the end is what the next platform starts
            self._save()
        self._change.set()
        self._change = asyncio.Event()
        for listener in self.on_change:
            listener()

    # beginning and end

    async def restore(self) -> None:
        """Take up what an earlier platform kept in this folder and start what ran."""
        path = self.home / "platform.json"
        if not path.exists():
            return
        stored = json.loads(path.read_text(encoding="utf-8"))
        self.apps = stored["apps"]
        self._settings = {
            app: AppSettings.from_store(kept) for app, kept in stored.get("settings", {}).items()
        }
        self.volumes = {
            item["volume"]["id"]: (item["app"], Volume.model_validate(item["volume"]))
            for item in stored["volumes"]
        }
        for item in stored["machines"]:
            record = MachineRecord.from_store(item)
            ran = record.state in (MachineState.STARTED, MachineState.STARTING)
            record.state = MachineState.STOPPED
            runner = self._adopt(record)
            await self.network.add_address(record.region, record.private_ip)
            if ran:
                runner.order_soon("start", "flyd")

    async def close(self) -> None:
        """Stop every machine as its configuration says; what ran is started by the next restore."""
        self._closing = True
        running = [runner for runner in self.runners.values() if runner.process is not None]
        # A machine that cannot be stopped as it should be is killed with its runner, below.
        await asyncio.gather(*(_stop(runner) for runner in running), return_exceptions=True)
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _adopt(self, record: MachineRecord) -> MachineRunner:
        runner = self.runners[record.id] = MachineRunner(record, self)
        self._tasks[record.id] = asyncio.create_task(self._own(runner), name=f"machine {record.id}")
        return runner

    async def _own(self, runner: MachineRunner) -> None:
        """Run a machine until it is destroyed, by somebody or by itself, and let it go."""
        await runner.run()
        record = runner.record
        del self.runners[record.id], self._tasks[record.id]
        self.destroyed[record.id] = record
        while len(self.destroyed) > DESTROYED_KEPT:
            del self.destroyed[next(iter(self.destroyed))]
        self.logs.let_go(record.id)
        self.changed()

    def app(self, name: str) -> dict[str, Any]:
        """An app; raises NotFoundError."""
        if name not in self.apps:
            raise NotFoundError(f"app {name} not found", status=404)
        return self.apps[name]

    def check_mounts(
        self, app: str, region: str, config: MachineConfig, machine: MachineRecord | None = None
    ) -> None:
        """Raise PlatformError unless ``machine`` (None for a new one) may mount what it wants."""
        for mount in config.mounts:
            self._attachable(app, mount.volume, region, machine)

    def _attachable(
        self, app: str, volume: str, region: str, machine: MachineRecord | None
    ) -> None:
        owner, found = self.volumes.get(volume, ("", None))
        if found is None or owner != app:
            raise NotFoundError(f"volume {volume} not found in app {app}", status=404)
        if found.region != region:
            raise PlatformError(f"volume {volume} is in {found.region}, not {region}", status=422)
        if self.attached_to(volume) not in (None, machine.id if machine else None):
            raise ConflictError(f"volume {volume} is attached to another machine", status=409)

    def _free_name(self, app: str, wanted: str) -> str:
        taken = {record.name for record in self.machines(app)}
        others = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
        return next(name for name in (wanted, *others) if name not in taken)

    def has_room(self, region: str) -> bool:
        """Whether one more machine fits into a region: each has an address of its own."""
        return len(self._numbers(region)) <= LAST_MACHINE - FIRST_MACHINE

    def _numbers(self, region: str) -> set[int]:
        return {record.number for record in self.machines() if record.region == region}

    def _free_number(self, region: str) -> int:
        used = self._numbers(region)
        free = next(number for number in range(len(used) + 1) if number not in used)
        if not self.has_room(region):
            raise PlatformError(
                "could not find a candidate host: insufficient capacity", status=422
            )
        return free

    def _working_folder(self, record: MachineRecord) -> Path:
        if record.config.mounts:
            return self.volume_folder(record.config.mounts[0].volume)
        folder = self.home / "machines" / record.id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _save(self) -> None:
        state = {
            "apps": self.apps,
            "settings": {app: kept.to_store() for app, kept in self._settings.items()},
            "volumes": [
                {"app": app, "volume": volume.to_wire()} for app, volume in self.volumes.values()
            ],
            "machines": [record.to_store() for record in self.machines()],
        }
        path = self.home / "platform.json"
        draft = path.with_suffix(".new")
        draft.touch(mode=0o600)  # before there is anything in it: configurations hold secrets
        draft.write_text(json.dumps(state), encoding="utf-8")
        draft.replace(path)


async def _stop(runner: MachineRunner) -> None:
    stop = runner.record.config.stop_config
    await runner.order("stop", (stop.signal, stop.timeout))


def _resolved(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Run our own command with this very interpreter, wherever PATH would lead."""
    if argv and argv[0] == "viral":
        return (sys.executable, "-m", "viral_engine.cli.main", *argv[1:])
    return argv
