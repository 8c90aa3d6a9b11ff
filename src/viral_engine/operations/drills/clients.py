"""Simulated users: each has one connection to the edge of its region, and tells all it saw."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Self

import httpx

from viral_engine.operations.drills.history import (
    Kind,
    Operation,
    Outcome,
    Recorder,
    Step,
    Value,
)
from viral_engine.operations.drills.outcomes import Answer, read_outcome, write_outcome

__all__ = ["Book", "Call", "Client", "Row", "Seen", "Session"]

DEADLINE = timedelta(seconds=5)


class Book:
    """Where all clients of a run write down what they do; ``ended`` has it in the order of answers."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.ended: list[Operation] = []

    def has_written(self, *, in_regions: frozenset[str], since: int) -> bool:
        """Tell whether a write that was called in those regions after ``since`` (ns) succeeded."""
        return any(
            one.kind is not Kind.READ
            and one.outcome is Outcome.OK
            and one.called_at > since
            and one.region_asked in in_regions
            for one in reversed(self.ended)
        )


@dataclass(slots=True)
class Session:
    """What goes from a client's answer into its next request, in whichever region that is sent.

    ``dropped`` is the control arm: a client that forgets its token each time.
    """

    name: str
    dropped: bool = False
    token: str = ""

    def learn(self, answer: Answer) -> None:
        """Keep what an answer gives."""
        self.token = answer.headers.get("viral-session", self.token)

    def headers(self) -> dict[str, str]:
        """Return what goes with the next request."""
        return {"viral-session": self.token} if self.token and not self.dropped else {}


@dataclass(frozen=True, slots=True)
class Row:
    """A row that is read and written: its key in the history, its path, and which field counts."""

    key: str
    path: str
    field: str


@dataclass(frozen=True, slots=True)
class Call:
    """A request to be sent, and what is meant by it: ``kind`` and ``key`` of the history."""

    kind: Kind
    key: str
    method: str
    path: str
    body: Mapping[str, object] | None = None
    written: Value = None
    steps: tuple[Step, ...] = ()
    idempotency_key: str = ""
    attempt: int = 1
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a good answer to a call shows: one value, or steps of a transaction."""

    found: Value = None
    steps: tuple[Step, ...] | None = None


class Client:
    """One user of ``region``: one connection to its edge, one request at a time, each recorded.

    A request that has no answer within ``deadline`` is given up, and its outcome is unknown.
    ``transport`` takes the network's place in tests of this class.
    """

    def __init__(
        self,
        session: Session,
        region: str,
        url: str,
        book: Book,
        *,
        deadline: timedelta = DEADLINE,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.session = session
        self.region = region
        self._book = book
        self._deadline = deadline.total_seconds()
        self._http = httpx.AsyncClient(
            base_url=url,
            # The token is the session's; a cookie would keep it where it should be dropped.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            timeout=None,  # noqa: S113 - the deadline is kept below, for the whole request
            trust_env=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request that is not part of the history, with the session's token."""
        sent = True
        try:
            async with asyncio.timeout(self._deadline):
                got = await self._http.request(
                    method, path, json=body, headers={**self.session.headers(), **(headers or {})}
                )
        except httpx.ConnectError:
            sent = False
        except (httpx.HTTPError, TimeoutError):
            pass
        else:
            answer = Answer(got.status_code, got.headers, _members(got), got.text[:80])
            self.session.learn(answer)
            return answer
        return Answer(0, sent=sent)

    async def read(self, row: Row) -> Operation:
        """Read a row and return what was recorded."""
        begun = self._book.recorder.begin(
            Kind.READ, row.key, client=self.session.name, session=self.session.name,
            region_asked=self.region, token_dropped=self.session.dropped,
        )  # fmt: skip
        answer = await self.ask("GET", row.path)
        outcome = read_outcome(answer)
        found = answer.body.get(row.field) if answer.status == 200 else None
        return self._ended(begun, answer, outcome, found=found)

    async def change(
        self, row: Row, value: str, *, at: int | None = None, instead_of: Value = None
    ) -> tuple[Operation, Answer]:
        """Write a row; with ``at`` only over that version of it, which holds ``instead_of``."""
        key = uuid.uuid4().hex
        begun = self._book.recorder.begin(
            Kind.WRITE if at is None else Kind.CAS, row.key,
            client=self.session.name, session=self.session.name, written=value,
            expected=instead_of, if_match=at, region_asked=self.region,
            token_dropped=self.session.dropped, idempotency_key=key,
        )  # fmt: skip
        headers = {"idempotency-key": key} | ({} if at is None else {"if-match": f'"{at}"'})
        answer = await self.ask("PATCH", row.path, body={row.field: value}, headers=headers)
        return self._ended(begun, answer, write_outcome(answer)), answer

    async def add(
        self, key: str, path: str, name: str, *, idempotency_key: str, attempt: int
    ) -> Operation:
        """Add an element by that name; attempts with one key are one request."""
        begun = self._book.recorder.begin(
            Kind.WRITE, key, client=self.session.name, session=self.session.name, written=name,
            region_asked=self.region, token_dropped=self.session.dropped,
            idempotency_key=idempotency_key, attempt=attempt,
        )  # fmt: skip
        headers = {"idempotency-key": idempotency_key}
        answer = await self.ask("POST", path, body={"name": name}, headers=headers)
        return self._ended(begun, answer, write_outcome(answer))

    async def act(self, call: Call, seen: Callable[[Answer], Seen]) -> Operation:
        """Send a call and return what was recorded; ``seen`` reads a good answer."""
        begun = self._book.recorder.begin(
            call.kind, call.key, client=self.session.name, session=self.session.name,
            written=call.written, region_asked=self.region, token_dropped=self.session.dropped,
            idempotency_key=call.idempotency_key, attempt=call.attempt, steps=call.steps,
        )  # fmt: skip
        once = {"idempotency-key": call.idempotency_key} if call.idempotency_key else {}
        answer = await self.ask(
            call.method, call.path, body=call.body, headers={**call.headers, **once}
        )
        is_read = call.kind is Kind.READ
        outcome = read_outcome(answer) if is_read else write_outcome(answer)
        shown = seen(answer) if 200 <= answer.status < 300 else Seen()
        return self._ended(begun, answer, outcome, found=shown.found, steps=shown.steps)

    def _ended(
        self,
        begun: Operation,
        answer: Answer,
        outcome: Outcome,
        *,
        found: Value = None,
        steps: tuple[Step, ...] | None = None,
    ) -> Operation:
        route, reason = answer.route
        ended = self._book.recorder.end(
            begun, outcome, found=found, steps=steps, mismatched=answer.mismatched,
            revision=answer.revision if outcome is Outcome.OK else None,
            region_served=answer.headers.get("viral-region", ""), route=route,
            reason=reason or answer.problem or answer.text[:6] * (answer.status >= 500),
            told_lost=answer.told_lost,
        )  # fmt: skip
        self._book.ended.append(ended)
        return ended


def _members(answer: httpx.Response) -> Mapping[str, Any]:
    if "json" not in answer.headers.get("content-type", ""):
        return {}
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
