"""A small world for the edge's tests: real Envoys in front of real uvicorn machines, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from viral_engine.errors import GlobeError
from viral_engine.globe.edge import (
    Backend,
    Check,
    EdgeView,
    HttpService,
    TcpService,
    command,
    healthy,
    publish,
    render,
)
from viral_engine.globe.edge.clusters import cluster_name, directions
from viral_engine.nodes.binaries import Engines

CHECK = Check(interval_s=0.1, timeout_s=5.0, path="/health", failures=1)
HTTP_PORT = 8080


class Addresses:
    """Loopback addresses that no other test of this machine uses."""

    def __init__(self) -> None:
        self._net = f"127.{random.randrange(16, 250)}.{os.getpid() % 250 + 1}"
        self._next = random.randrange(1, 100)

    def take(self) -> str:
        self._next += 1
        return f"{self._net}.{self._next}"


@dataclass
class Seen:
    """A request as a machine got it."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def replay(header: str, status: int = 409) -> Answer:
    return Answer(status, {"fly-replay": header}, b"replay me")


@dataclass
class Machine:
    """An app machine whose health and answers a test sets, and which remembers what it was asked."""

    id: str
    region: str
    address: str
    port: int = 8000
    healthy: bool = True
    answer: Callable[[Seen], Answer | Awaitable[Answer] | None] = lambda _seen: None
    reads_body: bool = True
    seen: list[Seen] = field(default_factory=list)
    checked: asyncio.Event = field(default_factory=asyncio.Event)
    pace: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0.2)

    @property
    def backend(self) -> Backend:
        return Backend(self.id, self.region, self.address, self.port)

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        seen = _seen(scope)
        if seen.target == "/health":
            self.checked.set()
            await _respond(send, Answer(200 if self.healthy else 503))
            return
        self.seen.append(seen)
        if scope["type"] == "websocket":
            await self._websocket(seen, receive, send)
        else:
            await self._http(seen, receive, send)

    async def _http(self, seen: Seen, receive: Any, send: Any) -> None:
        more = self.reads_body
        while more:
            message = await receive()
            seen.body += message.get("body", b"")
            more = message.get("more_body", False)
        if seen.target.startswith("/events"):
            await self._events(send)
            return
        answer = self.answer(seen)
        if isinstance(answer, Awaitable):
            answer = await answer
        await _respond(send, answer or self._default(seen))

    def _default(self, seen: Seen) -> Answer:
        told = {
            "machine": self.id,
            "method": seen.method,
            "target": seen.target,
            "headers": seen.headers,
            "size": len(seen.body),
            "sha": hashlib.sha256(seen.body).hexdigest(),
        }
        return Answer(200, {"content-type": "application/json"}, json.dumps(told).encode())

    async def _events(self, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(3):
            body = f"data: {number}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await self.pace()
        await send({"type": "http.response.body", "body": b""})

    async def _websocket(self, seen: Seen, receive: Any, send: Any) -> None:
        await receive()
        answer = self.answer(seen)
        if isinstance(answer, Answer):
            await _respond(send, answer, "websocket.http.response")
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": f"{self.id}:{message['text']}"})


async def _respond(send: Any, answer: Answer, kind: str = "http.response") -> None:
    headers = [(k.encode(), v.encode()) for k, v in answer.headers.items()]
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": f"{kind}.start", "status": answer.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": answer.body})


def _seen(scope: Any) -> Seen:
    query = scope["query_string"].decode()
    target = scope["raw_path"].decode().split("?")[0] + (f"?{query}" if query else "")
    headers = {k.decode(): v.decode() for k, v in scope["headers"]}
    return Seen(scope.get("method", "WEBSOCKET"), target, headers)


