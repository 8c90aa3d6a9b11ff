"""What is certain of a request, from what its client saw of it."""

from __future__ import annotations

import asyncio
import io
from datetime import timedelta

import httpx
import pytest

from viral_engine.operations.drills.clients import Book, Client, Row, Session
from viral_engine.operations.drills.history import Kind, Outcome, Recorder
from viral_engine.operations.drills.outcomes import (
    NOTHING_DONE,
    Answer,
    read_outcome,
    write_outcome,
)

OK, FAIL, UNKNOWN = Outcome.OK, Outcome.FAIL, Outcome.UNKNOWN
ROW = Row("user-0", "/api/users/1", "display_name")


def problem(status: int, code: str) -> Answer:
    return Answer(status, body={"type": f"urn:viral-engine:problem:{code}", "status": status})


@pytest.mark.parametrize("status", [200, 201, 204])
def test_an_acknowledged_write_happened(status: int) -> None:
    assert write_outcome(Answer(status)) is OK


@pytest.mark.parametrize("code", sorted(NOTHING_DONE))
def test_a_503_that_promises_that_nothing_was_done_is_a_failure(code: str) -> None:
    assert write_outcome(problem(503, code)) is FAIL


@pytest.mark.parametrize(
    "answer",
    [
        problem(412, "precondition-failed"),
        problem(409, "version-conflict"),
        problem(409, "email-taken"),
        problem(422, "invalid-request"),
        Answer(503, text="[PR01] no machine"),
        Answer(503, text="[PR03] none could be reached"),
        Answer(0, sent=False),
    ],
)
def test_what_was_refused_or_never_left_is_a_failure(answer: Answer) -> None:
    assert write_outcome(answer) is FAIL


@pytest.mark.parametrize(
    "answer",
    [
        Answer(0),
        problem(504, "unknown-outcome"),
        problem(500, "unexpected"),
        problem(503, "something-new"),
        problem(409, "replay"),
        Answer(409, text="of nobody we know"),
        Answer(502, text="[PU02] it went away"),
        Answer(503, text="upstream connect error"),
    ],
)
def test_everything_else_that_was_sent_is_unknown(answer: Answer) -> None:
    assert write_outcome(answer) is UNKNOWN


def test_a_row_that_is_not_there_was_read_and_a_refusal_was_not() -> None:
    assert read_outcome(Answer(200)) is OK
    assert read_outcome(problem(404, "not-found")) is OK
    assert read_outcome(problem(503, "no-primary")) is FAIL
    assert read_outcome(Answer(404, text="of an edge")) is FAIL
    assert read_outcome(Answer(0)) is UNKNOWN


def test_a_session_sends_its_last_token_and_one_that_drops_it_sends_none() -> None:
    keeping, dropping = Session("a"), Session("b", dropped=True)
    for session in (keeping, dropping):
        session.learn(Answer(200, headers={"viral-session": "t1"}))
        session.learn(Answer(503))
    assert keeping.headers() == {"viral-session": "t1"}
    assert dropping.headers() == {}


async def test_a_request_is_in_the_book_before_it_is_sent_and_again_with_its_answer() -> None:
    lines = io.StringIO()
    book = Book(Recorder(lines))
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(lines.getvalue())
        assert request.headers["if-match"] == '"7"'
        assert request.headers["idempotency-key"]
        headers = {"viral-route": "local; reason=primary-here", "viral-region": "iad",
                   "set-cookie": "viral-session=x", "viral-session": "t8"}  # fmt: skip
        return httpx.Response(200, json={"version": 8, "display_name": "w"}, headers=headers)

    session = Session("s")
    transport = httpx.MockTransport(answer)
    async with Client(session, "lhr", "http://edge", book, transport=transport) as client:
        done, _ = await client.change(ROW, "w", at=7, instead_of="v")
    assert seen[0].count("\n") == 1
    assert '"unknown"' in seen[0]
    assert book.ended == [done]
    assert (done.kind, done.outcome, done.revision) == (Kind.CAS, OK, 8)
    assert (done.expected, done.written, done.if_match) == ("v", "w", 7)
    assert (done.region_asked, done.region_served) == ("lhr", "iad")
    assert (done.route, done.reason) == ("local", "primary-here")
    assert session.token == "t8"


async def test_a_client_that_drops_its_token_keeps_no_cookie_either() -> None:
    sent: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers)
        headers = {"set-cookie": "viral-session=x; Path=/", "viral-session": "x"}
        return httpx.Response(200, json={"display_name": "start"}, headers=headers)

    book = Book(Recorder(io.StringIO()))
    transport = httpx.MockTransport(answer)
    session = Session("s", dropped=True)
    async with Client(session, "lhr", "http://edge", book, transport=transport) as client:
        await client.read(ROW)
        read = await client.read(ROW)
    assert (read.found, read.token_dropped) == ("start", True)
    assert all("cookie" not in one and "viral-session" not in one for one in sent)


@pytest.mark.parametrize(
    ("error", "outcome"), [(httpx.ConnectError, FAIL), (httpx.ReadError, UNKNOWN)]
)
async def test_a_write_whose_connection_breaks_is_unknown_unless_there_was_none(
    error: type[httpx.TransportError], outcome: Outcome
) -> None:
    def broken(_request: httpx.Request) -> httpx.Response:
        raise error("broken")

    book = Book(Recorder(io.StringIO()))
    transport = httpx.MockTransport(broken)
    async with Client(Session("s"), "lhr", "http://edge", book, transport=transport) as client:
        done = await client.add("set", "/api/x", "e", idempotency_key="k", attempt=2)
    assert (done.outcome, done.attempt, done.idempotency_key) == (outcome, 2, "k")
    assert not book.has_written(in_regions=frozenset({"lhr"}), since=0)


async def test_a_request_without_an_answer_in_time_is_given_up_and_unknown() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, _request: httpx.Request) -> httpx.Response:
            await asyncio.Event().wait()
            raise AssertionError

    book = Book(Recorder(io.StringIO()))
    client = Client(Session("s"), "lhr", "http://edge", book,
                    deadline=timedelta(milliseconds=20), transport=Silent())  # fmt: skip
    async with client:
        done, _ = await client.change(ROW, "w")
    assert (done.kind, done.outcome) == (Kind.WRITE, UNKNOWN)
