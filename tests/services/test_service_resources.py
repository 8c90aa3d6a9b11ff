"""Users, organizations, metrics, the audit log and the dashboard, over a real primary and replica."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.services.postgres_pair import PostgresPair
from tests.services.task_service import both_regions, environ_of, unless_busy, user_of

from viral_engine.data.hybrid_clock import HybridTime

PAGES = {
    "users": "display_name",
    "organizations": "name",
    "billing/accounts": "name",
    "metrics": "name",
    "audit_logs": "row_id",
}


@pytest.fixture
async def iad(postgres_pair: PostgresPair, migrated: str) -> AsyncIterator[httpx.AsyncClient]:
    """A user in the primary's region."""
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as user:
        yield user


async def organization(user: httpx.AsyncClient, name: str = "o") -> str:
    answer = await user.post("/api/organizations", json={"name": name})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def new_user(user: httpx.AsyncClient, of: str, email: str, name: str = "n") -> httpx.Response:
    body = {"organization_id": of, "email": email, "display_name": name}
    return await user.post("/api/users", json=body)


def ago(ms: int, node: str = "sensor") -> str:
    return str(HybridTime(int(datetime.now(UTC).timestamp() * 1000) - ms, 0, node))


async def test_a_user_belongs_to_an_organization_and_keeps_what_was_not_named(
    iad: httpx.AsyncClient,
) -> None:
    of = await organization(iad)
    made = await new_user(iad, of, " Ada@Example.ORG ", " Ada ")
    assert (made.json()["email"], made.json()["display_name"]) == ("ada@example.org", "Ada")
    place = made.headers["location"]
    assert (await iad.get(place)).json() == made.json()
    changed = (await iad.patch(place, json={"display_name": "A."})).json()
    assert (changed["display_name"], changed["email"]) == ("A.", "ada@example.org")
    nowhere = await new_user(iad, str(uuid4()), "b@example.org")
    assert nowhere.status_code == 422
    assert nowhere.json()["errors"][0]["where"] == "body.organization_id"


async def test_of_ten_users_who_want_one_e_mail_exactly_one_gets_it(iad: httpx.AsyncClient) -> None:
    of = await organization(iad)
    spelled = ["a@example.org", "A@example.org"]
    answers = await asyncio.gather(
        *(unless_busy(partial(new_user, iad, of, spelled[n % 2])) for n in range(10))
    )
    assert Counter(answer.status_code for answer in answers) == {201: 1, 409: 9}
    assert {a.json()["type"].rpartition(":")[2] for a in answers if a.status_code == 409} == {
        "email-taken"
    }
    other = await new_user(iad, of, "b@example.org")
    taken = await iad.patch(other.headers["location"], json={"email": "A@EXAMPLE.org"})
    assert taken.status_code == 409
    assert (await iad.get(other.headers["location"])).json() == other.json()
    records = (await iad.get("/api/audit_logs")).json()["items"]
    assert [record["action"] for record in records if record["resource"] == "users"] == [
        "created",
        "created",
    ]


