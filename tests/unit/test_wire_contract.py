"""The documented types hold the globe, our client and our client's model to the same words."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import httpx
import pytest
from tests.unit.deploy_values import blueprint
from tests.wire.contract import (
    PREFIX,
    Checked,
    WireError,
    call_of,
    calls,
    definitions,
    example,
    examples,
    faults,
    wrong_in_request,
)

from viral_engine.fly import model
from viral_engine.fly.app_settings import AppSettings
from viral_engine.fly.client import FlyClient
from viral_engine.fly.connection import Connection
from viral_engine.fly.leases import lease_of, leased
from viral_engine.fly.pace import Retries
from viral_engine.globe.api.routes import machines_api
from viral_engine.globe.platform import Platform
from viral_engine.operations.blueprint import Addresses, places
from viral_engine.topology.model import default_deployment

OBJECTS = {name: made for name, made in examples() if isinstance(made, dict)}

READ_AS: dict[str, type[model.Wire]] = {
    "App": model.App, "Machine": model.Machine, "Config": model.MachineConfig,
    "ConfigAsked": model.MachineConfig, "Guest": model.Guest, "Init": model.Init,
    "Service": model.Service, "ServiceAsked": model.Service, "Port": model.Port,
    "Concurrency": model.Concurrency, "ServiceCheck": model.Check, "MachineCheck": model.Check,
    "Header": model.Header, "Mount": model.Mount, "Restart": model.Restart,
    "StopConfig": model.StopConfig, "Event": model.Event, "CheckStatus": model.CheckStatus,
    "Volume": model.Volume, "Executed": model.ExecResult, "Secret": model.Secret,
    "Address": model.Address, "Certificate": model.Certificate,
    "DnsRequirements": model.DnsRequirements, "AcmeChallenge": model.AcmeChallenge,
}  # fmt: skip


def test_every_call_that_the_globe_serves_is_documented_and_no_other() -> None:
    served = {
        f"{method} {route.path.removeprefix(PREFIX)}"
        for route in machines_api(cast("Platform", None))
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {call.name.partition("?")[0] for call in calls()} == served


@pytest.mark.parametrize("name", OBJECTS)
def test_a_type_takes_its_example_and_nothing_that_is_wrong_in_one_place(name: str) -> None:
    whole, schema = OBJECTS[name], definitions()[name]
    assert faults(name, whole) == []
    assert faults(name, whole | {"undocumented": 1}) != []
    for member in whole:
        assert faults(name, whole | {member: [[[]]]}) != [], member
        without = {key: value for key, value in whole.items() if key != member}
        assert bool(faults(name, without)) is (member in schema["required"]), member


@pytest.mark.parametrize("name", READ_AS)
def test_f02_our_model_reads_every_documented_type(name: str) -> None:
    whole = OBJECTS[name]
    read = READ_AS[name].model_validate(whole).to_wire()
    assert {key for key, value in whole.items() if value is not None} <= set(read)
    least = {key: whole[key] for key in definitions()[name]["required"]}
    if name not in {"Mount", "Volume"}:  # the documentation has examples of the whole only
        READ_AS[name].model_validate(least)


def test_f02_our_model_reads_every_state_and_a_machine_whose_host_is_unreachable() -> None:
    states = [one["const"] for one in definitions()["State"]["anyOf"]]
    assert {str(state) for state in model.MachineState} == set(states)
    policies = [one["const"] for one in definitions()["Restart"]["properties"]["policy"]["anyOf"]]
    assert {str(policy) for policy in model.RestartPolicy} == set(policies)
    whole = OBJECTS["Machine"]
    lost = {key: value for key, value in whole.items() if key != "config"}
    lost |= {"host_status": "unreachable", "incomplete_config": {"metadata": {"a": "b"}}}
    assert model.Machine.model_validate(lost).config.metadata == {"a": "b"}


class Recorder:
    """Answers every call with the example of its documented answer, and keeps the requests."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        call = call_of(request)
        assert call is not None, request.url
        ((status, type_),) = call.answers.items()
        if not type_:
            return httpx.Response(status)
        told = example(type_)
        if isinstance(told, dict):
            told.pop("next_cursor", None)  # the first page is all there is
        return httpx.Response(status, json=told)


