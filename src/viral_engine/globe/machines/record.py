"""What the platform keeps of a machine, and how it shows it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ulid import ULID

from viral_engine.fly.model import MachineConfig, MachineState

EVENTS_KEPT = 50
VERSIONS_KEPT = 10
HOST_OK, HOST_UNREACHABLE = "ok", "unreachable"


def new_machine_id() -> str:
    """A machine id as on Fly.io: 14 hexadecimal digits."""
    return secrets.token_hex(7)


def new_version() -> str:
    """The id of one version of a machine's configuration: a ULID."""
    return str(ULID())


def timestamp() -> str:
    """Now, as the wire writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(slots=True)
class MachineRecord:
    """The state of one machine; only its runner changes it."""

    id: str
    app: str
    name: str
    region: str
    number: int
    private_ip: str
    config: MachineConfig
    instance_id: str = field(default_factory=new_version)
    state: MachineState = MachineState.CREATED
    cordoned: bool = False
    created_at: str = field(default_factory=timestamp)
    updated_at: str = field(default_factory=timestamp)
    host_status: str = HOST_OK
    events: list[dict[str, Any]] = field(default_factory=list)
    checks: dict[str, dict[str, str]] = field(default_factory=dict)
    replaced: list[dict[str, Any]] = field(default_factory=list)

    def note(self, kind: str, status: str, *, source: str, **request: Any) -> None:
        """Put an event in front of the others."""
        event: dict[str, Any] = {"id": new_version(), "type": kind, "status": status,
                                 "source": source, "timestamp": time.time_ns() // 1_000_000}  # fmt: skip
        if request:
            event["request"] = request
        self.events = [event, *self.events[: EVENTS_KEPT - 1]]
        self.updated_at = timestamp()

    def replace_config(self, config: MachineConfig) -> None:
        """Make a new version; the old one can still be asked for."""
        self.replaced = self.versions()[: VERSIONS_KEPT - 1]
        self.config, self.instance_id = config, new_version()

    def versions(self) -> list[dict[str, Any]]:
        """The versions that are known, newest first, as the API shows them."""
        now = {"version": self.instance_id, "user_config": self.config.to_wire()}
        return [now, *self.replaced]

    def to_wire(self) -> dict[str, Any]:
        """The machine as the API shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state.value,
            "region": self.region,
            "instance_id": self.instance_id,
            "version": self.instance_id,
            "private_ip": self.private_ip,
            "image_ref": {"registry": "local", "repository": self.config.image, "tag": "latest"},
            "created_at": self.created_at,
            "updated_at": self.updated_at,
            "config": self.config.to_wire(),
            "events": self.events[:20],
            "checks": list(self.checks.values()),
            "host_status": self.host_status,
            "cordoned": self.cordoned,
        }

    def to_store(self) -> dict[str, Any]:
        """What must survive the platform's own end."""
        kept = ("id", "app", "name", "region", "number", "private_ip", "instance_id", "cordoned",
                "created_at", "updated_at", "events", "replaced")  # fmt: skip
        stored: dict[str, Any] = {name: getattr(self, name) for name in kept}
        return stored | {"state": self.state.value, "config": self.config.to_wire()}

    @classmethod
    def from_store(cls, stored: dict[str, Any]) -> MachineRecord:
        """Read what ``to_store`` wrote."""
        state = MachineState(stored["state"])
        config = MachineConfig.model_validate(stored["config"])
        return cls(**(stored | {"state": state, "config": config}))
