"""Restarts, records and checks of machines, as pure as they are."""

from __future__ import annotations

import asyncio
import socket
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.fly.model import Check, MachineConfig, MachineState, Restart, RestartPolicy
from viral_engine.globe.machines.checks import (
    CheckResult,
    NamedCheck,
    attempt,
    checks_of,
    watch,
)
from viral_engine.globe.machines.record import EVENTS_KEPT, MachineRecord
from viral_engine.globe.machines.restart import (
    FIRST_DELAY,
    LONGEST_DELAY,
    WINDOW,
    Again,
    Stay,
    after_exit,
)

ALWAYS = Restart(policy=RestartPolicy.ALWAYS, max_retries=3)


def record(**more: object) -> MachineRecord:
    config = MachineConfig.model_validate({"image": "test", **more})
    return MachineRecord("m1", "shop", "one", "iad", 0, "10.10.1.10", config)


@pytest.mark.parametrize(
    ("policy", "code", "again"),
    [
        (RestartPolicy.NO, 0, False),
        (RestartPolicy.NO, 1, False),
        (RestartPolicy.ON_FAILURE, 0, False),
        (RestartPolicy.ON_FAILURE, 1, True),
        (RestartPolicy.ON_FAILURE, 137, True),
        (RestartPolicy.ALWAYS, 0, True),
        (RestartPolicy.ALWAYS, 1, True),
    ],
)
def test_the_policy_decides_whether_a_machine_comes_back(
    policy: RestartPolicy, code: int, again: bool
) -> None:
    decided = after_exit(Restart(policy=policy), code=code, now=0, restarts=[])
    assert isinstance(decided, Again if again else Stay)


def test_a_loop_is_left_alone_after_its_retries_and_forgiven_after_the_window() -> None:
    window = WINDOW.total_seconds()
    stays = after_exit(ALWAYS, code=7, now=window - 1, restarts=[0, 1, 2])
    assert stays == Stay("it exited 4 times within 5 minutes, last with 7")
    assert isinstance(after_exit(ALWAYS, code=7, now=window, restarts=[0, 1, 2]), Again)


@given(st.integers(0, 5000))
def test_delays_double_up_to_a_limit_and_never_overflow(before: int) -> None:
    restart = Restart(policy=RestartPolicy.ALWAYS, max_retries=10_000)
    decided = after_exit(restart, code=1, now=0, restarts=[0.0] * before)
    assert isinstance(decided, Again)
    expected = FIRST_DELAY * 2**before if before < 5 else LONGEST_DELAY
    assert decided.delay == min(expected, LONGEST_DELAY)


def test_no_retries_means_no_restart() -> None:
    restart = Restart(policy=RestartPolicy.ALWAYS, max_retries=0)
    assert isinstance(after_exit(restart, code=0, now=0, restarts=[]), Stay)


def test_the_newest_event_is_first_and_only_so_many_are_kept() -> None:
    seen = record()
    for number in range(EVENTS_KEPT + 5):
        seen.note("start", str(number), source="user")
    assert [e["status"] for e in seen.events[:2]] == [str(EVENTS_KEPT + 4), str(EVENTS_KEPT + 3)]
    assert len(seen.events) == EVENTS_KEPT
    assert len({event["id"] for event in seen.events}) == EVENTS_KEPT
    assert len(seen.to_wire()["events"]) == 20


def test_a_record_survives_being_stored_without_its_checks() -> None:
    before = record(env={"A": "1"}, unknown={"kept": True})
    before.state = MachineState.STARTED
    before.cordoned = True
    before.note("exit", "stopped", source="flyd", exit_event={"exit_code": 3})
    before.checks["c"] = {"name": "c", "status": "passing", "output": "", "updated_at": "now"}
    after = MachineRecord.from_store(before.to_store())
    assert after.checks == {}
    before.checks = {}
    assert after == before
    assert after.config.to_wire()["unknown"] == {"kept": True}


def test_checks_are_named_as_the_platform_names_them() -> None:
    config = MachineConfig.model_validate({
        "image": "x",
        "services": [
            {"internal_port": 80, "checks": [{"type": "http"}, {"type": "tcp", "port": 81}]},
            {"internal_port": 90, "checks": [{"type": "tcp"}]},
        ],
        "checks": {"own": {"type": "tcp", "port": 5}},
    })  # fmt: skip
    assert [(named.name, named.port) for named in checks_of(config)] == [
        ("servicecheck-00-http-80", 80),
        ("servicecheck-01-tcp-81", 81),
        ("servicecheck-02-tcp-90", 90),
        ("own", 5),
    ]


