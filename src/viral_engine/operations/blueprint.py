"""A deployment as machines of the platform: pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from urllib.parse import quote

from viral_engine.fly.model import (
    Check,
    Concurrency,
    Guest,
    Init,
    MachineConfig,
    Mount,
    Port,
    Restart,
    RestartPolicy,
    Service,
    StopConfig,
)
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import BUNDLED_APP, Deployment, Provider, Strategy
from viral_engine.topology.names import (
    DATABASE_URL,
    REDIS_URL,
    redis_url_variable,
    replica_url_variable,
)

DATABASE_PORT, PATRONI_PORT, CACHE_PORT = 5432, 8008, 6379
APP_ROLE = "viral_app"
MIGRATION = "migrate"
"""The name and the role of the machine that migrates the database."""

DATA_PATH = "/data"

DATABASE_STOP = timedelta(seconds=25)
"""A fast shutdown of PostgreSQL waits for its standby to have everything."""

CRASHES_FORGIVEN = 3
"""Restarts of an app within five minutes before it is left stopped: a loop helps nobody."""

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Place:
    """One machine of a deployment: its app, name and region, and what it is for."""

    app: str
    name: str
    region: str
    role: str
    volume_gb: int = 0


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where machines are, by region; ``primary`` is the address that follows the primary."""

    database: Mapping[str, str]
    witness: Mapping[str, str]
    cache: Mapping[str, str]
    primary: Mapping[str, str]


def places(deployment: Deployment) -> tuple[Place, ...]:
    """Every machine that a deployment wants, the ones that others need first."""
    app, codes = deployment.app, deployment.region_codes
    found = list[Place]()
    own_database = deployment.database.provider is Provider.VIRAL
    if own_database:
        found += [
            Place(f"{app}-db", f"database-{code}", code, "database", deployment.database.volume_gb)
            for code in codes
        ]
    if own_database and deployment.witness:
        found.append(
            Place(f"{app}-db", f"witness-{deployment.witness}", deployment.witness, "witness", 1)
        )
    if deployment.cache.provider is Provider.VIRAL:
        found += [Place(f"{app}-cache", f"cache-{code}", code, "cache") for code in codes]
    found += [
        Place(app, f"app-{plan.code}-{number}", plan.code, "app")
        for plan in deployment.regions
        for number in range(1, plan.min + 1)
    ]
    return tuple(found)


def apps(deployment: Deployment) -> tuple[str, ...]:
    """The platform's apps of a deployment; only the first is reachable from outside."""
    return (deployment.app, f"{deployment.app}-db", f"{deployment.app}-cache")


def needed_from_outside(deployment: Deployment) -> tuple[str, ...]:
    """The variables without which an app finds nothing of what somebody else runs for it."""
    parts = ((deployment.database.provider, DATABASE_URL), (deployment.cache.provider, REDIS_URL))
    return tuple(variable for provider, variable in parts if provider is Provider.EXTERNAL)


