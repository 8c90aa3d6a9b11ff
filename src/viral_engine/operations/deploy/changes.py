"""What a deploy can do: typed changes, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from viral_engine.fly.model import MachineConfig
from viral_engine.operations.deploy.differences import Difference

UNDECLARED = "nothing declares it"
"""The reason for which a machine goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is made so; ``reason`` is why."""

    kind: ClassVar[str]
    app: str
    reason: str

    @property
    def what(self) -> str:
        """The thing, within its app: together with the kind it names the change."""
        return ""

    @property
    def sentence(self) -> str:
        """The change, for people."""
        raise AssertionError(self.kind)

    def facts(self) -> dict[str, Any]:
        """The change, for programs."""
        return {"change": self.kind, "app": self.app, "what": self.what, "reason": self.reason}


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApp(Change):
    """An app."""

    kind = "create-app"

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"Create the app {self.app}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolume(Change):
    """A volume of a region."""

    kind = "create-volume"
    name: str
    region: str
    size_gb: int

    @property
    def what(self) -> str:
        """As in Change."""
        return f"{self.name}-{self.region}"

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"Create a volume of {self.size_gb} GB for {self.app} in {self.region}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetSecrets(Change):
    """Secrets of an app in one batch; shown by name and digest only."""

    kind = "set-secrets"
    digests: Mapping[str, str]
    new: frozenset[str] = frozenset()
    """Those that are not set yet: their values may be made as late as when they are set."""
    values: Mapping[str, str] = field(repr=False)

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"Set {len(self.digests)} secrets of {self.app}: {', '.join(sorted(self.digests))}"

    def facts(self) -> dict[str, Any]:
        """As in Change, with digests in the place of values."""
        shown = {n: "new" if n in self.new else d for n, d in sorted(self.digests.items())}
        return super(SetSecrets, self).facts() | {"secrets": shown}


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAddress(Change):
    """An address of an app."""

    kind = "add-address"
    address: str

    @property
    def what(self) -> str:
        """As in Change."""
        return self.address

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"Give {self.app} an address: {self.address}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AddCertificate(Change):
    """A certificate of a hostname."""

    kind = "add-certificate"
    hostname: str

    @property
    def what(self) -> str:
        """As in Change."""
        return self.hostname

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"Ask for a certificate for {self.hostname}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfMachine(Change):
    """A change of one machine; ``machine`` is its id, empty for one that is not there yet."""

    name: str
    region: str
    role: str
    machine: str = ""
    verb: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """As in Change."""
        return self.name

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"{self.verb} {self.name}"

    def facts(self) -> dict[str, Any]:
        """As in Change, with the machine's place."""
        return super(OfMachine, self).facts() | {
            "region": self.region, "role": self.role, "machine": self.machine or None
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateMachine(OfMachine):
    """A machine; a draft is not started before the addresses of the others are known."""

    kind = "create-machine"
    verb = "Create"
    config: MachineConfig = field(repr=False)
    launch: bool = True
    cordoned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateMachine(OfMachine):
    """Another configuration of a machine, which starts with it where ``launch`` is on."""

    kind = "update-machine"
    verb = "Update"
    config: MachineConfig = field(repr=False)
    differences: tuple[Difference, ...]
    launch: bool = True

    def facts(self) -> dict[str, Any]:
        """As in Change, with what differs."""
        rows = [difference.facts() for difference in self.differences]
        return super(UpdateMachine, self).facts() | {"differences": rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartMachine(OfMachine):
    """A machine that should run."""

    kind = "start-machine"
    verb = "Start"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopMachine(OfMachine):
    """A machine that stands by stopped, or goes; its connections end first."""

    kind = "stop-machine"
    verb = "Stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonMachine(OfMachine):
    """A machine that stands by, or goes: users are not led there any more."""

    kind = "cordon-machine"
    verb = "Cordon"


@dataclass(frozen=True, slots=True, kw_only=True)
class UncordonMachine(OfMachine):
    """A machine that serves."""

    kind = "uncordon-machine"
    verb = "Uncordon"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyMachine(OfMachine):
    """A machine that nothing declares."""

    kind = "destroy-machine"
    verb = "Destroy"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver(Change):
    """The primary leaves a region whose database is updated next, and comes back in the end."""

    kind = "hand-over"
    region: str

    @property
    def what(self) -> str:
        """As in Change."""
        return self.region

    @property
    def sentence(self) -> str:
        """As in Change."""
        return f"Hand the primary over from {self.region}, and back in the end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate(Change):
    """The migrations, by a machine of their own, before the first app machine of an image."""

    kind = "migrate"
    region: str
    config: MachineConfig = field(repr=False)

    @property
    def sentence(self) -> str:
        """As in Change."""
        return "Migrate the database"
