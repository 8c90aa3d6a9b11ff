"""The client against a platform in this process: what the wire says becomes ours."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from viral_engine.errors import (
    BadRequestError,
    ConflictError,
    DeadlineError,
    NotFoundError,
    PlatformError,
)
from viral_engine.fly.client import FlyClient
from viral_engine.fly.extension import GlobeExtension
from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.fly.pace import Retries

Answer = Callable[[Request], Response]


class Platform:
    """Answers every request by ``answer`` and remembers them."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _: JSONResponse({})
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        methods = ["GET", "POST", "DELETE"]
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=methods)])

    async def _take(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw) if raw else None
        self.asked.append((request.method, request.url.path, dict(request.query_params), body))
        self.headers = request.headers
        return self.answer(request)


@pytest.fixture
def wire() -> Platform:
    return Platform()


@pytest.fixture
async def client(wire: Platform) -> AsyncIterator[FlyClient]:
    made = FlyClient("http://platform/v1/", "secret", retries=Retries(attempts=1))
    await made.http.aclose()
    made.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=wire.app), base_url=made.http.base_url,
        headers=made.http.headers,
    )  # fmt: skip
    async with made:
        yield made


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError), (401, PlatformError), (404, NotFoundError), (408, DeadlineError),
        (409, ConflictError), (412, ConflictError), (422, PlatformError), (500, PlatformError),
        (307, PlatformError),
    ],
)  # fmt: skip
async def test_an_error_of_the_wire_becomes_ours_with_its_words(
    wire: Platform, client: FlyClient, status: int, kind: type[PlatformError]
) -> None:
    wire.answer = lambda _: JSONResponse({"error": "words"}, status_code=status)
    with pytest.raises(PlatformError) as raised:
        await client.get_app("shop")
    assert (type(raised.value), raised.value.status, raised.value.message) == (
        kind,
        status,
        "words",
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": null}', b"\xff"])
async def test_an_error_without_words_is_told_by_its_status(
    wire: Platform, client: FlyClient, body: bytes
) -> None:
    wire.answer = lambda _: Response(body, status_code=502)
    with pytest.raises(PlatformError, match="answered 502 Bad Gateway"):
        await client.get_app("shop")


async def test_a_success_that_is_not_json_is_an_error_of_ours(
    wire: Platform, client: FlyClient
) -> None:
    wire.answer = lambda _: Response(b"<html>log in</html>")
    with pytest.raises(PlatformError, match="not JSON"):
        await client.list_apps()


async def test_a_client_of_one_deployment_lists_no_app_of_another(
    wire: Platform, client: FlyClient
) -> None:
    client.only = ("shop", "shop-db")
    there = JSONResponse({"id": "shop", "name": "shop"})
    wire.answer = lambda asked: (
        there if asked.url.path == "/v1/apps/shop" else JSONResponse({}, status_code=404)
    )
    assert [app.name for app in await client.list_apps()] == ["shop"]
    assert [path for _, path, *_ in wire.asked] == ["/v1/apps/shop", "/v1/apps/shop-db"]


async def test_a_platform_that_does_not_answer_is_an_error_with_a_remedy() -> None:
    def broken(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    client = FlyClient("http://platform", "secret", retries=Retries(attempts=1))
    await client.http.aclose()
    client.http = httpx.AsyncClient(
        transport=httpx.MockTransport(broken), base_url="http://platform"
    )
    async with client:
        with pytest.raises(PlatformError, match="did not answer: refused") as raised:
            await client.list_machines("shop")
        assert "viral status" in raised.value.suggestion
        with pytest.raises(PlatformError, match="stream of lines broke: refused"):
            await anext(GlobeExtension(client).logs())


async def test_the_base_url_may_end_in_the_version_and_the_token_is_sent(
    wire: Platform, client: FlyClient
) -> None:
    wire.answer = lambda _: JSONResponse({"id": "shop", "name": "shop"})
    await client.get_app("shop")
    assert wire.asked[0][:2] == ("GET", "/v1/apps/shop")
    assert wire.headers["authorization"] == "Bearer secret"


async def test_a_long_wait_is_made_of_several(wire: Platform, client: FlyClient) -> None:
    late = JSONResponse({"error": "deadline_exceeded"}, status_code=408)
    answers = iter([late, late, JSONResponse({"ok": True})])
    wire.answer = lambda _: next(answers)
    timeout = timedelta(seconds=150)
    await client.wait_for("shop", "m1", MachineState.STARTED, timeout=timeout)
    assert [asked[2] for asked in wire.asked] == [
        {"state": "started", "timeout": "60"},
        {"state": "started", "timeout": "60"},
        {"state": "started", "timeout": "30"},
    ]


@pytest.mark.parametrize(("seconds", "waits"), [(0, 1), (0.4, 1), (60, 1), (60.5, 2), (121, 3)])
async def test_a_wait_gives_up_when_its_time_is_over(
    wire: Platform, client: FlyClient, seconds: float, waits: int
) -> None:
    wire.answer = lambda _: JSONResponse({"error": "late"}, status_code=408)
    with pytest.raises(DeadlineError):
        await client.wait_for(
            "shop", "m1", MachineState.STARTED, timeout=timedelta(seconds=seconds)
        )
    assert len(wire.asked) == waits
    assert all(1 <= int(asked[2]["timeout"]) <= 60 for asked in wire.asked)


async def test_a_wait_for_a_machine_that_is_gone_ends_at_once(
    wire: Platform, client: FlyClient
) -> None:
    wire.answer = lambda _: JSONResponse({"error": "gone"}, status_code=404)
    with pytest.raises(NotFoundError):
        await client.wait_for("a", "m", MachineState.STARTED, timeout=timedelta(hours=1))
    assert len(wire.asked) == 1


async def test_an_update_waits_as_long_as_a_machine_may_take_to_stop(client: FlyClient) -> None:
    waited: list[object] = []

    def take(request: httpx.Request) -> httpx.Response:
        waited.append(request.extensions["timeout"]["read"])
        return httpx.Response(404, json={"error": "none"})

    await client.http.aclose()
    client.http = httpx.AsyncClient(transport=httpx.MockTransport(take), base_url="http://platform")
    for call in (
        client.update_machine("a", "m", MachineConfig(image="x")),
        client.restart_machine("a", "m"),
        client.exec("a", "m", ["ls"], timeout=timedelta(seconds=90)),
    ):
        with pytest.raises(NotFoundError):
            await call
    assert waited == [330, 330, 100]


async def test_a_fault_is_undone_however_its_block_ends(wire: Platform, client: FlyClient) -> None:
    wire.answer = lambda request: JSONResponse({"id": "f1"} if request.method == "POST" else {})

    async def broken() -> None:
        async with GlobeExtension(client).fault("cut", regions=("iad", "lhr")) as fault:
            raise KeyError(fault)

    with pytest.raises(KeyError, match="f1"):
        await broken()
    assert [(asked[0], asked[1]) for asked in wire.asked] == [
        ("POST", "/v1/globe/faults"),
        ("DELETE", "/v1/globe/faults/f1"),
    ]
    assert wire.asked[0][3] == {
        "kind": "cut",
        "regions": ["iad", "lhr"],
        "machine": "",
        "amount": 0,
    }


async def test_lines_are_streamed_and_a_refusal_is_ours(wire: Platform, client: FlyClient) -> None:
    wire.answer = lambda _: StreamingResponse(iter(['{"line": "a"}\n{"li', 'ne": "b"}\n']))
    extension = GlobeExtension(client)
    assert [e["line"] async for e in extension.logs(region="iad", follow=True)] == ["a", "b"]
    assert wire.asked[0][2] == {"follow": "true", "region": "iad"}
    wire.answer = lambda _: JSONResponse({"error": "no"}, status_code=401)
    with pytest.raises(PlatformError, match="401") as raised:
        await anext(extension.logs())
    assert raised.value.status == 401
