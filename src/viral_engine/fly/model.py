"""What the Machines API sends and takes, as far as it is used here.

Field names and meanings are those of Fly.io's published API. Unknown fields are kept, because an
update replaces a configuration whole and must not lose what somebody else put there.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from viral_engine.fly.durations import Duration


class Wire(BaseModel):
    """Data of the wire: immutable, and keeps fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_wire(self) -> dict[str, Any]:
        """The JSON object of this value, without fields that are not set."""
        return self.model_dump(mode="json", exclude_none=True)


class MachineState(StrEnum):
    """The states of a machine; ``replaced`` and ``migrated`` are those of an old version of one."""

    CREATED = "created"
    STARTED = "started"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    FAILED = "failed"
    CREATING = "creating"
    STARTING = "starting"
    STOPPING = "stopping"
    RESTARTING = "restarting"
    SUSPENDING = "suspending"
    UPDATING = "updating"
    REPLACING = "replacing"
    LAUNCH_FAILED = "launch_failed"
    DESTROYING = "destroying"
    DESTROYED = "destroyed"
    REPLACED = "replaced"
    MIGRATED = "migrated"


class Guest(Wire):
    """The size of a machine."""

    cpu_kind: str = "shared"
    cpus: int = 1
    memory_mb: int = 256


class Init(Wire):
    """What a machine runs: ``exec`` as it is, or ``cmd`` behind the image's entry point."""

    exec: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None


class Port(Wire):
    """A port that the edge listens on."""

    port: int | None = None
    handlers: tuple[str, ...] = ()
    force_https: bool = False


class Concurrency(Wire):
    """How much one machine takes; without a hard limit nothing ever overflows to other regions."""

    type: str = "connections"
    soft_limit: int | None = None
    hard_limit: int | None = None


class Header(Wire):
    """A header of a check."""

    name: str
    values: tuple[str, ...]


class Check(Wire):
    """A check of a service or of a machine; times are durations of the wire."""

    type: str
    port: int | None = None
    interval: Duration = timedelta(seconds=15)
    timeout: Duration = timedelta(seconds=5)
    grace_period: Duration = timedelta(0)
    method: str = "GET"
    path: str = "/"
    headers: tuple[Header, ...] = ()


class Service(Wire):
    """A service of a machine that the edge serves."""

    protocol: str = "tcp"
    internal_port: int
    ports: tuple[Port, ...] = ()
    autostart: bool | None = None
    autostop: bool | str | None = None
    min_machines_running: int | None = None
    concurrency: Concurrency | None = None
    checks: tuple[Check, ...] = ()


class Mount(Wire):
    """Where a volume is seen inside the machine."""

    volume: str
    path: str


class RestartPolicy(StrEnum):
    """When a machine whose command exited is started again."""

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"
    SPOT_PRICE = "spot-price"


class Restart(Wire):
    """The restart policy; ``max_retries`` count within five minutes."""

    policy: RestartPolicy = RestartPolicy.ON_FAILURE
    max_retries: int = 10


class StopConfig(Wire):
    """How a machine is asked to stop, and how long it is waited for (at most 300 s)."""

    signal: str = "SIGINT"
    timeout: Duration = timedelta(seconds=5)


class MachineConfig(Wire):
    """The whole configuration of a machine; an update replaces all of it."""

    image: str
    guest: Guest = Guest()
    env: dict[str, str] = Field(default_factory=dict)
    init: Init = Init()
    services: tuple[Service, ...] = ()
    checks: dict[str, Check] = Field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    restart: Restart = Restart()
    auto_destroy: bool = False
    stop_config: StopConfig = StopConfig()
    metadata: dict[str, str] = Field(default_factory=dict)


class Event(Wire):
    """Something that happened to a machine; timestamp in milliseconds since 1970."""

    id: str = ""
    type: str
    status: str = ""
    source: str = ""
    timestamp: int = 0
    request: dict[str, Any] | None = None


class CheckStatus(Wire):
    """The last result of a check: ``passing``, ``warning`` or ``critical``."""

    name: str
    status: str
    output: str = ""
    updated_at: str = ""


class Machine(Wire):
    """A machine as the platform shows it.

    Of one whose host is unreachable the platform knows a part of the configuration only.
    """

    id: str
    name: str
    state: MachineState
    region: str
    instance_id: str
    private_ip: str
    created_at: str
    updated_at: str
    config: MachineConfig
    events: tuple[Event, ...] = ()
    checks: tuple[CheckStatus, ...] = ()
    host_status: str = "ok"
    cordoned: bool = False

    @model_validator(mode="before")
    @classmethod
    def _as_far_as_known(cls, wire: Any) -> Any:
        if isinstance(wire, dict) and wire.get("config") is None and "incomplete_config" in wire:
            return wire | {"config": {"image": ""} | (wire["incomplete_config"] or {})}
        return wire

    @property
    def role(self) -> str:
        """The process group of the machine: ``app``, ``database``, ``witness``, ``cache``..."""
        return self.config.metadata.get("fly_process_group", "app")

    @property
    def healthy(self) -> bool:
        """Whether it runs and is well by its own checks, or by its services' where it has none.

        A service's check only says whether the machine gets that traffic: a replica fails the
        check of the primary's service and is well.
        """
        own = [check for check in self.checks if check.name in self.config.checks]
        return self.state is MachineState.STARTED and all(
            check.status == "passing" for check in own or self.checks
        )


class Volume(Wire):
    """A volume: storage that stays in its region."""

    id: str
    name: str
    region: str
    size_gb: int
    state: str = "created"
    created_at: str
    attached_machine_id: str | None = None


class App(Wire):
    """An app: the name that machines, volumes and secrets hang from."""

    id: str
    name: str
    machine_count: int = 0
    volume_count: int = 0
    network: str = "default"


class ExecResult(Wire):
    """What a command inside a machine answered."""

    exit_code: int
    stdout: str = ""
    stderr: str = ""


class Secret(Wire):
    """A secret of an app; the value only where the token may see it."""

    name: str
    digest: str = ""
    value: str | None = Field(default=None, repr=False)


class Address(Wire):
    """An address of an app."""

    ip: str
    region: str = ""
    shared: bool = False
    egress: bool = False

    @property
    def kind(self) -> str:
        """As it is asked for: ``v4``, ``v6``, ``shared_v4``, ``private_v6``, or ``egress``."""
        if self.egress:
            return "egress"
        if self.ip.startswith("fdaa:"):
            return "private_v6"
        if ":" in self.ip:
            return "v6"
        return "shared_v4" if self.shared else "v4"


class AcmeChallenge(Wire):
    """The record that proves a hostname before its traffic comes here."""

    name: str = ""
    target: str = ""


class DnsRequirements(Wire):
    """The DNS records that a hostname needs: ``a`` and ``aaaa``, or ``cname``."""

    a: tuple[str, ...] = ()
    aaaa: tuple[str, ...] = ()
    cname: str = ""
    acme_challenge: AcmeChallenge = AcmeChallenge()


class Certificate(Wire):
    """The certificate of a hostname."""

    hostname: str
    configured: bool = False
    status: str = ""
    dns_requirements: DnsRequirements = DnsRequirements()
