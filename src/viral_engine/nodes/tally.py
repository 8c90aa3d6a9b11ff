from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from urllib.parse import parse_qs, urlencode

from viral_engine.clock import wait_until
from viral_engine.cluster.wire import UnreachableError, call
from viral_engine.errors import UnsupportedError, WaitTimeoutError
from viral_engine.nodes.admission import App, Message, Receive, Scope, Send
from viral_engine.nodes.machine import netloc
from viral_engine.observe.requests import RequestCounts, RequestFigures
from viral_engine.topology.here import Here

__all__ = ["TALLY_PATH", "Tally", "ask_tally"]

TALLY_PATH = "/.viral/requests"
"""Where an app machine tells what it answered, to whoever asks it without going by an edge."""

LOOK_EVERY = timedelta(milliseconds=50)
LONGEST_WATCH_S = 60.0
ANSWER_LIMIT = timedelta(seconds=5)

_OURS = "/.viral/"
_BY_AN_EDGE = b"fly-client-ip"
_MOVED_ON = b"fly-replay"


class Tally:
    """Counts what users are answered: how much, how much of it failed, how long it took to begin.

    The platform's checks (``health_path``), our own questions, WebSockets and what is sent on to
    another machine do not count. The figures are told at TALLY_PATH: with ``?failed=N&within=SECONDS`` as soon as so
    many have failed, or when the time is over; ``watchers`` are those who wait for that.
    """

    def __init__(self, app: App, *, health_path: str, run: str) -> None:
        self._app = app
        self._health_path = health_path
        self.counts = RequestCounts(run)
        self.watchers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's scope."""
        path = scope.get("path", "")
        ours = path.startswith(_OURS) and not _has(scope, _BY_AN_EDGE)
        if ours and path == TALLY_PATH:
            await self._tell(scope, send)
        elif ours or scope["type"] != "http" or path == self._health_path:
            await self._app(scope, receive, send)
        else:
            await self._count(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        counts, began, begun = self.counts, time.perf_counter(), False

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start" and not begun:
                begun = True
                status = message["status"]
                if status < 400 or not _has(message, _MOVED_ON):
                    counts.answer(status, time.perf_counter() - began)
            await send(message)

        counts.inside += 1
        try:
            await self._app(scope, receive, counted)
        except Exception:
            if not begun:  # the server answers 500 in its place
                counts.answer(500, time.perf_counter() - began)
            raise
        finally:
            counts.inside -= 1

    async def _tell(self, scope: Scope, send: Send) -> None:
        status, said = 200, b"failed and within must be numbers"
        try:
            asked = parse_qs(scope.get("query_string", b"").decode())
            failed, within = (
                int(asked.get("failed", ["0"])[0]),
                float(asked.get("within", ["0"])[0]),
            )
        except ValueError:
            status = 400
        else:
            await self._watch(failed, min(within, LONGEST_WATCH_S))
            facts = self.counts.figures().facts() | {"watchers": self.watchers}
            said = json.dumps(facts).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(said))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": said})

    async def _watch(self, failed: int, within: float) -> None:
        self.watchers += within > 0
        try:
            with suppress(WaitTimeoutError):
                await wait_until(
                    lambda: self.counts.failed >= failed, timeout=timedelta(seconds=within),
                    interval=LOOK_EVERY, waiting_for="requests to fail",
                )  # fmt: skip
        finally:
            self.watchers -= within > 0


def _has(what: Scope | Message, header: bytes) -> bool:
    return any(name == header for name, _ in what.get("headers", ()))


async def ask_tally(
    environ: Mapping[str, str], *, failed: int = 0, within: float = 0.0
) -> dict[str, object]:
    """Return what this machine's app answered, as ``Tally`` tells it.

    Raises UnsupportedError where nobody counts that: the process is not ours, or is silent.
    """
    here = Here.from_environ(environ)
    # On Fly.io the process listens on every address, since its own is IPv6 and the proxy's is not.
    host = here.private_ip if "." in here.private_ip else "127.0.0.1"
    question = urlencode({"failed": failed, "within": within} if within else {"failed": failed})
    try:
        reply = await call(
            f"http://{netloc(host, here.port)}{TALLY_PATH}?{question}",
            timeout=ANSWER_LIMIT + timedelta(seconds=within),
        )
        if not isinstance(reply.body, dict):
            raise UnsupportedError(f"The app of this machine counts no requests: {reply.status}.")
        figures = RequestFigures.from_facts(reply.body)
    except UnreachableError as error:
        raise UnsupportedError(f"The app of this machine does not answer: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnsupportedError(f"The app of this machine counts no requests: {error!r}") from error
    return figures.facts() | {"watchers": reply.body.get("watchers", 0)}
