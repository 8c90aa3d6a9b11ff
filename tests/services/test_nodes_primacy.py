"""At most one database may acknowledge, whatever is frozen, killed, cut off or revoked."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta

import psutil
import psycopg
import pytest
from tests.services.nodes_world import (
    PASSWORDS,
    World,
    command_of,
    frozen,
    is_over,
    processes_in,
    world,
)

from viral_engine.clock import wait_until
from viral_engine.errors import DatabaseError, NoPrimaryError
from viral_engine.nodes import ctl

KILLED = "PostgreSQL is killed"
HELD = "SELECT WHERE viral.primacy_remaining() > 0 AND NOT pg_is_in_recovery()"
REMAINING = "SELECT viral.primacy_remaining()"
WRITABLE = "SELECT WHERE NOT pg_is_in_recovery()"
NODES = ("iad", "lhr")


@pytest.fixture(scope="module")
def trio() -> Iterator[World]:
    with trio_of_machines() as here:
        yield here


@contextmanager
def trio_of_machines(**more: str) -> Iterator[World]:
    with world("iad", "lhr", "yyz") as here:
        here.start("lhr", "database", **more)
        here.start("yyz", "witness")
        here.start("iad", "database", **more)
        yield here


@dataclass
class Samples:
    """What two databases said again and again, as spans of time in which the answer was yes."""

    sql: str
    spans: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def overlaps(self) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        first, second = (self.spans.get(region, []) for region in NODES)
        return [(a, b) for a in first for b in second if a[0] < b[1] and b[0] < a[1]]


@contextmanager
def sampled(here: World, sql: str = HELD) -> Iterator[Samples]:
    """Ask both databases every 20 ms, each in a thread of its own, until the block ends."""
    samples, over = Samples(sql), threading.Event()
    threads = [threading.Thread(target=_sample, args=(here, one, samples, over)) for one in NODES]
    for thread in threads:
        thread.start()
    try:
        yield samples
    finally:
        over.set()
        for thread in threads:
            thread.join(15)
    assert not any(thread.is_alive() for thread in threads)


def _sample(here: World, region: str, samples: Samples, over: threading.Event) -> None:
    spans = samples.spans.setdefault(region, [])
    inside = False
    while not over.is_set():
        with suppress(psycopg.Error), connection(here, region) as node:
            while not over.wait(0.02):
                asked = time.monotonic()
                said_yes = node.execute(samples.sql.encode()).fetchone() is not None
                # It was so at some moment after it was asked and before it was answered.
                if said_yes and inside:
                    spans[-1] = (spans[-1][0], max(asked, spans[-1][0]))
                elif said_yes:
                    spans.append((time.monotonic(), time.monotonic()))
                inside = said_yes
        inside = False
        over.wait(0.02)


def connection(here: World, region: str) -> psycopg.Connection:
    return psycopg.connect(
        host=here.addresses[region], user="viral_app", password=PASSWORDS["VIRAL_APP_PASSWORD"],
        dbname="viral", connect_timeout=10, autocommit=True,
    )  # fmt: skip


def part(here: World, region: str, mark: str) -> list[psutil.Process]:
    """Return the processes of a machine whose command has the mark."""
    family = processes_in(here.folder / region)
    return [one for one in family if mark in command_of(one)]


def postmaster(here: World, region: str) -> int:
    return int((here.folder / region / "postgres" / "postmaster.pid").read_text().split()[0])


async def test_the_primary_may_acknowledge_for_four_seconds_at_the_most_and_a_replica_never(
    trio: World,
) -> None:
    await trio.until("iad", HELD, user="viral_app")
    await trio.until_synchronous("iad")
    for _ in range(30):
        ((remaining,),) = trio.ask("iad", REMAINING, user="viral_app")
        assert isinstance(remaining, float)
        assert 0 < remaining <= 4.01
    assert trio.ask("lhr", REMAINING, user="viral_app") == [(None,)]
    assert trio.ask("iad", "SELECT viral.timeline_history()", user="viral_app") == [("",)]


async def test_every_machine_tells_who_holds_primacy_and_only_the_holder_for_how_long(
    trio: World,
) -> None:
    said = {region: await ctl.primacy(trio.environ(region)) for region in ("iad", "lhr", "yyz")}
    assert {one["region"] for one in said.values()} == {"iad"}
    assert {one["machine"] for one in said.values()} == {"machine-iad"}
    assert said["iad"]["remaining_seconds"] is not None
    assert said["lhr"]["remaining_seconds"] is None
    assert isinstance(said["lhr"]["unchanged_seconds"], float)
    assert said["lhr"]["unchanged_seconds"] < 8
    assert said["yyz"]["unchanged_seconds"] is None


async def test_at_a_switchover_the_new_primary_may_acknowledge_only_when_the_old_may_not(
    trio: World,
) -> None:
    with sampled(trio) as samples:
        await ctl.switch_over(trio.environ("iad"), "lhr")
        await trio.until("lhr", HELD)
        await trio.until_synchronous("lhr")
    assert samples.overlaps() == []
    assert all(samples.spans[region] for region in NODES)
    ((history,),) = trio.ask("lhr", "SELECT viral.timeline_history()", user="viral_app")
    assert str(history).startswith("1\t0/")


async def test_the_loss_of_etcds_leader_costs_no_primacy_and_moves_no_primary(trio: World) -> None:
    async def led_by_witness() -> bool:
        etcd = (await ctl.status(trio.environ("lhr")))["etcd"]
        return isinstance(etcd, dict) and etcd["leader"] == "yyz"

    await wait_until(
        led_by_witness, timeout=timedelta(seconds=45), waiting_for="the witness to lead etcd"
    )
    before, killed_before = postmaster(trio, "lhr"), trio.said("lhr").count(KILLED)
    with sampled(trio) as samples:
        trio.running["yyz"].kill()
        trio.running.pop("yyz").wait(10)
        killed = time.monotonic()
        await wait_until(
            lambda: time.monotonic() - killed > 6,
            timeout=timedelta(seconds=8),
            waiting_for="an election, a claim's four seconds and one more to pass",
        )
    trio.start("yyz", "witness")
    assert samples.overlaps() == []
    if trio.said("lhr").count(KILLED) > killed_before:
        pytest.skip("etcd took longer than a claim to elect, and the primary was rightly killed")
    assert len(samples.spans["lhr"]) == 1
    assert samples.spans["lhr"][0][1] - killed > 5.5
    assert samples.spans["iad"] == []
    assert postmaster(trio, "lhr") == before


async def test_r22_with_patroni_frozen_the_old_primary_is_killed_before_the_new_one_is_promoted(
    trio: World,
) -> None:
    old = await _until_anyone_holds(trio)
    new = next(region for region in NODES if region != old)
    await trio.until_synchronous(old)
    with frozen(part(trio, old, "patroni_start")), sampled(trio, WRITABLE) as writable:
        await ctl.revoke(trio.environ("yyz"))
        await trio.until(new, HELD, within=20)
    assert writable.overlaps() == []
    await trio.until_synchronous(new)


async def test_a_postmaster_that_is_killed_is_followed_within_seconds(trio: World) -> None:
    old = await _until_anyone_holds(trio)
    new = next(region for region in NODES if region != old)
    await trio.until_synchronous(old)
    with sampled(trio) as samples:
        begun = time.monotonic()
        os.kill(postmaster(trio, old), signal.SIGKILL)
        await trio.until(new, HELD, within=30)
        took = time.monotonic() - begun
    assert samples.overlaps() == []
    assert took < 15  # its lock alone would take 20 s


async def test_a_database_that_was_frozen_for_longer_than_its_claim_says_so_in_its_first_answer(
    trio: World,
) -> None:
    held_by = await _until_anyone_holds(trio)
    killed = trio.said(held_by).count(KILLED)
    answers: list[object] = []

    def ask(node: psycopg.Connection) -> None:
        answers.extend(node.execute(REMAINING.encode()).fetchone() or ())

    with connection(trio, held_by) as node:
        node.execute(b"SELECT 1")
        asking = threading.Thread(target=ask, args=(node,))
        machine, database = processes_in(trio.folder / held_by), part(trio, held_by, "postgres:")
        # Nor may the witness meanwhile help another to the key.
        helper = part(trio, "yyz", "viral_engine.nodes witness")
        # The database goes on first: its node process must not be needed for the truth.
        with frozen([*(one for one in machine if one not in database), *helper]):
            with frozen(database):
                asking.start()
                begun = time.monotonic()
                await wait_until(
                    lambda: time.monotonic() - begun > 5.5,
                    timeout=timedelta(seconds=8),
                    waiting_for="the claim of the frozen machine to end",
                )
            asking.join(10)
    (first,) = answers
    assert isinstance(first, float)
    assert first < -1
    # Nobody took the key meanwhile: it is renewed, and nothing had to be killed.
    await trio.until(held_by, HELD)
    assert trio.said(held_by).count(KILLED) == killed


async def test_a_primary_without_a_way_to_etcd_is_killed_when_its_claim_ends(trio: World) -> None:
    old = await _until_anyone_holds(trio)
    stores = [one for region in trio.running for one in part(trio, region, "/etcd --name=")]
    assert len(stores) == 3
    head = psutil.Process(postmaster(trio, old))
    with frozen([*part(trio, old, "patroni_start"), *stores]):
        begun = time.monotonic()
        await wait_until(
            lambda: is_over(head),
            timeout=timedelta(seconds=10),
            waiting_for="PostgreSQL to be killed",
        )
        # A claim lasts 4 s from its last renewal, which may be a second and more ago.
        assert 2 < time.monotonic() - begun < 8
        await wait_until(
            lambda: part(trio, old, "postgres:") == [],
            timeout=timedelta(seconds=10),
            waiting_for="its processes to be gone as well",
        )
        await wait_until(
            lambda: "primacy is lost, as it could not be renewed" in trio.said(old),
            timeout=timedelta(seconds=10),
            waiting_for="the reason to be told",
        )
    await _until_anyone_holds(trio)


async def test_a_lock_that_is_revoked_from_a_healthy_primary_makes_no_second_one(
    trio: World,
) -> None:
    held_by = await _until_anyone_holds(trio)
    await trio.until_synchronous(held_by)
    with sampled(trio) as samples:
        revoked = await ctl.revoke(trio.environ("yyz"))
        await _until_anyone_holds(trio)
    assert revoked == {"revoked": held_by}
    assert samples.overlaps() == []


@pytest.mark.parametrize("loss", ["killed", "frozen"])
async def test_a_primary_that_two_sites_have_lost_is_followed_without_waiting_for_its_lock(
    trio: World, loss: str
) -> None:
    old = await _until_anyone_holds(trio)
    new = next(region for region in NODES if region != old)
    await trio.until_synchronous(old)
    family = processes_in(trio.folder / old)
    with ExitStack() as stack:
        samples = stack.enter_context(sampled(trio))
        begun = time.monotonic()
        if loss == "killed":
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            trio.running.pop(old).wait(10)
        else:
            stack.enter_context(frozen(family))
        await trio.until(new, HELD, within=30)
        took = time.monotonic() - begun
    assert samples.overlaps() == []
    assert f"{old} is lost" in trio.said("yyz")
    # Without the witness's help the lock alone takes 20 s.
    assert took < 18
    if loss == "killed":
        trio.start(old, "database")
    await trio.until_synchronous(new)


async def test_a_primary_that_is_only_slow_to_answer_one_site_keeps_its_lock(trio: World) -> None:
    held_by = await _until_anyone_holds(trio)
    other = next(region for region in NODES if region != held_by)
    await trio.until_synchronous(held_by)
    said = trio.said("yyz").count("its lock is revoked")
    with frozen(part(trio, held_by, "patroni_start")), sampled(trio) as samples:
        begun = time.monotonic()
        await wait_until(
            lambda: time.monotonic() - begun > 5,
            timeout=timedelta(seconds=7),
            waiting_for="five seconds without Patroni's answers",
        )
    assert samples.spans[other] == []
    assert trio.said("yyz").count("its lock is revoked") == said


async def test_without_primacy_the_same_faults_leave_two_primaries_that_take_writes() -> None:
    with trio_of_machines(VIRAL_PRIMACY="off") as here:
        await here.until("iad", WRITABLE)
        await here.until_synchronous("iad")
        assert here.ask("iad", REMAINING) == [(None,)]
        with frozen(part(here, "iad", "patroni_start")), sampled(here, WRITABLE) as writable:
            await ctl.revoke(here.environ("yyz"))
            await here.until("lhr", WRITABLE, within=20)
            for region in NODES:
                here.ask(region, "CREATE TABLE proof (id int)", user="viral_app")
            # Each is asked every 20 ms: both must be heard in turn before they are let go.
            await wait_until(
                lambda: writable.overlaps() != [],
                timeout=timedelta(seconds=10),
                waiting_for="both to have said in turn that they take writes",
            )


async def test_a_lock_that_nobody_has_cannot_be_revoked() -> None:
    with world("iad", "lhr", "yyz") as here:
        for region in ("iad", "lhr", "yyz"):
            here.start(region, "witness")

        async def refused() -> bool:
            try:
                await ctl.revoke(here.environ("yyz"))
            except NoPrimaryError:
                return True
            except DatabaseError:
                return False
            return False

        await wait_until(
            refused, timeout=timedelta(seconds=20), waiting_for="etcd to say that there is no lock"
        )


async def _until_anyone_holds(here: World) -> str:
    def holder() -> str | None:
        for region in NODES:
            with suppress(psycopg.Error):
                if here.ask(region, HELD):
                    return region
        return None

    return await wait_until(
        holder, timeout=timedelta(seconds=60), waiting_for="any region to hold primacy"
    )
