"""Money under races: no balance goes below zero, none is lost, and every entry is in the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from importlib.resources import files
from uuid import uuid4

import httpx
import psycopg
import pytest
from tests.services.postgres_pair import PostgresPair
from tests.services.task_service import environ_of, unless_busy, user_of


@pytest.fixture
async def iad(postgres_pair: PostgresPair, migrated: str) -> AsyncIterator[httpx.AsyncClient]:
    """A user in the primary's region."""
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as user:
        yield user


async def account(user: httpx.AsyncClient, cents: int = 0) -> str:
    """Open an account with some money and return its id."""
    organization = await user.post("/api/organizations", json={"name": "o"})
    body = {"organization_id": organization.json()["id"], "name": "main"}
    opened = await user.post("/api/billing/accounts", json=body)
    assert opened.status_code == 201, opened.text
    if cents:
        assert (await moved(user, opened.json()["id"], "credits", cents)).status_code == 201
    return str(opened.json()["id"])


async def moved(user: httpx.AsyncClient, of: str, how: str, cents: int) -> httpx.Response:
    path, body = f"/api/billing/accounts/{of}/{how}", {"amount_cents": cents}
    return await unless_busy(lambda: user.post(path, json=body))


async def sent(user: httpx.AsyncClient, source: str, target: str, cents: int) -> httpx.Response:
    body = {"source_id": source, "target_id": target, "amount_cents": cents}
    return await unless_busy(lambda: user.post("/api/billing/transfers", json=body))


async def balance(user: httpx.AsyncClient, of: str) -> int:
    return int((await user.get(f"/api/billing/accounts/{of}")).json()["balance_cents"])


async def entries(user: httpx.AsyncClient, of: str) -> list[dict[str, int]]:
    found: list[dict[str, int]] = []
    query: dict[str, str | int] | None = {"limit": 7}
    while query:
        page = (await user.get(f"/api/billing/accounts/{of}/entries", params=query)).json()
        found += page["items"]
        query = {"limit": 7, "after": page["next"]} if page["next"] else None
    return found


async def test_twenty_charges_of_one_balance_never_take_more_than_there_is(
    iad: httpx.AsyncClient,
) -> None:
    of = await account(iad, 700)
    answers = await asyncio.gather(*(moved(iad, of, "charges", 100) for _ in range(20)))
    assert Counter(answer.status_code for answer in answers) == {201: 7, 409: 13}
    for refused in answers:
        if refused.status_code == 409:
            assert refused.json()["type"].endswith("balance-limit")
            assert refused.json()["current"]["balance_cents"] < 100
    assert await balance(iad, of) == 0
    running = [entry["balance_cents"] for entry in await entries(iad, of)]
    assert running == [700, 600, 500, 400, 300, 200, 100, 0]


async def test_transfers_that_cross_neither_lose_money_nor_wait_for_each_other(
    iad: httpx.AsyncClient,
) -> None:
    one, two, three = [await account(iad, 500) for _ in range(3)]
    pairs = [(one, two), (two, one), (two, three), (three, two), (three, one), (one, three)]
    answers = await asyncio.gather(*(sent(iad, *pair, 150) for pair in pairs * 5))
    assert {answer.status_code for answer in answers} <= {201, 409}
    balances = [await balance(iad, of) for of in (one, two, three)]
    assert sum(balances) == 1500
    assert min(balances) >= 0
    for of, cents in zip((one, two, three), balances, strict=True):
        found = await entries(iad, of)
        assert sum(entry["amount_cents"] for entry in found) == cents
        assert found[-1]["balance_cents"] == cents