@pytest.mark.parametrize(
    ("resource", "body"),
    [
        ("organizations", {}),
        ("organizations", {"name": " "}),
        ("organizations", {"name": "x" * 201}),
        ("organizations", {"name": "x", "id": 1}),
        ("users", {"email": "a@b", "display_name": "n"}),
        ("users", {"organization_id": "x", "email": "a@b", "display_name": "n"}),
        *(
            ("users", {"organization_id": str(uuid4()), "email": email, "display_name": "n"})
            for email in ("", "a", "a@", "@b", "a@b@c", "a b@c", "a\u0000@b", "a" * 253 + "@b")
        ),
    ],
)
async def test_what_is_not_valid_is_refused_with_the_place_of_the_fault(
    iad: httpx.AsyncClient, resource: str, body: dict[str, object]
) -> None:
    answer = await iad.post(f"/api/{resource}", json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["where"].startswith("body")


async def test_a_change_that_names_nothing_is_refused(iad: httpx.AsyncClient) -> None:
    of = await organization(iad)
    user = await new_user(iad, of, "a@example.org")
    for place in (user.headers["location"], f"/api/organizations/{of}"):
        for body in ({}, {"version": 1}):
            assert (await iad.patch(place, json=body)).status_code == 422


@pytest.mark.parametrize("resource", PAGES)
async def test_pages_hold_every_row_once_in_the_order_of_creation(
    iad: httpx.AsyncClient, resource: str
) -> None:
    of = await organization(iad, "o0")
    await iad.post("/api/billing/accounts", json={"organization_id": of, "name": "a0"})
    for number in range(6):
        await organization(iad, f"o{number + 1}")
        await new_user(iad, of, f"u{number}@example.org", f"u{number}")
        body = {"organization_id": of, "name": f"a{number + 1}"}
        await iad.post("/api/billing/accounts", json=body)
        await iad.put(f"/api/metrics/m{number}", json={"value": number})
    whole = (await iad.get(f"/api/{resource}", params={"limit": 200})).json()
    assert whole["next"] is None
    seen: list[str] = []
    query: dict[str, str | int] | None = {"limit": 3}
    while query:
        page = (await iad.get(f"/api/{resource}", params=query)).json()
        seen += [row[PAGES[resource]] for row in page["items"]]
        query = {"limit": 3, "after": page["next"]} if page["next"] else None
    assert seen == [row[PAGES[resource]] for row in whole["items"]]
    assert len(seen) >= 6
    if resource != "audit_logs":
        assert seen == sorted(set(seen))
    for wrong in ({"limit": 0}, {"limit": 201}, {"after": "made-up"}):
        assert (await iad.get(f"/api/{resource}", params=wrong)).status_code == 422


async def test_a_change_and_its_record_are_committed_together_or_not_at_all(
    iad: httpx.AsyncClient, postgres_pair: PostgresPair, migrated: str
) -> None:
    of = await organization(iad)
    await postgres_pair.primary.ask("alter table audit_logs add check (false) not valid", migrated)
    # A real server would answer 500; here the error itself comes through.
    with pytest.raises(psycopg.errors.CheckViolation):
        await new_user(iad, of, "a@example.org")
    with pytest.raises(psycopg.errors.CheckViolation):
        await iad.patch(f"/api/organizations/{of}", json={"name": "p"})
    assert (await iad.get("/api/users")).json()["items"] == []
    assert (await iad.get(f"/api/organizations/{of}")).json()["version"] == 1


@pytest.mark.parametrize("seed", range(3))
async def test_of_points_that_arrive_in_any_order_and_at_once_the_latest_stays(
    iad: httpx.AsyncClient, seed: int
) -> None:
    points = [(value, ago(1000 * (value % 7))) for value in range(20)]
    order = [*points, *points]
    random.Random(seed).shuffle(order)
    answers = await asyncio.gather(
        *(
            unless_busy(partial(iad.put, "/api/metrics/load", json={"value": v, "at": at}))
            for v, at in order
        )
    )
    assert {answer.status_code for answer in answers} == {200}
    latest = max(points, key=lambda point: (point[1], point[0]))
    stored = (await iad.get("/api/metrics/load")).json()
    assert (stored["value"], stored["at"]) == latest
    wins = [answer.json() for answer in answers if answer.json()["won"]]
    assert len(wins) == stored["version"]
    assert max(wins, key=lambda one: one["metric"]["version"])["metric"] == stored


async def test_a_point_without_a_time_is_later_than_what_is_there(
    iad: httpx.AsyncClient, postgres_pair: PostgresPair, migrated: str
) -> None:
    first = await iad.put("/api/metrics/load", json={"value": 1, "at": ago(-30_000)})
    assert first.json()["won"]
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as other:
        for value in (2, 3):
            answer = (await other.put("/api/metrics/load", json={"value": value})).json()
            assert (answer["won"], answer["metric"]["value"]) == (True, value)
    late = (await iad.put("/api/metrics/load", json={"value": 9, "at": ago(0)})).json()
    assert (late["won"], late["metric"]["value"]) == (False, 3)


async def test_a_time_that_is_an_hour_ahead_is_refused_and_poisons_nothing(
    iad: httpx.AsyncClient, postgres_pair: PostgresPair, migrated: str
) -> None:
    ahead = await iad.put("/api/metrics/load", json={"value": 1, "at": ago(-3_600_000)})
    assert ahead.status_code == 422
    assert ahead.json()["errors"][0]["where"] == "body.at"
    assert (await iad.get("/api/metrics/load")).status_code == 404
    assert (await iad.put("/api/metrics/load", json={"value": 2})).json()["won"]
    # As if a machine had stored it while the primary's own clock was wrong.
    query = f"update metrics set at = '{ago(-3_600_000)}'"
    await postgres_pair.primary.ask(query, migrated)
    refused = await iad.put("/api/metrics/load", json={"value": 3})
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("clock-ahead")
    old = (await iad.put("/api/metrics/load", json={"value": 3, "at": ago(0)})).json()
    assert (old["won"], old["metric"]["value"]) == (False, 2)


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("load", {}),
        ("load", {"value": "x"}),
        ("load", {"value": 1, "at": "now"}),
        ("load", {"value": 1, "at": "0199a3b2c4d5-0001-a b"}),
        ("load", {"value": 1, "unit": "s"}),
        ("-load", {"value": 1}),
        ("lo%20ad", {"value": 1}),
        ("l" * 101, {"value": 1}),
    ],
)
async def test_a_point_that_is_none_is_refused(
    iad: httpx.AsyncClient, name: str, body: dict[str, object]
) -> None:
    assert (await iad.put(f"/api/metrics/{name}", json=body)).status_code == 422


async def test_the_dashboard_counts_the_rows_of_every_resource_near_the_reader(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        of = await organization(iad)
        await new_user(iad, of, "a@example.org")
        await iad.post("/api/tasks", json={"title": "t"})
        await iad.put("/api/metrics/load", json={"value": 1})
        await iad.post("/api/billing/accounts", json={"organization_id": of, "name": "a"})
        await postgres_pair.wait_until_replayed()
        answer = await lhr.get("/api/dashboard")
        assert answer.headers["viral-route"] == "local; reason=replica"
        assert answer.json()["counts"] == {
            "users": 1,
            "organizations": 1,
            "billing": 1,
            "tasks": 1,
            "metrics": 1,
            "audit_logs": 3,
        }
