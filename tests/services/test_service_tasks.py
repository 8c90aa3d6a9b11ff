"""The bundled service over a real primary and a real replica, one app per region."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from tests.services.postgres_pair import PostgresPair
from tests.services.task_service import both_regions, environ_of, user_of

from viral_engine.clock import wait_until
from viral_engine.service.migrate import HEAD, migrate

SOON = timedelta(seconds=10)


async def test_a_task_written_at_the_primary_is_read_from_the_replica_of_the_other_region(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        created = await iad.post("/api/tasks", json={"title": " hello "})
        assert created.status_code == 201, created.text
        assert created.headers["viral-route"].startswith("local; reason=primary-here")
        assert created.json()["title"] == "hello"
        await postgres_pair.wait_until_replayed()
        read = await lhr.get(created.headers["location"])
        assert read.json() == created.json()
        assert read.headers["viral-region"] == "lhr"
        assert read.headers["viral-route"] == "local; reason=replica"
        assert float(read.headers["viral-staleness"]) >= 0


async def test_a_write_away_from_the_primary_is_replayed_and_leaves_nothing_behind(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        answer = await lhr.post("/api/tasks", json={"title": "x"})
        assert answer.status_code == 409
        assert answer.headers["fly-replay"].startswith("region=iad;state=")
        assert answer.headers["viral-route"] == "replay; reason=write"
        assert (await iad.get("/api/tasks")).json() == {"items": [], "next": None}
        # What the proxy then does: the same request, to the primary's region, with the state.
        source = "instance=lhr-1;region=lhr;" + answer.headers["fly-replay"].split(";")[1]
        there = await iad.post(
            "/api/tasks", json={"title": "x"}, headers={"fly-replay-src": source}
        )
        assert there.status_code == 201


async def test_a_replay_that_misses_the_primary_is_served_over_the_wire_and_not_replayed_again(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (_, lhr):
        first = await lhr.post("/api/tasks", json={"title": "x"})
        source = "region=ams;" + first.headers["fly-replay"].split(";")[1]
        again = await lhr.post(
            "/api/tasks", json={"title": "x"}, headers={"fly-replay-src": source}
        )
        assert (again.status_code, "fly-replay" in again.headers) == (201, False)
        assert again.headers["viral-route"].startswith("primary; reason=moved")


async def test_a_change_counts_the_version_and_keeps_what_was_not_named(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as iad:
        created = (await iad.post("/api/tasks", json={"title": "a", "description": "d"})).json()
        place = f"/api/tasks/{created['id']}"
        changed = (await iad.patch(place, json={"status": "completed"})).json()
        assert (changed["status"], changed["version"]) == ("completed", 2)
        assert (changed["title"], changed["description"]) == ("a", "d")
        assert changed["created_at"] == created["created_at"]
        other = f"/api/tasks/{created['id'][:-4]}0000"
        for missing in (await iad.get(other), await iad.patch(other, json={"title": "b"})):
            assert missing.status_code == 404
            assert missing.headers["content-type"] == "application/problem+json"


async def test_pages_hold_every_task_once_in_the_order_of_creation(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as iad:
        for number in range(7):
            assert (await iad.post("/api/tasks", json={"title": f"t{number}"})).status_code == 201
        seen: list[str] = []
        query: dict[str, str | int] | None = {"limit": 3}
        while query:
            page = (await iad.get("/api/tasks", params=query)).json()
            seen += [task["title"] for task in page["items"]]
            query = {"limit": 3, "after": page["next"]} if page["next"] else None
        assert seen == [f"t{number}" for number in range(7)]


async def test_a_task_that_is_not_valid_is_refused_with_the_place_of_the_fault(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    bodies: list[object] = [
        {},
        [],
        {"title": "  "},
        {"title": "x" * 201},
        {"title": "x\u0000y"},
        {"title": "\ud800"},
        {"title": "x", "status": "unheard-of"},
        {"title": "x", "owner": "me"},
        {"title": 7},
    ]
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as iad:
        for body in bodies:
            text = json.dumps(body)
            answer = await iad.post(
                "/api/tasks", content=text, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 422, body
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["errors"][0]["where"].startswith("body"), body
        for query in ({"limit": 0}, {"limit": 201}, {"after": "made-up"}):
            answer = await iad.get("/api/tasks", params=query)
            assert answer.status_code == 422, query


async def test_two_migrations_at_once_apply_each_step_once(
    postgres_pair: PostgresPair, database: str
) -> None:
    url = postgres_pair.primary.url(database)
    both = await asyncio.gather(*(asyncio.to_thread(migrate, url) for _ in range(2)))
    assert both == [HEAD, HEAD]
    assert await postgres_pair.primary.ask("select count(*) from alembic_version", database) == 1
    assert await postgres_pair.primary.ask("select count(*) from tasks", database) == 0


async def test_reads_go_to_the_primary_while_the_replica_is_down_and_say_why(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (_, lhr):
        assert (await lhr.get("/api/tasks")).headers["viral-route"] == "local; reason=replica"
        postgres_pair.replica.stop("immediate")
        try:
            # At once, before anyone has noticed, and on a pooled connection that is now dead.
            answer = await lhr.get("/api/tasks")
            assert answer.status_code == 200, answer.text
            assert answer.headers["viral-route"] == "primary; reason=replica-unreachable"
            assert "viral-staleness" not in answer.headers
        finally:
            postgres_pair.replica.start()

        async def is_local_again() -> bool:
            answer = await lhr.get("/api/tasks")
            return answer.headers["viral-route"] == "local; reason=replica"

        await wait_until(is_local_again, timeout=SOON, waiting_for="reads from the replica")


async def test_without_any_database_health_is_well_and_tasks_are_a_problem_to_retry() -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    environ = {
        "FLY_REGION": "lhr",
        "PRIMARY_REGION": "iad",
        "FLY_MACHINE_ID": "m1",
        "DATABASE_URL": nowhere,
        "READ_REPLICA_LHR_URL": nowhere,
    }
    async with user_of(environ) as user:
        health = await user.get("/api/health")
        assert (health.status_code, health.json()["status"]) == (200, "ok")
        for answer in (
            await user.get("/api/tasks"),
            await user.post("/api/tasks", json={"title": "x"}),
        ):
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["viral-route"].startswith("degraded; reason=")
        regions = (await user.get("/api/regions")).json()
        assert regions["primary_region"] is None
        assert not regions["nodes"][0]["reachable"]


async def test_tables_that_are_not_there_yet_are_a_problem_to_retry(
    postgres_pair: PostgresPair, database: str
) -> None:
    async with user_of(environ_of(postgres_pair, database, "iad")) as iad:
        answer = await iad.post("/api/tasks", json={"title": "x"})
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("not-migrated")
