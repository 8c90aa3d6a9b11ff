"""The faults in force: put, undone one by one or all together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from viral_engine.errors import MisuseError, NotFoundError, UnsupportedError
from viral_engine.globe.machines.process import MachineProcess
from viral_engine.globe.machines.record import HOST_OK, HOST_UNREACHABLE, new_version
from viral_engine.globe.network.addresses import NetworkMode
from viral_engine.globe.network.links import FaultKind, NetworkFault
from viral_engine.globe.platform import Platform

MACHINE_KINDS = ("pause", "kill")
OUTAGE = "outage"
EDGE = "edge-"
"""What an edge is called among the machines, before its region."""


class Edges(Protocol):
    """What can be done to the edges on purpose."""

    def process(self, region: str) -> MachineProcess | None:
        """One that runs; when it ends it is started again."""

    def take_host(self, region: str) -> None:
        """End one at once, and start none until its host is given back."""

    def give_host(self, region: str) -> None:
        """Let it be started again."""


@dataclass(slots=True)
class Faults:
    """Holds what is broken on purpose; ``apply`` puts the network's part in force."""

    platform: Platform
    mode: NetworkMode
    apply: Callable[[tuple[NetworkFault, ...]], Awaitable[None]]
    edges: Edges
    _network: dict[str, NetworkFault] = field(default_factory=dict)
    _paused: dict[str, tuple[str, MachineProcess]] = field(default_factory=dict)
    _outages: dict[str, str] = field(default_factory=dict)

    def in_force(self) -> list[dict[str, Any]]:
        """Every fault that holds now; a pause ends with the process that was paused."""
        self._paused = {
            key: (machine, process)
            for key, (machine, process) in self._paused.items()
            if self._process(machine) is process
        }
        network = [{"id": key, **asdict(fault)} for key, fault in self._network.items()]
        paused = [
            {"id": key, "kind": "pause", "machine": machine}
            for key, (machine, _) in self._paused.items()
        ]
        outages = [
            {"id": key, "kind": OUTAGE, "regions": (region,), "amount": 0.0}
            for key, region in self._outages.items()
        ]
        return [*network, *outages, *paused]

    async def add(self, body: dict[str, Any]) -> str:
        """Put a fault in force and return its id; raises MisuseError for one that makes no sense."""
        kind = str(body.get("kind") or "")
        if kind in MACHINE_KINDS:
            return self._add_machine_fault(kind, str(body.get("machine") or ""))
        if kind == OUTAGE:
            return self._add_outage(_regions(body))
        if kind not in list(FaultKind):
            allowed = ", ".join([*FaultKind, *MACHINE_KINDS, OUTAGE])
            raise MisuseError(f"There is no fault {kind!r}.", suggestion=f"There are: {allowed}.")
        if self.mode is NetworkMode.FLAT:
            raise UnsupportedError(
                f"The fault {kind} needs the wan network, and this globe is flat.",
                suggestion="Start it with: viral up --network wan.",
            )
        fault = NetworkFault(FaultKind(kind), _regions(body), _amount(body))
        fault.check(self.platform.network.plan.regions)
        key = new_version()
        self._network[key] = fault
        await self.apply(tuple(self._network.values()))
        return key

    async def clear(self, key: str) -> None:
        """Undo one fault; raises NotFoundError when there is none by that id."""
        if key in self._network:
            del self._network[key]
            await self.apply(tuple(self._network.values()))
        elif key in self._paused:
            self._paused.pop(key)[1].resume()
        elif key in self._outages:
            self._set_host(self._outages.pop(key), HOST_OK)
        else:
            raise NotFoundError(f"no fault {key} is in force", status=404)

    async def clear_all(self) -> int:
        """Undo every fault and return how many there were."""
        count = len(self.in_force())
        for _, process in self._paused.values():
            process.resume()
        self._paused.clear()
        for region in self._outages.values():
            self._set_host(region, HOST_OK)
        self._outages.clear()
        self._network.clear()
        await self.apply(())
        return count

    def _add_outage(self, regions: tuple[str, ...]) -> str:
        if len(regions) != 1 or regions[0] not in self.platform.network.plan.regions:
            known = ", ".join(self.platform.network.plan.regions)
            raise MisuseError("An outage takes one region.", suggestion=f"There are: {known}.")
        if regions[0] in self._outages.values():
            raise MisuseError(f"{regions[0]} has an outage already.")
        key = new_version()
        self._outages[key] = regions[0]
        self._set_host(regions[0], HOST_UNREACHABLE)
        return key

    def _set_host(self, region: str, status: str) -> None:
        """Have every machine of a region, and its edge, lose its host or get it back."""
        for runner in self.platform.runners.values():
            if runner.record.region == region:
                runner.order_soon("host", status)
        if status == HOST_OK:
            self.platform.lost_hosts.discard(region)
            self.edges.give_host(region)
        else:
            self.platform.lost_hosts.add(region)
            self.edges.take_host(region)

    def _add_machine_fault(self, kind: str, machine: str) -> str:
        process = self._process(machine)
        if process is None:
            raise MisuseError(f"No machine {machine or '(none given)'} is running.",
                              suggestion="See them with: viral machines.")  # fmt: skip
        key = new_version()
        if kind == "kill":
            process.kill()
        else:
            process.pause()
            self._paused[key] = (machine, process)
        return key

    def _process(self, machine: str) -> MachineProcess | None:
        if machine.startswith(EDGE):
            return self.edges.process(machine.removeprefix(EDGE))
        runner = self.platform.runners.get(machine)
        return runner.process if runner else None


def _regions(body: dict[str, Any]) -> tuple[str, ...]:
    given = body.get("regions") or []
    if not isinstance(given, list) or not all(isinstance(region, str) for region in given):
        raise MisuseError("regions must be a list of region codes.")
    return tuple(given)


def _amount(body: dict[str, Any]) -> float:
    given = body.get("amount") or 0
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise MisuseError(f"The amount must be a number, got {given!r}.")
    return float(given)
