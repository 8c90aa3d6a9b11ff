"""A pair whose commits can be made to wait for their standby, and the runtime over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import scalar_row
from tests.services.postgres_pair import PostgresPair, Server

from viral_engine.clock import BOOT_CLOCK, NotYet, wait_until
from viral_engine.cluster import ClusterView, ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, Router, TokenSigner
from viral_engine.data.writes import Writes
from viral_engine.observe import Event
from viral_engine.topology.model import Consistency
from viral_engine.web import RegionMiddleware, ReplaySigner
from viral_engine.web.asgi import App
from viral_engine.web.declared import Declarations
from viral_engine.web.region import Place

SOON = timedelta(seconds=10)
STANDBY = "walreceiver"  # what a standby without a name of its own is called
WAITING = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
VALUES = b"select value from t order by value"


@dataclass(frozen=True)
class World:
    """The runtime of one machine: what an app in ``here`` is given."""

    databases: Databases
    cluster: ClusterWatcher
    router: Router

    @property
    def writes(self) -> Writes:
        """What begins the transactions and carries their commits."""
        assert isinstance(self.databases._writes, Writes)
        return self.databases._writes


def all_answer(view: ClusterView) -> bool:
    return all(node.reachable for node in view.nodes)


@asynccontextmanager
async def world(
    pair: PostgresPair,
    database: str,
    here: str = "iad",
    *,
    primary: str | None = None,
    ready: Callable[[ClusterView], bool] = all_answer,
    pool_size: int = 4,
    **more: Any,
) -> AsyncIterator[World]:
    """Run the runtime in ``here``; its way to the primary may be another address than the node's."""
    nodes = {"iad": pair.primary.url(database), "lhr": pair.replica.url(database)}
    addresses = DatabaseAddresses(primary=primary or nodes["iad"], nodes=nodes)

    def note(event: Event) -> None:
        databases.note(event)

    cluster = ClusterWatcher(nodes, machine="m1", listener=note)
    databases = Databases(
        addresses,
        here=here,
        machine="m1",
        view=lambda: cluster.view,
        pool_size=pool_size,
        **more,
    )
    async with cluster:
        await cluster.wait_for(ready, timeout=SOON)
        async with databases:
            yield World(databases, cluster, Router(cluster, here=here))


async def set_system(server: Server, name: str, value: str | None) -> None:
    """Change a setting of a running server; None takes the change back."""
    change = f"set {name} = '{value}'" if value is not None else f"reset {name}"
    await server.ask(f"alter system {change}")
    await server.ask("select pg_reload_conf()")

    async def is_in_force() -> bool:
        if value is None:
            own = "coalesce(sourcefile, '') like '%.auto.conf'"
            query = f"select count(*) from pg_settings where name = '{name}' and {own}"
            return await server.ask(query) == 0
        query = f"select count(*) from pg_file_settings where name = '{name}' and not applied"
        said = await server.ask(f"select current_setting('{name}')")
        return await server.ask(query) == 0 and said == value

    await wait_until(is_in_force, timeout=SOON, waiting_for=f"{name} to be in force")


@asynccontextmanager
async def synchronous(pair: PostgresPair, names: str = STANDBY) -> AsyncIterator[None]:
    """Let commits wait for a standby where their transaction asks for it, as the nodes' profile does."""
    await set_system(pair.primary, "synchronous_commit", "local")
    await set_system(pair.primary, "synchronous_standby_names", names)
    try:

        async def has_one() -> bool:
            query = (
                "select count(*) from pg_stat_replication where sync_state in ('sync', 'quorum')"
            )
            return await pair.primary.ask(query) == 1

        await wait_until(has_one, timeout=SOON, waiting_for="a synchronous standby")
        yield
    finally:
        await set_system(pair.primary, "synchronous_standby_names", None)
        await set_system(pair.primary, "synchronous_commit", None)


async def until_waiting(server: Server, number: int = 1) -> None:
    """Return once so many commits wait for a standby."""

    async def wait() -> bool | NotYet:
        seen = await server.ask(WAITING)
        return seen == number or NotYet(f"{seen} wait")

    await wait_until(wait, timeout=SOON, waiting_for=f"{number} commits to wait for a standby")


async def insert(databases: Databases, value: int) -> None:
    async with databases.writing() as connection:
        await connection.execute("insert into t values (%s)", [value])


async def values(databases: Databases) -> list[int]:
    return list(await databases.select(VALUES, {}, row_factory=scalar_row))


async def stored(server: Server, database: str) -> list[int]:
    """Return what a server shows to somebody who asks it directly."""
    async with await psycopg.AsyncConnection.connect(
        server.url(database), autocommit=True, row_factory=scalar_row
    ) as connection:
        cursor = await connection.execute(VALUES)
        return await cursor.fetchall()


async def install(pair: PostgresPair, database: str, *names: str) -> None:
    """Run packaged SQL files, such as ``data/schema.sql``, in a database."""
    async with await psycopg.AsyncConnection.connect(
        pair.primary.url(database), autocommit=True
    ) as connection:
        for name in names:
            await connection.execute(files("viral_engine").joinpath(name).read_bytes())


class PrimacyFile:
    """What a node's machine writes beside the data: until when its database may acknowledge."""

    def __init__(self, server: Server) -> None:
        self.path = server.folder.parent / "run" / "primacy"
        self.path.parent.mkdir(exist_ok=True)

    def say(self, seconds: float) -> None:
        """Let primacy last for so many seconds from now, negative for one that is over."""
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"{BOOT_CLOCK.seconds() + seconds:.2f}")
        Path(fresh).replace(self.path)

    @asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Renew it until the block ends; then it is over."""

        async def renew() -> None:
            while True:
                self.say(4)
                await asyncio.sleep(0.5)

        task = asyncio.create_task(renew(), name="renew primacy")
        try:
            await asyncio.sleep(0)
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            self.say(-1)


@contextmanager
def primacy_file(server: Server) -> Iterator[PrimacyFile]:
    """Hand out the file, absent at first, and take it away at the end."""
    file = PrimacyFile(server)
    file.path.unlink(missing_ok=True)
    try:
        yield file
    finally:
        file.path.unlink(missing_ok=True)


@pytest.fixture
async def numbers(postgres_pair: PostgresPair, database: str) -> str:
    """The name of a database with a table ``t`` of integers that the replica has as well."""
    await postgres_pair.primary.ask("create table t (value integer primary key)", database)
    await postgres_pair.wait_until_replayed()
    return database


def in_region(
    app: App,
    here: World,
    *,
    region: str = "iad",
    declared: Mapping[str, Consistency] | None = None,
    **more: Any,
) -> RegionMiddleware:
    """Wrap an app as its machine does; all of them share one secret."""
    return RegionMiddleware(
        app,
        place=Place(region, f"{region}-1"),
        cluster=here.cluster,
        signer=ReplaySigner("shared"),
        tokens=TokenSigner("shared"),
        declared=Declarations(declared or {}),
        first_answers=here.databases,
        tenant=lambda scope: dict(scope["headers"]).get(b"x-tenant", b"").decode(),
        **more,
    )


@asynccontextmanager
async def user_of_app(app: App) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app; what an app raises is answered 500, as a server does."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        yield user
