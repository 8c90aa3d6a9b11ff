"""What a machine's own health check asks, by what the machine is."""

from __future__ import annotations

import pytest

from viral_engine.cluster.wire import Reply, UnreachableError
from viral_engine.nodes import healthy
from viral_engine.operations.blueprint import Addresses, Blueprint, places
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import default_deployment

HERE = {"FLY_PRIVATE_IP": "127.1.2.3", "PORT": "8080"}


async def asked_of(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], status: int = 200
) -> tuple[str, list[str]]:
    asked: list[str] = []

    async def call(url: str) -> Reply:
        asked.append(url)
        if not status:
            raise UnreachableError("silent")
        return Reply(status, "")

    monkeypatch.setattr(healthy, "call", call)
    return await healthy.ailment({**HERE, **environ}), asked


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({}, "http://127.1.2.3:8080/api/health"),
        ({"VIRAL_HEALTH_PATH": "/up", "PORT": "81"}, "http://127.1.2.3:81/up"),
        ({"FLY_PRIVATE_IP": "fdaa::3"}, "http://127.0.0.1:8080/api/health"),
        ({"FLY_PROCESS_GROUP": "database"}, "http://127.1.2.3:8008/readiness"),
        ({"FLY_PROCESS_GROUP": "witness", "FLY_PRIVATE_IP": "fdaa::3"}, "http://[fdaa::3]:2379/health"),
    ],
)  # fmt: skip
async def test_each_kind_of_machine_is_asked_where_it_answers(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], url: str
) -> None:
    assert await asked_of(monkeypatch, environ) == ("", [url])


async def test_silence_and_a_bad_answer_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await asked_of(monkeypatch, {}, status=0))[0] == "silent"
    assert (await asked_of(monkeypatch, {}, status=503))[0] == "/api/health answered 503"
    assert "127.0.0.1:6379" in await healthy.ailment(
        {"FLY_PROCESS_GROUP": "cache", "FLY_PRIVATE_IP": "127.0.0.1"}
    )


def test_it_asks_what_the_platforms_own_checks_ask() -> None:
    deployment = default_deployment()
    here = dict.fromkeys((*deployment.region_codes, "yyz"), "10.10.1.10")
    blueprint = Blueprint(
        deployment, Secrets.make(), Addresses(here, here, here, here), "image", "app", {}
    )
    checks = {
        place.role: {(c.type, c.port, c.path) for c in config.checks.values()}
        for place in places(deployment)
        for config in [blueprint.config(place, "vol_1")]
    }
    assert ("http", 8008, "/readiness") in checks["database"]
    assert ("http", 2379, "/health") in checks["witness"]
    assert {(kind, port) for kind, port, _ in checks["cache"]} == {("tcp", 6379)}
