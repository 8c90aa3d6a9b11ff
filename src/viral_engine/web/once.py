from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from viral_engine.data import FirstAnswer, RequestKey, RequestRoute, RequestTransaction
from viral_engine.errors import DatabaseError
from viral_engine.web.asgi import MAX_REPLAY_BODY, App, Message, Receive, Scope, Send, linger
from viral_engine.web.kept import KeptAnswer, send_first_answer
from viral_engine.web.problem import Problem, database_problem, send_problem

__all__ = ["KeepsFirstAnswers", "Once", "body_of", "key_of", "received_again"]

LONGEST_KEY = 255
_BAD_KEY = Problem(
    400,
    "bad-idempotency-key",
    f"An idempotency-key is one header of 1 to {LONGEST_KEY} printable ASCII characters.",
    (),
)
_BODY_TOO_LARGE = Problem(
    413,
    "body-too-large",
    "A request with an idempotency-key has a body of at most 1 MiB.",
    (),
)
_KEY_REUSED = Problem(
    422,
    "idempotency-key-reused",
    "This idempotency-key was used for a different request.",
    (),
)
_TOO_LONG_TO_KEEP = Problem(
    500,
    "answer-too-long",
    "The answer is longer than the 1 MiB that is kept for an idempotency-key; nothing was changed.",
    (),
)


class KeepsFirstAnswers(Protocol):
    """What is needed of the data room to do a request once."""

    def once(
        self, bound: RequestRoute, key: RequestKey
    ) -> AbstractAsyncContextManager[FirstAnswer | RequestTransaction]:
        """Give the first answer to ``key``, or the transaction to do it in."""


class Once:
    """Serves a request with an idempotency key so that its effect happens once.

    The handler runs in one transaction, which is committed together with its answer before any of
    that is sent; a repetition gets the first answer. An answer of 500 and above is not kept and
    nothing of its request is done. Bodies and answers are held in memory, at most 1 MiB each.
    """

    def __init__(self, app: App, first_answers: KeepsFirstAnswers) -> None:
        self._app = app
        self._first_answers = first_answers

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, *, bound: RequestRoute,
        text: str, tenant: str,
    ) -> None:  # fmt: skip
        """Serve the request whose key is ``text``."""
        if not (0 < len(text) <= LONGEST_KEY and text.isascii() and text.isprintable()):
            await send_problem(scope, send, _BAD_KEY)
            return
        body = await body_of(scope, receive)
        if body is None:
            await send_problem(scope, send, _BODY_TOO_LARGE)
            return
        key = key_of(scope, text, body, tenant=tenant)
        # What a server offers beside plain messages, such as sending a file, cannot be kept.
        scope = {**scope, "extensions": {}}
        kept = KeptAnswer()
        try:
            async with self._first_answers.once(bound, key) as found:
                if isinstance(found, RequestTransaction):
                    await self._app(scope, received_again(body, receive), kept.send)
                    if kept.is_worth_keeping:
                        await found.end(kept.as_first(key))
        except DatabaseError as error:
            await send_problem(scope, send, database_problem(error))
            return
        if isinstance(found, RequestTransaction):
            await self._give(scope, send, kept)
        elif found.fingerprint == key.fingerprint:
            await send_first_answer(found, send)
        else:
            await send_problem(scope, send, _KEY_REUSED)

    async def _give(self, scope: Scope, send: Send, kept: KeptAnswer) -> None:
        if kept.is_whole:
            await kept.send_to(send)
        else:
            await send_problem(scope, send, _TOO_LONG_TO_KEEP)


async def body_of(scope: Scope, receive: Receive, *, limit: int = MAX_REPLAY_BODY) -> bytes | None:
    """Return a request's whole body; None when it is longer than ``limit`` bytes or its end never came."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > limit:
            if more:
                await linger(scope, receive)
            return None
        if not more:
            return b"".join(parts)


def received_again(body: bytes, receive: Receive) -> Receive:
    """Return what hands out a body that was read already, and then what comes after it."""
    handed = False

    async def again() -> Message:
        nonlocal handed
        if handed:
            return await receive()
        handed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def key_of(scope: Scope, text: str, body: bytes, *, tenant: str) -> RequestKey:
    """Return the key of a request; what it asks is its method, path, query, If-Match and body."""
    digest = hashlib.sha256()
    demands = b",".join(value for name, value in scope["headers"] if name == b"if-match")
    method, path = scope["method"].encode(), scope["path"].encode()
    for part in (method, path, scope["query_string"], demands, body):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    return RequestKey(tenant, text, digest.digest())