async def test_a_transfer_is_made_whole_or_not_at_all(iad: httpx.AsyncClient) -> None:
    one, two = await account(iad, 500), await account(iad)
    made = await sent(iad, one, two, 200)
    assert made.status_code == 201
    halves = made.json()
    assert halves["source"]["transfer_id"] == halves["target"]["transfer_id"] == halves["id"]
    assert (halves["source"]["amount_cents"], halves["target"]["amount_cents"]) == (-200, 200)
    refused = await sent(iad, one, two, 301)
    assert (refused.status_code, refused.json()["current"]["id"]) == (409, one)
    nobody = str(uuid4())
    for pair in ((one, nobody), (nobody, one)):
        missing = await sent(iad, *pair, 1)
        assert missing.status_code == 404
        assert nobody in missing.json()["detail"]
    assert (await sent(iad, one, one, 1)).status_code == 422
    assert (await balance(iad, one), await balance(iad, two)) == (300, 200)


async def test_an_account_that_is_full_takes_no_more_and_the_source_keeps_its_own(
    iad: httpx.AsyncClient, postgres_pair: PostgresPair, migrated: str
) -> None:
    full, other = await account(iad, 1), await account(iad, 500)
    query = f"update billing_accounts set balance_cents = 1000000000000000 where id = '{full}'"
    await postgres_pair.primary.ask(query, migrated)
    for answer in (await moved(iad, full, "credits", 1), await sent(iad, other, full, 1)):
        assert (answer.status_code, answer.json()["current"]["id"]) == (409, full)
    assert await balance(iad, other) == 500


async def test_an_organization_sees_all_its_balances_and_movements_of_one_moment(
    iad: httpx.AsyncClient,
) -> None:
    one, _other = await account(iad, 500), await account(iad, 7)
    of = (await iad.get(f"/api/billing/accounts/{one}")).json()["organization_id"]
    opened = await iad.post("/api/billing/accounts", json={"organization_id": of, "name": "second"})
    second = opened.json()["id"]
    seen: list[int] = []

    async def watch() -> None:
        for _ in range(20):
            page = await iad.get(f"/api/billing/organizations/{of}/accounts")
            seen.append(sum(found["balance_cents"] for found in page.json()["items"]))

    moves = [sent(iad, one, second, 3) for _ in range(20)]
    await asyncio.gather(watch(), watch(), *moves)
    assert set(seen) == {500}
    pages, query = [], {"limit": "15"}
    while query:
        found = (await iad.get(f"/api/billing/organizations/{of}/entries", params=query)).json()
        pages.append(found["items"])
        query = {"limit": "15", "after": found["next"]} if found["next"] else {}
    assert [len(page) for page in pages] == [15, 15, 11]
    assert {entry["account_id"] for page in pages for entry in page} == {one, second}


async def test_a_transfer_shows_the_statement_that_it_led_to(iad: httpx.AsyncClient) -> None:
    one, two = await account(iad, 500), await account(iad, 500)
    body = {"source_id": one, "target_id": two, "amount_cents": 1, "statement": 3}
    answers = await asyncio.gather(
        *(iad.post("/api/billing/transfers", json=body | {"note": f"n{n}"}) for n in range(6))
    )
    for answer in answers:
        made = answer.json()
        for half in ("source", "target"):
            of = made[half]["account_id"]
            shown = [entry for entry in made["statement"] if entry["account_id"] == of]
            balances = [entry["balance_cents"] for entry in shown]
            step = 1 if half == "target" else -1
            assert shown[-1] == made[half]
            assert balances == [balances[0] + step * n for n in range(len(balances))]
            assert len(shown) <= 3
    assert (await sent(iad, one, two, 1)).json()["statement"] == []
    refused = await iad.post("/api/billing/transfers", json=body | {"statement": 101})
    assert refused.status_code == 422


async def test_movements_stay_in_order_when_a_new_primarys_clock_is_behind(
    iad: httpx.AsyncClient, postgres_pair: PostgresPair, migrated: str
) -> None:
    of = await account(iad)
    query = f"update billing_accounts set updated_at = now() + interval '1 hour' where id = '{of}'"
    await postgres_pair.primary.ask(query, migrated)
    for cents in (5, 6, 7):
        assert (await moved(iad, of, "credits", cents)).status_code == 201
    found = await entries(iad, of)
    assert [entry["balance_cents"] for entry in found] == [5, 11, 18]
    assert len({entry["created_at"] for entry in found}) == 3


