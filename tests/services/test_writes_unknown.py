"""A write is acknowledged, refused or unknown: what nobody can tell is never said to be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import psycopg
import pytest
from tests.services.postgres_pair import PostgresPair
from tests.services.strong_world import (
    SOON,
    World,
    insert,
    install,
    primacy_file,
    set_system,
    stored,
    synchronous,
    until_waiting,
    values,
    world,
)

from viral_engine.clock import NotYet, wait_until
from viral_engine.data import Databases, Route, RouteKind, routed
from viral_engine.errors import BusyError, NoPrimaryError, UnknownOutcomeError
from viral_engine.topology.model import Consistency

HERE = Route(RouteKind.LOCAL, "primary-here", "iad")
CANCEL = "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
TERMINATE = "select pg_terminate_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
SHORT = timedelta(seconds=1.5)


async def _insert(
    databases: Databases, value: int, consistency: Consistency = Consistency.STRONG
) -> None:
    with routed(HERE, consistency=consistency):
        await insert(databases, value)


async def _read(databases: Databases, consistency: Consistency) -> list[int]:
    with routed(HERE, consistency=consistency):
        return await values(databases)


async def _read_too_long(databases: Databases, consistency: Consistency) -> None:
    with routed(HERE, consistency=consistency):
        async with databases.reading() as connection, connection.transaction():
            await connection.execute("set local statement_timeout = '50ms'")
            await connection.execute("select pg_sleep(5)")


async def _all_are_back(databases: Databases, size: int = 4) -> None:
    """Return once no connection for writing is lent: each of them can be used."""
    assert databases._primary
    pool = databases._primary.now()

    async def is_idle() -> bool | NotYet:
        lent = pool._open - len(pool._at_hand)
        return lent == 0 or NotYet(f"{lent} are lent")

    await wait_until(is_idle, timeout=SOON, waiting_for="every connection to come back")
    for round_of in range(2):
        async with asyncio.TaskGroup() as group:
            for number in range(size):
                group.create_task(
                    _insert(databases, 1000 + 10 * round_of + number, Consistency.EVENTUAL)
                )


@asynccontextmanager
async def _waiting_commit(
    pair: PostgresPair, database: str, value: int = 1
) -> AsyncIterator[tuple[World, asyncio.Task[None]]]:
    """A strong write whose commit waits for a standby that replays nothing until the block ends."""
    async with (
        synchronous(pair),
        world(pair, database) as here,
        pair.replay_paused(),
    ):
        task = asyncio.create_task(_insert(here.databases, value), name="strong write")
        await until_waiting(pair.primary)
        yield here, task


@pytest.mark.parametrize("statement", [CANCEL, TERMINATE], ids=["cancelled", "terminated"])
async def test_r24_a_commit_whose_wait_was_ended_is_unknown_and_never_acknowledged(
    postgres_pair: PostgresPair, numbers: str, statement: str
) -> None:
    async with _waiting_commit(postgres_pair, numbers) as (here, task):
        await postgres_pair.primary.ask(statement)
        with pytest.raises(UnknownOutcomeError):
            await task
        assert await stored(postgres_pair.primary, numbers) == [1]
        assert await stored(postgres_pair.replica, numbers) == []
        await _all_are_back(here.databases)


async def test_a_commit_goes_on_when_whoever_asked_for_it_went_away(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with _waiting_commit(postgres_pair, numbers) as (here, task):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(20):
            await until_waiting(postgres_pair.primary)
        assert await stored(postgres_pair.primary, numbers) == []
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        await _all_are_back(here.databases)
        assert not here.writes._under_way
        assert 1 in await stored(postgres_pair.primary, numbers)


async def test_a_runtime_that_stops_carries_its_commits_to_their_end(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with synchronous(postgres_pair), postgres_pair.replay_paused():
        stopping = asyncio.Event()

        async def life() -> None:
            async with world(postgres_pair, numbers) as here:
                task = asyncio.create_task(_insert(here.databases, 1))
                await until_waiting(postgres_pair.primary)
                task.cancel()
                await asyncio.wait({task})
                stopping.set()

        running = asyncio.create_task(life())
        await stopping.wait()
        await until_waiting(postgres_pair.primary)
        assert not running.done()
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        await running
        assert await stored(postgres_pair.primary, numbers) == [1]


async def test_a_commit_that_takes_too_long_is_unknown_and_others_go_on_beside_it(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        synchronous(postgres_pair),
        world(postgres_pair, numbers, commit_limit=SHORT) as here,
        postgres_pair.replay_paused(),
    ):
        with pytest.raises(UnknownOutcomeError, match=r"took more than 1\.5 s"):
            await _insert(here.databases, 1)
        await until_waiting(postgres_pair.primary)
        await _insert(here.databases, 2, Consistency.EVENTUAL)
        assert await stored(postgres_pair.primary, numbers) == [2]
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        await _all_are_back(here.databases)
        assert (await stored(postgres_pair.primary, numbers))[:2] == [1, 2]


async def test_strong_writes_that_wait_for_another_region_stop_no_eventual_one(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        synchronous(postgres_pair),
        world(postgres_pair, numbers, commit_limit=SHORT, pool_size=4) as here,
        postgres_pair.replay_paused(),
    ):
        for number in range(2):
            with pytest.raises(UnknownOutcomeError):
                await _insert(here.databases, number)
        with pytest.raises(BusyError, match="strong"):
            await _insert(here.databases, 2)
        for number in range(3, 8):
            await _insert(here.databases, number, Consistency.EVENTUAL)
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        await _all_are_back(here.databases)
        await _insert(here.databases, 8)


async def test_when_every_connection_is_in_use_writes_are_refused_and_later_taken_again(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers, pool_size=2) as here:
        async with here.databases.writing(), here.databases.writing():
            with pytest.raises(BusyError, match="Every connection"):
                await _insert(here.databases, 2, Consistency.EVENTUAL)
        await _all_are_back(here.databases, size=2)


async def test_after_an_unknown_write_strong_reads_wait_until_another_region_holds_it(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with _waiting_commit(postgres_pair, numbers) as (here, task):
        await postgres_pair.primary.ask(CANCEL)
        with pytest.raises(UnknownOutcomeError):
            await task
        assert here.writes.in_doubt
        assert await _read(here.databases, Consistency.EVENTUAL) == [1]
        reading = asyncio.create_task(_read(here.databases, Consistency.STRONG))
        await until_waiting(postgres_pair.primary)
        assert not reading.done()
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        assert await reading == [1]
        assert await stored(postgres_pair.replica, numbers) == [1]
        assert not here.writes.in_doubt


async def test_a_write_that_becomes_unknown_during_a_barrier_is_not_forgotten_with_it(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with _waiting_commit(postgres_pair, numbers) as (here, first):
        await postgres_pair.primary.ask(CANCEL)
        with pytest.raises(UnknownOutcomeError):
            await first
        reading = asyncio.create_task(_read(here.databases, Consistency.STRONG))
        await until_waiting(postgres_pair.primary)
        second = asyncio.create_task(_insert(here.databases, 2))
        await until_waiting(postgres_pair.primary, 2)
        await postgres_pair.primary.ask(
            f"{CANCEL} and query like '%commit%' order by xact_start desc limit 1"
        )
        done, _ = await asyncio.wait({reading, second}, return_when=asyncio.FIRST_COMPLETED)
        assert done == {second}
        assert isinstance(second.exception(), UnknownOutcomeError)
        await postgres_pair.replica.ask("select pg_wal_replay_resume()")
        assert await reading == [1, 2]
        assert here.writes.in_doubt


async def test_a_strong_read_that_cannot_be_made_sure_is_refused_and_not_called_a_write(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        synchronous(postgres_pair),
        world(postgres_pair, numbers, commit_limit=SHORT) as here,
        postgres_pair.replay_paused(),
    ):
        with pytest.raises(UnknownOutcomeError):
            await _insert(here.databases, 1)
        with pytest.raises(NoPrimaryError, match="another region"):
            await _read(here.databases, Consistency.STRONG)


async def test_while_one_region_holds_the_data_alone_strong_reads_after_an_unknown_go_on(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with _waiting_commit(postgres_pair, numbers) as (here, task):
        await postgres_pair.primary.ask(CANCEL)
        with pytest.raises(UnknownOutcomeError):
            await task
        await set_system(postgres_pair.primary, "synchronous_standby_names", "")
        assert await _read(here.databases, Consistency.STRONG) == [1]


@pytest.mark.parametrize("ends", ["asks", "commits"])
async def test_who_stands_still_in_a_transaction_gives_its_locks_back_and_has_written_nothing(
    postgres_pair: PostgresPair, numbers: str, ends: str
) -> None:
    async def stand_still(databases: Databases) -> None:
        async with databases.writing(Consistency.EVENTUAL) as connection:
            await connection.execute("update t set value = 2")
            async with asyncio.timeout(SOON.total_seconds()):
                await postgres_pair.primary.ask("update t set value = 9", numbers)
            if ends == "asks":
                await connection.execute("select")

    async with world(postgres_pair, numbers, commit_limit=SHORT) as here:
        await _insert(here.databases, 1)
        with pytest.raises(NoPrimaryError, match="idle-in-transaction"):
            await stand_still(here.databases)
        assert await stored(postgres_pair.primary, numbers) == [9]
        assert not here.writes.in_doubt
        await _insert(here.databases, 3)


@dataclass
class Wire:
    """A way to a database that can swallow what it answers to a commit, and then break."""

    host: str
    port: int
    swallows: bool = False
    swallowed: asyncio.Event = field(default_factory=asyncio.Event)
    may_break: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_reader, to_writer = await asyncio.open_connection(self.host, self.port)
        committing = False

        async def asks() -> None:
            nonlocal committing
            while data := await reader.read(65536):
                committing = committing or (self.swallows and b";commit;" in data)
                to_writer.write(data)
            to_writer.close()

        async def answers() -> None:
            while data := await to_reader.read(65536):
                if committing:
                    self.swallowed.set()
                    await self.may_break.wait()
                    break
                writer.write(data)
            writer.close()

        async with asyncio.TaskGroup() as group:
            group.create_task(asks())
            group.create_task(answers())


@asynccontextmanager
async def _wire(pair: PostgresPair, database: str) -> AsyncIterator[tuple[Wire, str]]:
    wire = Wire(pair.primary.address, pair.primary.port)
    server = await asyncio.start_server(wire.serve, pair.primary.address, 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield wire, f"postgresql://postgres@{pair.primary.address}:{port}/{database}"


async def test_a_connection_that_breaks_before_the_answer_of_its_commit_leaves_it_unknown(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        _wire(postgres_pair, numbers) as (wire, url),
        world(postgres_pair, numbers, primary=url) as here,
    ):
        await _insert(here.databases, 1, Consistency.EVENTUAL)
        wire.swallows = True
        wire.may_break.set()
        with pytest.raises(UnknownOutcomeError):
            await _insert(here.databases, 2, Consistency.EVENTUAL)
        wire.swallows = False
        await _all_are_back(here.databases)
        assert (await stored(postgres_pair.primary, numbers))[:2] == [1, 2]


async def test_a_commit_that_is_never_answered_is_unknown_after_its_limit(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with (
        _wire(postgres_pair, numbers) as (wire, url),
        world(postgres_pair, numbers, primary=url, commit_limit=SHORT) as here,
    ):
        wire.swallows = True
        with pytest.raises(UnknownOutcomeError):
            await _insert(here.databases, 1, Consistency.EVENTUAL)
        await asyncio.wait_for(wire.swallowed.wait(), 10)
        wire.swallows = False
        await _insert(here.databases, 2, Consistency.EVENTUAL)
        wire.may_break.set()
        await _all_are_back(here.databases)
        assert (await stored(postgres_pair.primary, numbers))[:2] == [1, 2]


async def test_a_process_that_was_there_before_primacy_was_kept_learns_of_it_in_a_minute(
    postgres_pair: PostgresPair, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viral_engine.data.primacy.ASK_AGAIN_S", 0.2)
    with primacy_file(postgres_pair.primary):
        async with world(postgres_pair, numbers) as here:
            await _insert(here.databases, 1)
            await install(postgres_pair, numbers, "cluster/functions.sql")

            async def is_unknown() -> bool:
                number = len(await stored(postgres_pair.primary, numbers)) + 1
                try:
                    await _insert(here.databases, number)
                except UnknownOutcomeError:
                    return True
                return False

            await wait_until(is_unknown, timeout=SOON, waiting_for="primacy to be asked for")


async def test_a_read_that_runs_out_of_its_own_time_is_not_called_a_lost_primary(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as here:
        for consistency in (Consistency.EVENTUAL, Consistency.STRONG):
            with pytest.raises(psycopg.errors.QueryCanceled):
                await _read_too_long(here.databases, consistency)


async def test_without_primacy_a_write_is_unknown_a_strong_read_refused_and_an_eventual_one_served(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    await install(postgres_pair, numbers, "cluster/functions.sql")
    with primacy_file(postgres_pair.primary) as primacy:
        async with world(postgres_pair, numbers) as here:
            written = 0
            for seconds in (None, -0.02, 600.0):
                if seconds is not None:
                    primacy.say(seconds)
                for consistency in Consistency:
                    if consistency is Consistency.STRICT:
                        continue
                    written += 1
                    with pytest.raises(UnknownOutcomeError, match="could no longer prove"):
                        await _insert(here.databases, written, consistency)
                with pytest.raises(NoPrimaryError):
                    await _read(here.databases, Consistency.STRONG)
                assert await _read(here.databases, Consistency.EVENTUAL) == [*range(1, written + 1)]
            async with primacy.held():
                await _insert(here.databases, written + 1)
                assert len(await _read(here.databases, Consistency.STRONG)) == written + 1
            with pytest.raises(NoPrimaryError):
                await _read(here.databases, Consistency.STRONG)
