"""The runtime over databases that others run: it needs no rights, and says what it cannot know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files

import httpx
import psycopg
import pytest
from tests.services.postgres_pair import PostgresPair, Server
from tests.services.strong_world import (
    insert,
    synchronous,
    until_waiting,
    world,
)
from tests.services.task_service import SOON, user_of

from viral_engine.clock import wait_until
from viral_engine.data import Databases, Route, RouteKind, routed
from viral_engine.data.statements import read_statements
from viral_engine.errors import MisuseError, NoPrimaryError, OneRegionError
from viral_engine.service.migrate import migrate
from viral_engine.topology.model import Consistency

ROLE = "external_app"
MAKE_ROLE = f"""
do $$ begin
    if to_regrole('{ROLE}') is null then create role {ROLE} login; end if;
end $$
"""
HERE = Route(RouteKind.LOCAL, "primary-here", "iad")
LAPSED = "local; reason=primary-here; lapsed=primacy"


@pytest.fixture
async def external(postgres_pair: PostgresPair, database: str) -> str:
    """The name of a database whose app has a role that may do nothing but use and create in it."""
    await postgres_pair.primary.ask(MAKE_ROLE)
    await postgres_pair.primary.ask(f"grant create on database {database} to {ROLE}")
    await postgres_pair.primary.ask(f"grant create on schema public to {ROLE}", database)
    await postgres_pair.primary.ask("create table t (value integer primary key)", database)
    await postgres_pair.primary.ask(f"grant all on t to {ROLE}", database)
    await postgres_pair.wait_until_replayed()
    return database


def _url(server: Server, database: str) -> str:
    return server.url(database).replace("postgres@", f"{ROLE}@")


def _environ(pair: PostgresPair, database: str, region: str) -> dict[str, str]:
    """What a user sets for two databases of their own: the primary's region has no second name."""
    return {
        "FLY_REGION": region,
        "PRIMARY_REGION": "iad",
        "FLY_MACHINE_ID": f"{region}-1",
        "DATABASE_URL": _url(pair.primary, database).replace("postgresql:", "postgresql+psycopg:"),
        "READ_REPLICA_LHR_URL": _url(pair.replica, database).replace("postgresql:", "postgres:"),
        "VIRAL_SECRET": "shared",
        "VIRAL_CONSISTENCY": '{"organizations": "strong"}',
    }


