"""Versions of rows over HTTP: a change that was based on another version loses nothing of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import httpx
import pytest
from tests.services.postgres_pair import PostgresPair
from tests.services.task_service import both_regions, environ_of, unless_busy, user_of

CHANGE = {"tasks": "title", "organizations": "name", "users": "display_name"}


@pytest.fixture
async def iad(postgres_pair: PostgresPair, migrated: str) -> AsyncIterator[httpx.AsyncClient]:
    """A user in the primary's region."""
    async with user_of(environ_of(postgres_pair, migrated, "iad")) as user:
        yield user


async def created(user: httpx.AsyncClient, resource: str) -> httpx.Response:
    body: dict[str, object] = {CHANGE[resource]: "a"}
    if resource == "users":
        organization = await user.post("/api/organizations", json={"name": "o"})
        body |= {"organization_id": organization.json()["id"], "email": "a@example.org"}
    answer = await user.post(f"/api/{resource}", json=body)
    assert answer.status_code == 201, answer.text
    return answer


@pytest.mark.parametrize("resource", CHANGE)
async def test_of_twenty_changes_that_expect_the_same_version_exactly_one_is_made(
    iad: httpx.AsyncClient, resource: str
) -> None:
    row = await created(iad, resource)
    place, field = row.headers["location"], CHANGE[resource]
    assert row.headers["etag"] == '"1"'

    async def change(number: int) -> httpx.Response:
        body, headers = {field: f"c{number}"}, {"if-match": '"1"'}
        return await unless_busy(lambda: iad.patch(place, json=body, headers=headers))

    answers = await asyncio.gather(*(change(number) for number in range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 412: 19}
    (made,) = [answer for answer in answers if answer.status_code == 200]
    assert made.headers["etag"] == '"2"'
    assert (await iad.get(place)).json() == made.json()
    for refused in answers:
        if refused is not made:
            assert refused.headers["content-type"] == "application/problem+json"
            assert refused.json()["type"].endswith("precondition-failed")
            assert refused.json()["current"] == made.json()
            assert refused.headers["etag"] == '"2"'


async def test_twenty_writers_that_read_and_try_again_lose_no_update(
    iad: httpx.AsyncClient,
) -> None:
    place = (await created(iad, "tasks")).headers["location"]

    async def add(number: int) -> None:
        seen = await iad.get(place)
        for _ in range(20):
            text = f"{seen.json()['description']} {number}"
            change = {"description": text, "version": seen.json()["version"]}
            answer = await unless_busy(partial(iad.patch, place, json=change))
            if answer.status_code == 200:
                return
            assert answer.status_code == 409
            seen = httpx.Response(200, json=answer.json()["current"])
        raise AssertionError("each round lets somebody through, so twenty are enough")

    await asyncio.gather(*(add(number) for number in range(20)))
    task = (await iad.get(place)).json()
    assert sorted(map(int, task["description"].split())) == list(range(20))
    assert task["version"] == 21


@pytest.mark.parametrize("resource", CHANGE)
async def test_a_body_that_is_based_on_another_version_is_answered_with_the_current_row(
    iad: httpx.AsyncClient, resource: str
) -> None:
    place, field = (await created(iad, resource)).headers["location"], CHANGE[resource]
    second = await iad.patch(place, json={field: "b", "version": 1})
    assert (second.status_code, second.headers["etag"]) == (200, '"2"')
    late = await iad.patch(place, json={field: "c", "version": 1})
    assert (late.status_code, late.headers["etag"]) == (409, '"2"')
    assert late.json()["type"].endswith("version-conflict")
    assert late.json()["current"] == second.json()
    assert (await iad.get(place)).json() == second.json()


async def test_a_change_without_any_version_is_made_as_ever(iad: httpx.AsyncClient) -> None:
    place = (await created(iad, "tasks")).headers["location"]
    answers = await asyncio.gather(
        *(iad.patch(place, json={"title": f"t{number}"}) for number in range(5))
    )
    assert sorted(answer.headers["etag"] for answer in answers) == [f'"{n}"' for n in range(2, 7)]


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        ({"if-match": "*"}, None, 200),
        ({"if-match": '"9", "1"'}, None, 200),
        ({"if-match": '"1"'}, 1, 200),
        ({"if-match": 'W/"1"'}, None, 412),
        ({"if-match": '"9"'}, None, 412),
        ({"if-match": '"abc"'}, None, 412),
        ({"if-match": '"9"'}, 1, 412),
        ({"if-match": '"1"'}, 9, 409),
        ({"if-match": "1"}, None, 422),
        ({"if-match": ""}, None, 422),
        ({}, 0, 422),
        ({}, 2**63, 422),
        ({}, "1x", 422),
    ],
)
async def test_each_way_to_name_a_version_has_its_answer(
    iad: httpx.AsyncClient, headers: dict[str, str], version: object, status: int
) -> None:
    place = (await created(iad, "tasks")).headers["location"]
    body = {"title": "b"} | ({} if version is None else {"version": version})
    answer = await iad.patch(place, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    now = (await iad.get(place)).json()
    assert (now["title"], now["version"]) == (("b", 2) if status == 200 else ("a", 1))


async def test_two_if_match_headers_count_as_one_list(iad: httpx.AsyncClient) -> None:
    place = (await created(iad, "tasks")).headers["location"]
    headers = [("if-match", '"8"'), ("if-match", '"1"')]
    assert (await iad.patch(place, json={"title": "b"}, headers=headers)).status_code == 200


async def test_what_is_not_there_is_not_found_whatever_version_is_expected(
    iad: httpx.AsyncClient,
) -> None:
    place = (await created(iad, "tasks")).headers["location"][:-4] + "0000"
    for headers in ({}, {"if-match": '"1"'}, {"if-match": "*"}):
        answer = await iad.patch(place, json={"title": "b"}, headers=headers)
        assert answer.status_code == 404


@pytest.mark.parametrize("resource", CHANGE)
async def test_a_reader_who_has_the_current_version_is_sent_none(
    iad: httpx.AsyncClient, resource: str
) -> None:
    row = await created(iad, resource)
    place = row.headers["location"]
    same = await iad.get(place, headers={"if-none-match": row.headers["etag"]})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
    assert same.headers["viral-session"]
    await iad.patch(place, json={CHANGE[resource]: "b"})
    other = await iad.get(place, headers={"if-none-match": '"1"'})
    assert (other.status_code, other.headers["etag"]) == (200, '"2"')


async def test_whoever_was_shown_the_current_row_finds_it_in_the_other_region_too(
    postgres_pair: PostgresPair, migrated: str
) -> None:
    async with both_regions(postgres_pair, migrated) as (iad, lhr):
        row = await created(iad, "tasks")
        place = row.headers["location"]
        await postgres_pair.wait_until_replayed()
        iad.cookies.clear()
        async with postgres_pair.replay_paused():
            assert (await iad.patch(place, json={"title": "b"})).status_code == 200
            iad.cookies.clear()
            refused = await iad.patch(place, json={"title": "c"}, headers={"if-match": '"1"'})
            assert refused.status_code == 412
            token = {"viral-session": refused.headers["viral-session"]}
            read: dict[str, Any] = (await lhr.get(place, headers=token)).json()
            assert read == refused.json()["current"]
