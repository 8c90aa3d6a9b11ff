"""What is read of a body that is refused, so that its sender hears why."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from viral_engine.web import BodyLimit, asgi
from viral_engine.web.asgi import Message, Receive, Scope, Send, drain
from viral_engine.web.once import body_of

MIB = 1024 * 1024


class Upload:
    """A sender of so many pieces of a MiB, who then says nothing more."""

    def __init__(self, pieces: int, *, ends: bool = True) -> None:
        self.left = pieces
        self._ends = ends

    async def receive(self) -> Message:
        if not self.left:
            await asyncio.Event().wait()
        self.left -= 1
        more = bool(self.left) or not self._ends
        return {"type": "http.request", "body": b"x" * MIB, "more_body": more}


def _scope(declared: int | None, **headers: str) -> Scope:
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    if declared is not None:
        fields.append((b"content-length", str(declared).encode()))
    return {"type": "http", "method": "POST", "path": "/", "headers": fields}


async def _status(scope: Scope, upload: Upload) -> int:
    """The answer of an app that reads all, within a limit of 2 MiB."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async with asyncio.timeout(5):
        await BodyLimit(_reader, limit=2 * MIB)(scope, upload.receive, send)
    return int(sent[0]["status"])


async def _reader(_scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})


@pytest.mark.parametrize("pieces", [3, 6])
@pytest.mark.parametrize("declared", [False, True])
async def test_a_refused_body_is_read_to_its_end_and_no_further(
    pieces: int, *, declared: bool
) -> None:
    upload = Upload(pieces)
    status = await _status(_scope(pieces * MIB if declared else None), upload)
    assert (status, upload.left) == (413, 0)


async def test_a_refused_body_is_read_so_where_it_cannot_be_handed_on() -> None:
    upload = Upload(6)
    async with asyncio.timeout(5):
        assert not await drain(_scope(None), upload.receive)
    assert upload.left == 0


async def test_a_refused_body_is_read_so_where_its_request_has_a_key() -> None:
    upload = Upload(6)
    async with asyncio.timeout(5):
        assert await body_of(_scope(None), upload.receive) is None
    assert upload.left == 0


async def test_no_more_than_64_mib_are_read_of_a_body_without_an_end() -> None:
    upload = Upload(1000)
    assert await _status(_scope(None), upload) == 413
    assert 1000 - upload.left in range(64, 70)


async def test_nothing_is_read_of_a_body_that_declares_more_than_would_be() -> None:
    upload = Upload(1000)
    assert await _status(_scope(65 * MIB), upload) == 413
    assert upload.left == 1000


async def test_nothing_is_read_where_the_client_waits_to_be_told_to_send() -> None:
    upload = Upload(6)
    assert await _status(_scope(6 * MIB, expect="100-continue"), upload) == 413
    assert upload.left == 6


async def test_a_sender_who_stops_is_answered_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_LINGER", timedelta(milliseconds=20))
    assert await _status(_scope(6 * MIB), Upload(3, ends=False)) == 413