async def connected(answer: Callable[[httpx.Request], httpx.Response]) -> FlyClient:
    client = FlyClient("http://platform", "secret", retries=Retries(attempts=1))
    base, headers = client.http.base_url, client.http.headers
    await client.http.aclose()
    transport = Checked(httpx.MockTransport(answer), requests=True)
    client.http = httpx.AsyncClient(transport=transport, base_url=base, headers=headers)
    return client


CONFIG = model.MachineConfig.model_validate(
    OBJECTS["ConfigAsked"] | {"services": [OBJECTS["ServiceAsked"] | {"autostop": "off"}]}
)


def used(client: FlyClient) -> dict[str, Any]:
    """Every call of the client and of its settings, by name, with values as they are used."""
    settings, seconds = AppSettings(client), timedelta(seconds=1.5)
    started, stopped = model.MachineState.STARTED, model.MachineState.STOPPED
    return {
        "create_app": [client.create_app("shop")],
        "get_app": [client.get_app("shop")],
        "list_apps": [client.list_apps()],
        "list_machines": [client.list_machines("shop"), client.list_machines("shop", region="iad")],
        "get_machine": [client.get_machine("shop", "m")],
        "create_machine": [
            client.create_machine("shop", name="a", region="iad", config=CONFIG),
            client.create_machine(
                "shop", name="a", region="iad", config=CONFIG, launch=False, registered=False
            ),
        ],
        "update_machine": [client.update_machine("shop", "m", CONFIG, launch=False)],
        "start_machine": [client.start_machine("shop", "m")],
        "stop_machine": [
            client.stop_machine("shop", "m"),
            client.stop_machine("shop", "m", signal="SIGTERM", timeout="10s"),
        ],
        "restart_machine": [client.restart_machine("shop", "m")],
        "signal_machine": [client.signal_machine("shop", "m", "SIGUSR1")],
        "cordon_machine": [client.cordon_machine("shop", "m")],
        "uncordon_machine": [client.uncordon_machine("shop", "m")],
        "delete_machine": [client.delete_machine("shop", "m", force=True)],
        "events": [client.events("shop", "m")],
        "exec": [client.exec("shop", "m", ["ls"], timeout=seconds)],
        "wait_for": [client.wait_for("shop", "m", s, timeout=seconds) for s in (started, stopped)],
        "list_volumes": [client.list_volumes("shop")],
        "create_volume": [client.create_volume("shop", name="data", region="iad", size_gb=3)],
        "delete_volume": [client.delete_volume("shop", "v")],
        "regions": [client.regions()],
        "secrets": [settings.secrets("shop")],
        "set_secrets": [settings.set_secrets("shop", {"A": "b", "GONE": None})],
        "addresses": [settings.addresses("shop")],
        "add_address": [settings.add_address("shop", "shared_v4")],
        "certificates": [settings.certificates("shop")],
        "add_certificate": [settings.add_certificate("shop", "a.example.com")],
        "certificate": [settings.certificate("shop", "a.example.com")],
    }


def test_f02_every_machine_that_a_deploy_makes_is_as_documented() -> None:
    wanted = places(default_deployment())
    database, witness, cache = (
        {place.region: "10.0.0.1" for place in wanted if place.role == role}
        for role in ("database", "witness", "cache")
    )
    primary = dict.fromkeys(database, "10.0.0.1")
    made = replace(blueprint(), addresses=Addresses(database, witness, cache, primary))
    for place in wanted:
        config = made.config(place, example("VolumeId"))
        assert faults("ConfigAsked", config.to_wire()) == [], place
    assert faults("ConfigAsked", made.migration().to_wire()) == []
    assert {place.role for place in wanted} >= {"app", "database", "witness", "cache"}