class QuietServer(uvicorn.Server):
    """A uvicorn that leaves the signals to the test runner."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _listening_socket(address: str, port: int) -> socket.socket:
    # asyncio turns Nagle's algorithm off only where the protocol is given, and 40 ms an answer matter.
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.listen(128)
    return made


@asynccontextmanager
async def serving(machine: Machine) -> AsyncIterator[Machine]:
    """Serve a machine until the block ends; then its port is closed, and its connections too."""
    listening = _listening_socket(machine.address, machine.port)
    config = uvicorn.Config(
        machine.app,
        interface="asgi3",
        lifespan="off",
        log_level="error",
        proxy_headers=False,
        timeout_keep_alive=30,
        ws_ping_interval=None,
    )
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield machine
    finally:
        server.force_exit = True
        server.should_exit = True
        await asyncio.wait_for(task, 20)
        listening.close()


@dataclass
class Edge:
    """One running Envoy, what it was told, and a client of it."""

    view: EdgeView
    folder: Path
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient
    log: asyncio.Task[list[str]]

    @property
    def address(self) -> str:
        return self.view.addresses[0]

    def publish(self, view: EdgeView) -> tuple[str, ...]:
        self.view = view
        return publish(self.folder, render(view, self.folder))

    def publish_backends(self, machines: Iterable[Machine]) -> None:
        backends = tuple(m.backend for m in machines)
        self.publish(
            replace(self.view, http=tuple(replace(s, backends=backends) for s in self.view.http))
        )

    async def wait_until_healthy(self, machines: Iterable[Machine]) -> None:
        """Return when each of its clusters, those of replays too, has found just these healthy."""
        wanted = {m.id for m in machines}
        services: tuple[HttpService | TcpService, ...] = (*self.view.http, *self.view.tcp)
        expected = {
            cluster_name(service, toward): {
                backend.machine_id
                for backend in service.backends
                if backend.machine_id in wanted
                and (toward is None or backend.region in {toward, self.view.region})
            }
            for service in services
            for toward in directions(service, self.view)
        }

        async def check() -> bool:
            try:
                return await healthy(self.view) == expected
            except GlobeError:  # silent for longer than it is given
                return False

        await until(check, f"the edge of {self.view.region} finds healthy just {sorted(wanted)}")


async def until(condition: Callable[[], Awaitable[bool]], what: str, limit_s: float = 30.0) -> None:
    """Wait until a condition holds; raises TimeoutError that says what was waited for."""
    try:
        async with asyncio.timeout(limit_s):
            while not await condition():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"waited {limit_s} s until {what}") from None


@asynccontextmanager
async def edge(view: EdgeView) -> AsyncIterator[Edge]:
    """Run an Envoy for a view; ready when it listens."""
    with tempfile.TemporaryDirectory(prefix="edge-") as name:
        folder = Path(name)
        view = replace(view, admin=f"{name}/admin.sock")
        publish(folder, render(view, folder))
        process = await asyncio.create_subprocess_exec(
            *command(folder, Engines(os.environ).envoy()),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        log = asyncio.create_task(_lines(process))
        base = f"http://{view.addresses[0]}:{HTTP_PORT}"
        async with httpx.AsyncClient(base_url=base, timeout=10, trust_env=False) as client:
            running = Edge(view, folder, process, client, log)
            try:
                await until(lambda: _listening(view), f"the edge of {view.region} listens")
                yield running
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                await process.wait()
                lines = await log
                print("".join(lines))  # noqa: T201
        assert not [line for line in lines if "script log" in line], "a Lua script failed"


async def _listening(view: EdgeView) -> bool:
    try:
        _, writer = await asyncio.open_connection(view.addresses[0], HTTP_PORT)
    except OSError:
        return False
    await closed(writer)
    return True


async def closed(writer: asyncio.StreamWriter) -> None:
    """Close a connection, whatever its peer did to it."""
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _lines(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    return [line.decode() async for line in process.stdout]


class World:
    """Machines and one edge, made by the test and gone with it."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self.addresses = Addresses()
        self._stack = stack
        self._lives: dict[str, contextlib.AsyncExitStack] = {}

    async def machine(self, name: str, region: str, *, healthy: bool = True) -> Machine:
        made = Machine(name, region, self.addresses.take(), healthy=healthy)
        await self.serve(made)
        return made

    async def serve(self, machine: Machine) -> None:
        """Serve a machine that the test made, until it is killed or the test ends."""
        life = await self._stack.enter_async_context(contextlib.AsyncExitStack())
        self._lives[machine.id] = life
        await life.enter_async_context(serving(machine))

    async def kill(self, machine: Machine) -> None:
        """Close a machine's port; nothing tells the edge."""
        await self._lives[machine.id].aclose()

    async def listener(
        self,
        address: str,
        port: int,
        handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> None:
        """Serve raw connections until the test ends; each is closed when its handler returns."""

        async def handle_and_close(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter
        ) -> None:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handle(reader, writer)
            await closed(writer)

        server = await asyncio.start_server(handle_and_close, address, port)
        self._stack.callback(server.close)

    async def machines(self, **regions: int) -> list[Machine]:
        """Serve so many machines in each region: lhr=2 makes lhr-1 and lhr-2."""
        return [
            await self.machine(f"{region}-{number + 1}", region)
            for region, count in regions.items()
            for number in range(count)
        ]

    async def edge(
        self,
        region: str,
        machines: Iterable[Machine],
        *,
        check: Check | None = CHECK,
        idle_timeout_s: float = 60.0,
        tcp: tuple[TcpService, ...] = (),
    ) -> Edge:
        """Run the edge of a region, ready when it has found its machines healthy."""
        machines = list(machines)
        address = self.addresses.take()
        others = [r for r in ("lhr", "iad", "nrt") if r != region]
        service = HttpService(
            "web", HTTP_PORT, tuple(m.backend for m in machines), check, idle_timeout_s
        )
        view = EdgeView(region, (address,), address, (region, *others), (service,), tcp)
        made = await self._stack.enter_async_context(edge(view))
        if check is not None:
            await made.wait_until_healthy(m for m in machines if m.healthy)
        return made


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as stack:
        yield World(stack)