class Peer:
    """The other end of every socket that a check opens: says ``answer`` and keeps the request."""

    def __init__(self, answer: bytes, *, hang: bool = False) -> None:
        self.answer = answer
        self.hang = hang
        self.asked = b""
        self.far: list[socket.socket] = []

    async def open(self) -> socket.socket:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.sendall(self.answer)
        self.far.append(far)
        if not self.hang:
            far.shutdown(socket.SHUT_WR)
        return _Connected(near)

    def close(self) -> None:
        for far in self.far:
            far.setblocking(False)
            self.asked += far.recv(65536)
            far.close()


class _Connected(socket.socket):
    """A socket that is connected already; connecting it again does nothing."""

    def __init__(self, inner: socket.socket) -> None:
        super().__init__(inner.family, inner.type, inner.proto, fileno=inner.detach())
        self.setblocking(False)

    def connect(self, address: object) -> None:
        assert address


async def tried(answer: bytes, *, hang: bool = False, **check: object) -> tuple[CheckResult, bytes]:
    peer = Peer(answer, hang=hang)
    named = NamedCheck("c", 80, Check.model_validate({"type": "http", "timeout": "100ms", **check}))
    result = await attempt(named, "10.0.0.1", peer.open)
    peer.close()
    return result, peer.asked


@pytest.mark.parametrize(
    ("answer", "status", "output"),
    [
        (b"HTTP/1.1 200 OK\r\n", "passing", "HTTP 200"),
        (b"HTTP/1.1 204\r\n", "passing", "HTTP 204"),
        (b"HTTP/1.1 301 Moved\r\n", "critical", "HTTP 301"),
        (b"HTTP/1.1 503 Busy\r\n", "critical", "HTTP 503"),
        (b"", "critical", "HTTP nothing"),
        (b"\xff\xfe", "critical", "HTTP nothing"),
        (b"\r\n", "critical", "HTTP nothing"),
        (b"x" * 20_000, "critical", "HTTP nothing"),
    ],
    ids=["ok", "no reason", "redirect", "busy", "silent", "binary", "empty", "endless"],
)
async def test_an_http_check_is_judged_by_its_status_line(
    answer: bytes, status: str, output: str
) -> None:
    result, asked = await tried(answer, path="/up", method="HEAD", headers=[
        {"name": "x-a", "values": ["1", "2"]}])  # fmt: skip
    assert (result.status, result.output) == (status, output)
    head = b"HEAD /up HTTP/1.1\r\nhost: 10.0.0.1:80\r\nx-a: 1, 2\r\nconnection: close\r\n\r\n"
    assert asked == head


async def test_a_check_that_is_not_answered_ends_in_its_time() -> None:
    result, _ = await tried(b"HTTP/1.1 20", hang=True)
    assert result == CheckResult("critical", "no answer within 0.1 s")


@pytest.mark.parametrize("port", [0, 70_000, -1])
async def test_a_port_that_cannot_be_is_a_failed_check_and_not_a_failed_platform(port: int) -> None:
    async def opened() -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        return made

    named = NamedCheck("c", port, Check(type="tcp", timeout=timedelta(seconds=1)))
    assert (await attempt(named, "127.0.0.1", opened)).status == "critical"


async def test_text_that_no_header_can_be_is_a_failed_check() -> None:
    result, _ = await tried(b"", path="/\ud800")
    assert result.status == "critical"


async def test_a_check_without_an_interval_does_not_occupy_the_platform() -> None:
    told: list[CheckResult] = []

    async def refused() -> socket.socket:
        raise ConnectionRefusedError(111, "refused")

    named = NamedCheck("c", 80, Check(type="tcp", interval=timedelta(0)))
    task = asyncio.create_task(watch(named, "a", refused, lambda _, result: told.append(result)))
    await asyncio.sleep(0.35)  # three and a half of the shortest intervals
    task.cancel()
    assert 2 <= len(told) <= 5


async def test_before_its_first_pass_a_check_warns_until_its_grace_is_over() -> None:
    told: list[str] = []

    async def refused() -> socket.socket:
        raise ConnectionRefusedError(111, "refused")

    check = Check(type="tcp", interval=timedelta(seconds=0.1), grace_period=timedelta(seconds=0.25))
    task = asyncio.create_task(
        watch(
            NamedCheck("c", 80, check), "a", refused, lambda _, result: told.append(result.status)
        )
    )
    await asyncio.sleep(0.6)  # the grace and some attempts after it
    task.cancel()
    assert told[0] == "warning"
    assert told[-1] == "critical"
    assert sorted(told, reverse=True) == told