async def test_f02_every_request_of_our_client_is_as_documented() -> None:
    recorder = Recorder()
    async with await connected(recorder) as client:
        made = used(client)
        for work in (one for several in made.values() for one in several):
            await work
        async with leased(client, "shop", "m", "a deploy"):
            await lease_of(client, "shop", "m")
    public = {
        name
        for kind in (FlyClient, AppSettings)
        for name, _ in inspect.getmembers(kind, inspect.iscoroutinefunction)
        if not name.startswith("_") and not hasattr(Connection, name)
    }
    assert set(made) == public


async def test_whether_a_machine_stopped_is_asked_of_its_version_of_now() -> None:
    recorder = Recorder()
    async with await connected(recorder) as client:
        await client.wait_for("shop", "m", model.MachineState.STOPPED, timeout=timedelta(seconds=5))
    version = OBJECTS["Machine"]["instance_id"]
    assert dict(recorder.asked[-1].url.params) == {
        "state": "stopped", "version": version, "timeout": "5",
    }  # fmt: skip


async def test_hostnames_beyond_the_first_answer_are_asked_for() -> None:
    row = OBJECTS["CertificateSummary"]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("cursor") == "more":
            return httpx.Response(200, json={"certificates": [row | {"hostname": "b"}]})
        return httpx.Response(
            200, json={"certificates": [row | {"hostname": "a"}], "next_cursor": "more"}
        )

    async with await connected(answer) as client:
        assert await AppSettings(client).certificates("shop") == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (200, {"id": "shop"}, "'name' is a required property"),
        (200, {"id": "shop", "name": 7}, "7 is not of type 'string'"),
        (200, {"id": "shop", "name": "shop", "machine_count": 1.0}, "not of type 'integer'"),
        (200, {"id": "shop", "name": "shop", "colour": "red"}, "'colour' was unexpected"),
        (200, [], "is not of type 'object'"),
        (200, b"<html>", "not JSON"),
        (201, {"id": "shop", "name": "shop"}, "status 201 is not documented"),
        (404, {"message": "not found"}, "'error' is a required property"),
        (404, b"not found", "not JSON"),
        (422, {"error": "no", "status": "bad_luck"}, "is not valid under any"),
    ],
)
async def test_a_wrong_answer_is_caught(status: int, body: Any, why: str) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with await connected(lambda _: httpx.Response(status, content=raw)) as client:
        with pytest.raises(WireError, match=why):
            await client.get_app("shop")


async def test_a_body_or_a_call_that_nobody_documents_is_caught_and_ours_is_left_alone() -> None:
    async with await connected(lambda _: httpx.Response(204, json={"ok": True})) as client:
        for method, path, body, why in (
            ("DELETE", "/apps/shop/ip_assignments/x", None, "a body where none"),
            ("GET", "/apps/shop/weather", None, "nobody documents"),
            ("POST", "/apps/shop/secrets", {"values": 7}, "asks: .*7 is not of type 'object'"),
        ):
            with pytest.raises(WireError, match=why):
                await client.http.request(method, path, json=body)
        assert (await client.http.get("/globe/status")).status_code == 204


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/apps/a/machines/m/exec", {"command": ["ls"], "timeout": 2.0}),
        ("POST", "/apps/a/machines/m/exec", {"command": "ls"}),
        ("POST", "/apps/a/machines/m/stop", {"signal": "SIGNOTHING"}),
        ("POST", "/apps/a/machines", {"name": "x"}),
        ("POST", "/apps/a/machines", {"config": {"image": "x", "colour": "red"}}),
        ("POST", "/apps/a/machines/m/start", {"now": True}),
        ("POST", "/apps/a/secrets", {"values": {"A": 7}}),
        ("GET", "/weather", None),
    ],
)
def test_a_wrong_request_is_caught(method: str, path: str, body: Any) -> None:
    content = None if body is None else json.dumps(body)
    request = httpx.Request(method, f"http://platform/v1{path}", content=content)
    assert wrong_in_request(request) != []