@pytest.mark.parametrize("amount", [0, -1, 1.5, "1", True, 10**12 + 1, None])
async def test_an_amount_that_is_none_is_refused(iad: httpx.AsyncClient, amount: object) -> None:
    of = await account(iad)
    for how in ("credits", "charges"):
        body = {"amount_cents": amount}
        answer = await iad.post(f"/api/billing/accounts/{of}/{how}", json=body)
        assert answer.status_code == 422, answer.text


async def test_an_account_needs_its_organization_and_a_movement_its_account(
    iad: httpx.AsyncClient,
) -> None:
    body = {"organization_id": str(uuid4()), "name": "main"}
    opened = await iad.post("/api/billing/accounts", json=body)
    assert opened.status_code == 422
    assert opened.json()["errors"][0]["where"] == "body.organization_id"
    assert (await moved(iad, str(uuid4()), "charges", 1)).status_code == 404
    assert (await iad.get(f"/api/billing/accounts/{uuid4()}")).status_code == 404


async def test_every_movement_is_in_the_audit_log_and_a_refused_one_is_not(
    iad: httpx.AsyncClient,
) -> None:
    one, two = await account(iad, 500), await account(iad)
    await sent(iad, one, two, 200)
    await moved(iad, two, "charges", 201)
    records = (await iad.get("/api/audit_logs", params={"limit": 200})).json()["items"]
    said = [
        (record["row_id"], record["action"], record["details"].get("amount_cents"))
        for record in records
        if record["resource"] == "billing"
    ]
    assert sorted(said, key=str) == sorted(
        [
            (one, "opened", None),
            (one, "credit", 500),
            (two, "opened", None),
            (one, "transfer", -200),
            (two, "transfer", 200),
        ],
        key=str,
    )


@pytest.mark.parametrize("table", ["audit_logs", "billing_entries"])
@pytest.mark.parametrize("change", ["update {} set id = id", "delete from {}", "truncate {}"])
async def test_what_only_grows_cannot_be_changed_by_anybody(
    iad: httpx.AsyncClient,
    postgres_pair: PostgresPair,
    migrated: str,
    table: str,
    change: str,
) -> None:
    await account(iad, 1)
    with pytest.raises(psycopg.errors.RestrictViolation, match="only grows"):
        await postgres_pair.primary.ask(change.format(table), migrated)


@pytest.fixture
async def keyed(iad: httpx.AsyncClient, postgres_pair: PostgresPair, migrated: str) -> None:
    """Where first answers are kept, which a database machine makes when it is set up."""
    schema = files("viral_engine.data").joinpath("schema.sql").read_text(encoding="utf-8")
    await postgres_pair.primary.ask(schema, migrated)


async def test_a_transfer_that_is_repeated_with_its_key_is_made_once(
    iad: httpx.AsyncClient, keyed: None
) -> None:
    one, two = await account(iad, 500), await account(iad)
    body = {"source_id": one, "target_id": two, "amount_cents": 300}
    key = {"idempotency-key": "transfer-1"}
    answers = [await iad.post("/api/billing/transfers", json=body, headers=key) for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert (await balance(iad, one), await balance(iad, two)) == (200, 300)


async def test_a_refusal_by_the_database_itself_ends_a_keyed_request_well(
    iad: httpx.AsyncClient, keyed: None
) -> None:
    organization = (await iad.post("/api/organizations", json={"name": "o"})).json()["id"]
    body = {"organization_id": organization, "email": "a@example.org", "display_name": "n"}
    assert (await iad.post("/api/users", json=body)).status_code == 201
    key = {"idempotency-key": "user-1"}
    answers = [await iad.post("/api/users", json=body, headers=key) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {409}
    assert len((await iad.get("/api/users")).json()["items"]) == 1
