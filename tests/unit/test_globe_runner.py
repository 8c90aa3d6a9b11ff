"""The owner of a machine outlives whatever is asked of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from viral_engine.clock import wait_until
from viral_engine.errors import NotFoundError, PlatformError
from viral_engine.fly.model import MachineConfig, MachineState
from viral_engine.globe.machines.checks import OpenSocket
from viral_engine.globe.machines.process import Launch
from viral_engine.globe.machines.record import MachineRecord
from viral_engine.globe.machines.runner import MachineRunner

SOON = timedelta(seconds=5)


class RefusingHost:
    """A host on which no machine can be started."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.full = False

    def launch_of(self, record: MachineRecord) -> Launch:
        raise ValueError(f"embedded null byte in {record.id}")

    def open_socket_in(self, region: str) -> OpenSocket:
        raise AssertionError(region)

    def hear(self, record: MachineRecord, line: str) -> None:
        assert record.id == "m1"
        self.lines.append(line)

    def changed(self) -> None:
        if self.full:
            raise OSError(28, "No space left on device")


@pytest.fixture
async def host() -> RefusingHost:
    return RefusingHost()


@pytest.fixture
async def runner(host: RefusingHost) -> AsyncIterator[MachineRunner]:
    config = MachineConfig(image="x")
    made = MachineRunner(MachineRecord("m1", "shop", "one", "iad", 0, "10.10.1.10", config), host)
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def ordered(runner: MachineRunner, kind: str, what: object = None) -> None:
    async with asyncio.timeout(SOON.total_seconds()):
        await runner.order(kind, what)


async def test_a_start_that_cannot_be_is_told_and_the_machine_can_still_be_destroyed(
    runner: MachineRunner, host: RefusingHost
) -> None:
    with pytest.raises(PlatformError, match="embedded null byte"):
        await ordered(runner, "start", "user")
    assert runner.record.state.value == "failed"
    assert host.lines == ["the machine cannot start: embedded null byte in m1"]
    await ordered(runner, "destroy")
    assert runner.record.state.value == "destroyed"


async def test_a_full_disk_does_not_end_the_owner(
    runner: MachineRunner, host: RefusingHost
) -> None:
    host.full = True
    with pytest.raises(PlatformError, match="No space left"):
        await ordered(runner, "stop", ("SIGINT", timedelta(seconds=1)))
    host.full = False
    await ordered(runner, "stop", ("SIGINT", timedelta(seconds=1)))


async def test_of_two_who_destroy_a_machine_at_once_the_second_is_told_that_it_is_gone(
    runner: MachineRunner,
) -> None:
    first = asyncio.create_task(ordered(runner, "destroy"))
    second = asyncio.create_task(ordered(runner, "destroy"))
    update = asyncio.create_task(ordered(runner, "update", (MachineConfig(image="y"), True)))
    await first
    for late in (second, update):
        with pytest.raises(NotFoundError):
            await late
    with pytest.raises(NotFoundError):
        await ordered(runner, "start", "user")


async def test_an_order_that_waits_when_the_platform_ends_is_answered(host: RefusingHost) -> None:
    config = MachineConfig(image="x")
    runner = MachineRunner(MachineRecord("m1", "shop", "one", "iad", 0, "a", config), host)
    asking = asyncio.create_task(ordered(runner, "start", "user"))
    task = asyncio.create_task(runner.run())
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    with pytest.raises(PlatformError):
        await asking


async def test_a_stop_signal_that_is_none_does_not_end_the_owner(
    runner: MachineRunner, tmp_path: Path
) -> None:
    assert tmp_path.exists()
    runner.record.config = MachineConfig.model_validate(
        {"image": "x", "stop_config": {"signal": "SIGNOTHING"}}
    )
    with pytest.raises(PlatformError, match="SIGNOTHING"):
        await ordered(runner, "restart")
    await ordered(runner, "destroy")
    await wait_until(
        lambda: runner.record.state is MachineState.DESTROYED, timeout=SOON, waiting_for="its end"
    )
