"""A platform as values: every change of a plan has its effect at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from viral_engine.fly.model import CheckStatus, Event, Machine, MachineState, Volume
from viral_engine.operations.blueprint import NOWHERE, Blueprint
from viral_engine.operations.deploy import Found, FoundApp, diff
from viral_engine.operations.deploy.changes import (
    AddAddress,
    AddCertificate,
    Change,
    CordonMachine,
    CreateApp,
    CreateMachine,
    CreateVolume,
    DestroyMachine,
    HandOver,
    Migrate,
    OfMachine,
    SetSecrets,
    StartMachine,
    StopMachine,
    UncordonMachine,
    UpdateMachine,
)
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import (
    Deployment,
    default_deployment,
)

SECRETS = Secrets("su-per", "repli-cation", "a/p p", "ca-che", "sign-ing")
TEXTS = (*(getattr(SECRETS, name) for name in Secrets.NAMES.values()), "a%2Fp%20p")


def blueprint(deployment: Deployment | None = None, image: str = "image:1") -> Blueprint:
    chosen = deployment or default_deployment()
    primary = {code: f"10.9.0.{n}" for n, code in enumerate(chosen.region_codes)}
    return Blueprint(chosen, SECRETS, replace(NOWHERE, primary=primary), image, "folder", {})


class World:
    """A platform as values: every change of a plan has its effect at once."""

    def __init__(self) -> None:
        self.apps: dict[str, FoundApp] = {}
        self.made = 0
        self.primary: str | None = None
        self.migrated: list[str] = []

    @property
    def found(self) -> Found:
        return Found({name: self._checked(app) for name, app in self.apps.items()})

    def deploy(self, wanted: Blueprint, *, stages: int = 60) -> list[Change]:
        """Do the first stage of the plan again and again, as a deploy does."""
        done: list[Change] = []
        for _ in range(stages):
            plan = diff(wanted, self.found)
            if not plan.stages:
                break
            for change in plan.stages[0].changes:
                self.make(change, wanted)
            done += plan.stages[0].changes
        return done

    def make(self, change: Change, wanted: Blueprint) -> None:
        match change:
            case CreateApp():
                self.apps[change.app] = FoundApp()
            case HandOver():
                others = [m.region for m in self.found.machines
                          if m.role == "database" and m.region != change.region]  # fmt: skip
                self.primary = others[0]
            case Migrate():
                self.migrated.append(change.config.image)
                self._migrate(change)
            case CreateMachine():
                self._create(change)
            case OfMachine():
                self._change(change)
            case _:
                self._settle(change)
        runs = {m.region for m in self.found.machines
                if m.role == "database" and m.state is MachineState.STARTED}  # fmt: skip
        if self.primary not in runs:
            declared = wanted.deployment.primary_region
            self.primary = declared if declared in runs else None

    def edit(self, name: str, **fields: Any) -> None:
        """Change a machine by hand."""
        for app, found in self.apps.items():
            machines = tuple(
                m.model_copy(update=fields) if m.name == name else m for m in found.machines
            )
            self.apps[app] = replace(found, machines=machines)

    def machine(self, name: str) -> Machine:
        return next(m for m in self.found.machines if m.name == name)

    def _settle(self, change: Change) -> None:
        app = self.apps[change.app]
        match change:
            case CreateVolume():
                self.made += 1
                volume = Volume(
                    id=f"vol_{self.made}", name=change.name, region=change.region,
                    size_gb=change.size_gb, created_at=str(self.made),
                )  # fmt: skip
                app = replace(app, volumes=(*app.volumes, volume))
            case SetSecrets():
                app = replace(app, secrets={**app.secrets, **change.digests})
            case AddAddress():
                app = replace(app, addresses=app.addresses | {change.address})
            case AddCertificate():
                app = replace(app, certificates=app.certificates | {change.hostname})
        self.apps[change.app] = app

    def _migrate(self, change: Migrate) -> None:
        """Leave the machine that ended well."""
        left = [m for m in self.apps[change.app].machines if m.name != "migrate"]
        self.apps[change.app] = replace(self.apps[change.app], machines=tuple(left))
        self._create(
            CreateMachine(
                app=change.app, name="migrate", region=change.region, role="migrate",
                config=change.config, cordoned=True, reason="",
            )
        )  # fmt: skip
        ended = {"exit_event": {"exit_code": 0}}
        event = Event(id="1", type="exit", status="", source="", timestamp=1, request=ended)
        self.edit("migrate", state=MachineState.STOPPED, events=(event,))

    def _create(self, change: CreateMachine) -> None:
        assert "address-of" not in str(change.config), "an address that nobody knows was used"
        assert "volume-of" not in str(change.config)
        self.made += 1
        machine = Machine(
            id=f"m{self.made}", name=change.name, region=change.region, instance_id="1",
            state=MachineState.STARTED if change.launch else MachineState.CREATED,
            private_ip=f"10.0.0.{self.made}", created_at=str(self.made), updated_at="",
            config=change.config, cordoned=change.cordoned,
        )  # fmt: skip
        app = self.apps[change.app]
        self.apps[change.app] = replace(app, machines=(*app.machines, machine))

    def _change(self, change: OfMachine) -> None:
        match change:
            case UpdateMachine():
                assert "address-of" not in str(change.config)
                state = MachineState.STARTED if change.launch else self.machine(change.name).state
                self.edit(change.name, config=change.config, state=state)
            case StartMachine():
                self.edit(change.name, state=MachineState.STARTED)
            case StopMachine():
                self.edit(change.name, state=MachineState.STOPPED)
            case CordonMachine() | UncordonMachine():
                self.edit(change.name, cordoned=isinstance(change, CordonMachine))
            case DestroyMachine():
                app = self.apps[change.app]
                left = tuple(m for m in app.machines if m.name != change.name)
                self.apps[change.app] = replace(app, machines=left)

    def _checked(self, app: FoundApp) -> FoundApp:
        def checked(m: Machine) -> Machine:
            status = "passing" if m.region == self.primary else "critical"
            checks = (
                CheckStatus(name="servicecheck-00-http-8008", status=status, updated_at=""),
                CheckStatus(name="postgres", status="passing", updated_at=""),
            )
            serves = m.role == "database" and m.state is MachineState.STARTED
            return m.model_copy(update={"checks": checks if serves else ()})

        return replace(app, machines=tuple(map(checked, app.machines)))