@asynccontextmanager
async def _user_in(environ: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    async with user_of(environ) as user:

        async def sees_all() -> bool:
            nodes = (await user.get("/api/regions")).json()["nodes"]
            return all(node["reachable"] for node in nodes)

        await wait_until(sees_all, timeout=SOON, waiting_for="every database to be seen")
        yield user


async def test_every_question_of_the_runtime_is_answered_to_a_role_without_any_rights(
    postgres_pair: PostgresPair, external: str
) -> None:
    asked = dict(read_statements("viral_engine.data", "positions.sql"))
    asked["position"] = files("viral_engine.cluster").joinpath("position.sql").read_bytes()
    del asked["after_commit_guarded"]  # asked only where its function is
    of_a_replica = {"after_read", "in_two_regions", "is_guarded", "cluster", "position"}
    assert of_a_replica < set(asked)
    for server in (postgres_pair.primary, postgres_pair.replica):
        async with await psycopg.AsyncConnection.connect(
            _url(server, external), autocommit=True
        ) as connection:
            for name, statement in asked.items():
                if server is postgres_pair.primary or name in of_a_replica:
                    cursor = await connection.execute(statement)
                    assert await cursor.fetchone() is not None, name


async def test_the_task_service_runs_on_them_and_says_in_each_answer_what_lapses(
    postgres_pair: PostgresPair, external: str
) -> None:
    await asyncio.to_thread(migrate, _url(postgres_pair.primary, external))
    await postgres_pair.wait_until_replayed()
    async with (
        _user_in(_environ(postgres_pair, external, "iad")) as iad,
        _user_in(_environ(postgres_pair, external, "lhr")) as lhr,
    ):
        sent = {"idempotency-key": "k"}
        organization = {"name": "A"}
        made = await iad.post("/api/organizations", json=organization, headers=sent)
        assert made.status_code == 201, made.text
        assert made.headers["viral-route"] == LAPSED
        assert made.headers["viral-durability"] == "one-region"
        again = await iad.post("/api/organizations", json=organization, headers=sent)
        assert again.json() == made.json()

        led = await lhr.post("/api/tasks", json={"title": "x"})
        assert led.headers["fly-replay"].startswith("region=iad;")
        task = await iad.post("/api/tasks", json={"title": "x"})
        assert "viral-durability" not in task.headers
        token = {"viral-session": task.headers["viral-session"]}
        read = await lhr.get(task.headers["location"], headers=token)
        assert read.json() == task.json()
        assert read.headers["viral-route"].partition(";")[0] in {"local", "wait"}


async def test_migrations_that_the_role_has_no_right_to_are_refused_with_the_remedy(
    postgres_pair: PostgresPair, database: str
) -> None:
    await postgres_pair.primary.ask(MAKE_ROLE)
    url = _url(postgres_pair.primary, database)
    for right in (f"grant create on database {database}", "grant create on schema public"):
        with pytest.raises(MisuseError) as refused:
            await asyncio.to_thread(migrate, url)
        remedy = f"{right} to {ROLE};"
        assert refused.value.suggestion == f"As the owner of the database: {remedy}"
        await postgres_pair.primary.ask(remedy, database)
    assert await asyncio.to_thread(migrate, url)


async def test_a_standby_that_the_role_may_not_see_is_never_counted_as_a_second_region(
    postgres_pair: PostgresPair, external: str
) -> None:
    way = _url(postgres_pair.primary, external)
    async with synchronous(postgres_pair), world(postgres_pair, external, primary=way) as here:
        assert await _in_one_region(here.databases, 1)
        with routed(HERE, consistency=Consistency.STRICT), pytest.raises(OneRegionError):
            await insert(here.databases, 2)
        await postgres_pair.primary.ask(f"grant pg_read_all_stats to {ROLE}")
        try:
            assert not await _in_one_region(here.databases, 3)
        finally:
            await postgres_pair.primary.ask(f"revoke pg_read_all_stats from {ROLE}")


async def _in_one_region(databases: Databases, value: int) -> bool:
    with routed(HERE, consistency=Consistency.STRONG) as bound:
        await insert(databases, value)
    return bound.in_one_region


async def test_commits_that_wait_are_counted_by_the_role_that_made_them(
    postgres_pair: PostgresPair, external: str
) -> None:
    way = _url(postgres_pair.primary, external)
    question = read_statements("viral_engine.data", "positions.sql")["after_read"]
    async with synchronous(postgres_pair), world(postgres_pair, external, primary=way) as here:
        async with postgres_pair.replay_paused():
            write = asyncio.create_task(_in_one_region(here.databases, 1))
            await until_waiting(postgres_pair.primary)
            async with await psycopg.AsyncConnection.connect(way, autocommit=True) as connection:
                row = await (await connection.execute(question)).fetchone()
            assert row is not None
            assert row[-1] == 1
        await write


async def test_where_even_the_cluster_s_name_is_refused_requests_are_answered_503_with_the_reason(
    postgres_pair: PostgresPair, external: str
) -> None:
    await asyncio.to_thread(migrate, _url(postgres_pair.primary, external))
    revoke = "revoke execute on function pg_control_system() from public"
    await postgres_pair.primary.ask(revoke, external)
    await postgres_pair.wait_until_replayed()
    async with user_of(_environ(postgres_pair, external, "iad")) as user:

        async def says_why() -> bool:
            return (
                "permission denied for function pg_control_system"
                in (await user.get("/api/regions")).text
            )

        await wait_until(says_why, timeout=SOON, waiting_for="the reason to be said")
        assert (await user.get("/api/health")).status_code == 200
        for answer in (
            await user.get("/api/tasks"),
            await user.post("/api/tasks", json={"title": "x"}),
        ):
            assert answer.status_code == 503
            assert answer.headers["retry-after"]


async def test_a_region_whose_replica_has_no_url_reads_at_the_primary(
    postgres_pair: PostgresPair, external: str
) -> None:
    await asyncio.to_thread(migrate, _url(postgres_pair.primary, external))
    environ = _environ(postgres_pair, external, "lhr")
    del environ["READ_REPLICA_LHR_URL"]
    async with _user_in(environ) as user:
        answer = await user.get("/api/tasks")
        assert answer.status_code == 200
        assert answer.headers["viral-route"] == "primary; reason=no-replica-here"


async def test_of_two_replicas_the_one_behind_waits_and_the_other_serves_at_once(
    postgres_pair: PostgresPair, external: str
) -> None:
    await asyncio.to_thread(migrate, _url(postgres_pair.primary, external))
    pair = postgres_pair
    address = f"{pair.primary.address.rpartition('.')[0]}.4"
    third = Server("syd", address, 5432, pair.primary.folder.parent / "syd")
    third.copy_and_follow(pair.primary)
    try:
        more = {"READ_REPLICA_SYD_URL": _url(third, external)}
        async with (
            _user_in(_environ(pair, external, "iad") | more) as iad,
            _user_in(_environ(pair, external, "lhr") | more) as lhr,
            _user_in(_environ(pair, external, "syd") | more) as syd,
        ):
            await pair.wait_until_replayed()
            for user in (lhr, syd):  # opens connections, which would else take of the time to wait
                assert (await user.get("/api/tasks")).status_code == 200
            async with pair.replay_paused():
                made = await iad.post("/api/tasks", json={"title": "x"})
                sent = {"viral-session": made.headers["viral-session"]}
                place = made.headers["location"]
                # Else the wait of the one that is behind may be over before the other has answered.
                await PostgresPair(pair.primary, third).wait_until_replayed()
                late = asyncio.create_task(lhr.get(place, headers=sent))
                read = await syd.get(place, headers=sent)
                assert read.status_code == 200
                assert read.headers["viral-region"] == "syd"
                assert read.headers["viral-route"].partition(";")[0] in {"local", "wait"}
                assert not late.done()
            waited = await late
            assert waited.json() == read.json()
            assert waited.headers["viral-route"].startswith("wait; reason=replica-behind")
    finally:
        third.stop("immediate")


async def test_a_primary_that_another_took_over_from_is_not_written_to(
    postgres_pair: PostgresPair, external: str
) -> None:
    """An address that leads to a standby is no primary, whatever its name says."""
    way = _url(postgres_pair.replica, external)
    async with world(postgres_pair, external, primary=way) as here:
        for consistency in (Consistency.EVENTUAL, Consistency.STRONG):
            with routed(HERE, consistency=consistency), pytest.raises(NoPrimaryError):
                await insert(here.databases, 1)