NOWHERE = Addresses({}, {}, {}, {})
"""Of a blueprint that has not been told any."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """Makes the configuration of any machine once the addresses of the others are known."""

    deployment: Deployment
    secrets: Secrets
    addresses: Addresses
    image: str
    app_folder: str
    extra_env: Mapping[str, str]
    external: Mapping[str, str] = field(default_factory=dict, repr=False)
    """By variable, where somebody else's parts are; none where the platform's secrets have it."""

    def config(self, place: Place, volume: str | None) -> MachineConfig:
        """The whole configuration of one machine."""
        match place.role:
            case "database":
                return self._database(place, volume)
            case "witness":
                return self._witness(place, volume)
            case "cache":
                return self._cache(place)
            case _:
                return self._app(place)

    def migration(self) -> MachineConfig:
        """The configuration of a machine that migrates the database and ends."""
        region = self.deployment.primary_region
        place = Place(self.deployment.app, MIGRATION, region, MIGRATION)
        return self._app(place).model_copy(
            update={
                "init": Init(cmd=("viral", "node", "migrate")),
                "services": (),
                "restart": Restart(policy=RestartPolicy.ON_FAILURE, max_retries=CRASHES_FORGIVEN),
            }
        )

    def app_secrets(self) -> dict[str, dict[str, str]]:
        """By app, what its machines get from the platform's secrets, each set in one batch.

        The addresses with a password in them differ from region to region, as secrets cannot.
        """
        app, secrets = self.deployment.app, self.secrets
        batches = {
            app: {"VIRAL_SECRET": secrets.signing_key},
            f"{app}-db": {
                "VIRAL_SUPERUSER_PASSWORD": secrets.superuser_password,
                "VIRAL_REPLICATION_PASSWORD": secrets.replication_password,
                "VIRAL_APP_PASSWORD": secrets.app_password,
            },
            f"{app}-cache": {"VIRAL_CACHE_PASSWORD": secrets.cache_password},
        }
        there = {app, *(place.app for place in places(self.deployment))}
        return {name: batch for name, batch in batches.items() if name in there}

    def _metadata(self, place: Place) -> dict[str, str]:
        """Its role, and the fingerprint of its secrets, so that new ones make it start again."""
        batch = json.dumps(self.app_secrets()[place.app], sort_keys=True)
        return {
            "fly_platform_version": "v2",
            "fly_process_group": place.role,
            "viral_secrets": sha256(batch.encode()).hexdigest()[:12],
        }

    def _common(self) -> dict[str, str]:
        return {**self.extra_env, "PRIMARY_REGION": self.deployment.primary_region,
                "VIRAL_CLUSTER": self.deployment.app}  # fmt: skip

    def _etcd_members(self) -> str:
        """One voice a data region and the witness's; a single one where there is no majority."""
        voices = {**self.addresses.database, **self.addresses.witness}
        if len(voices) % 2 == 0:
            primary = self.deployment.primary_region
            voices = {primary: voices[primary]}
        return ",".join(f"{region}={address}" for region, address in voices.items())

    def _database(self, place: Place, volume: str | None) -> MachineConfig:
        primary = Check(type="http", port=PATRONI_PORT, path="/primary", interval=_SECOND,
                        timeout=_SECOND)  # fmt: skip
        ready = Check(type="http", port=PATRONI_PORT, path="/readiness", interval=2 * _SECOND,
                      timeout=2 * _SECOND, grace_period=60 * _SECOND)  # fmt: skip
        return MachineConfig(
            image=self.image,
            guest=Guest(memory_mb=1024),
            init=Init(cmd=("viral", "node", "database")),
            env={
                **self._common(),
                "VIRAL_ETCD_MEMBERS": self._etcd_members(),
                "VIRAL_DATABASE": self.deployment.database.name,
                "VIRAL_DATABASE_PARAMETERS": json.dumps(dict(self.deployment.database.parameters)),
            },
            services=(
                Service(
                    internal_port=DATABASE_PORT,
                    ports=(Port(port=DATABASE_PORT),),
                    checks=(primary,),
                ),
            ),
            checks={"postgres": ready},
            mounts=_mounts(volume),
            restart=Restart(policy=RestartPolicy.ALWAYS),
            stop_config=StopConfig(signal="SIGTERM", timeout=DATABASE_STOP),
            metadata=self._metadata(place),
        )

    def _witness(self, place: Place, volume: str | None) -> MachineConfig:
        alive = Check(type="http", port=2379, path="/health", interval=2 * _SECOND,
                      timeout=2 * _SECOND, grace_period=60 * _SECOND)  # fmt: skip
        return MachineConfig(
            image=self.image,
            init=Init(cmd=("viral", "node", "witness")),
            env={**self._common(), "VIRAL_ETCD_MEMBERS": self._etcd_members()},
            checks={"etcd": alive},
            mounts=_mounts(volume),
            restart=Restart(policy=RestartPolicy.ALWAYS),
            stop_config=StopConfig(signal="SIGTERM", timeout=10 * _SECOND),
            metadata=self._metadata(place),
        )

    def _cache(self, place: Place) -> MachineConfig:
        alive = Check(type="tcp", port=CACHE_PORT, interval=2 * _SECOND, timeout=_SECOND,
                      grace_period=30 * _SECOND)  # fmt: skip
        return MachineConfig(
            image=self.image,
            init=Init(cmd=("viral", "node", "cache")),
            env={
                **self._common(),
                "VIRAL_CACHE_MAXMEMORY": f"{self.deployment.cache.maxmemory // 1024}kb",
            },
            checks={"valkey": alive},
            restart=Restart(policy=RestartPolicy.ALWAYS),
            stop_config=StopConfig(signal="SIGTERM", timeout=10 * _SECOND),
            metadata=self._metadata(place),
        )

    def _app(self, place: Place) -> MachineConfig:
        service = self.deployment.service
        plan = self.deployment.plan(place.region)
        return MachineConfig(
            image=self.image,
            guest=Guest(
                cpu_kind=plan.guest.cpu_kind, cpus=plan.guest.cpus, memory_mb=plan.guest.memory_mb
            ),
            init=Init(cmd=("viral", "node", "app")),
            env={**service.env, **self._common(), **self._urls(place.region),
                 **self._app_settings()},
            services=(
                Service(
                    internal_port=service.internal_port,
                    ports=(
                        Port(port=80, handlers=("http",), force_https=True),
                        Port(port=443, handlers=("tls", "http")),
                    ),
                    autostop="off",
                    autostart=True,
                    concurrency=Concurrency(
                        type="requests",
                        soft_limit=service.soft_limit,
                        hard_limit=service.hard_limit,
                    ),
                    checks=(self._app_check(),),
                ),
            ),
            restart=Restart(max_retries=CRASHES_FORGIVEN),
            stop_config=StopConfig(signal="SIGTERM", timeout=service.kill_timeout),
            metadata={**self._metadata(place), **self._standing_by()},
        )  # fmt: skip

    def _standing_by(self) -> dict[str, str]:
        """Tell every later operation how machines stand by, where one region serves."""
        passive = self.deployment.strategy is Strategy.ACTIVE_PASSIVE
        return {"viral_standby": self.deployment.standby.value} if passive else {}

    def _app_check(self) -> Check:
        """The declared check; somebody else's app is only asked whether it accepts connections."""
        check = self.deployment.service.check
        asked = check.path != "/api/health" or self.deployment.service.app == BUNDLED_APP
        return Check(
            type="http" if asked else "tcp",
            path=check.path,
            interval=check.interval,
            timeout=check.timeout,
            grace_period=check.grace_period,
        )

    def _app_settings(self) -> dict[str, str]:
        service = self.deployment.service
        return {
            "PORT": str(service.internal_port),
            "VIRAL_APP": service.app,
            "VIRAL_APP_DIR": self.app_folder,
            "VIRAL_SOFT_LIMIT": str(service.soft_limit),
            "VIRAL_HARD_LIMIT": str(service.hard_limit),
            "VIRAL_HEALTH_PATH": service.check.path,
            "VIRAL_STICKY": service.sticky.value,
            "VIRAL_CONSISTENCY": json.dumps(dict(self.deployment.consistency), sort_keys=True),
        }

    def _urls(self, region: str) -> dict[str, str]:
        """The environment that the guide promises to an app."""
        urls = {}
        if self.deployment.database.provider is Provider.VIRAL:
            urls[DATABASE_URL] = self._database_url(self.addresses.primary[region])
        for code, address in self.addresses.database.items():
            urls[replica_url_variable(code)] = self._database_url(address)
        for code, address in self.addresses.cache.items():
            urls[redis_url_variable(code)] = self._cache_url(address)
        if region in self.addresses.cache:
            urls[REDIS_URL] = self._cache_url(self.addresses.cache[region])
        return {**urls, **self.external}

    def _database_url(self, address: str) -> str:
        password = quote(self.secrets.app_password, safe="")
        host = _host(address)
        name = self.deployment.database.name
        return f"postgresql://{APP_ROLE}:{password}@{host}:{DATABASE_PORT}/{name}"

    def _cache_url(self, address: str) -> str:
        password = quote(self.secrets.cache_password, safe="")
        return f"redis://:{password}@{_host(address)}:{CACHE_PORT}/0"


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _mounts(volume: str | None) -> tuple[Mount, ...]:
    return (Mount(volume=volume, path=DATA_PATH),) if volume else ()
