"""A standby may show what its primary does not show yet: nobody goes back in time over that."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.services.postgres_pair import UNPRIVILEGED, PostgresPair, Server
from tests.services.strong_world import (
    SOON,
    World,
    all_answer,
    insert,
    install,
    set_system,
    stored,
    until_waiting,
    values,
    world,
)

from viral_engine.clock import NotYet, wait_until
from viral_engine.cluster import ClusterView
from viral_engine.data import Lost, Session, SessionToken
from viral_engine.data.loans import Loan
from viral_engine.data.positions import Position
from viral_engine.errors import ReplicaUnavailableError
from viral_engine.topology.model import Consistency

LOST_STANDBY = "s1"


@asynccontextmanager
async def _waiting(pair: PostgresPair, database: str) -> AsyncIterator[None]:
    """A commit of the value 2 waits for a standby that is down; London has it already."""
    await set_system(pair.primary, "synchronous_commit", "local")
    await set_system(pair.primary, "synchronous_standby_names", LOST_STANDBY)
    try:
        # Longer than whatever is done meanwhile: a commit that waits no longer is unknown.
        async with world(pair, database, commit_limit=timedelta(minutes=2)) as here:
            writing = asyncio.create_task(_write(here, 2, consistency=Consistency.STRONG))
            await until_waiting(pair.primary)

            async def is_ahead() -> bool:
                return 2 in await stored(pair.replica, database)

            await wait_until(is_ahead, timeout=SOON, waiting_for="the replica to show the row")
            assert 2 not in await stored(pair.primary, database)
            try:
                yield
            finally:
                await _release(pair)
                await writing
    finally:
        await set_system(pair.primary, "synchronous_commit", None)


async def _release(pair: PostgresPair) -> None:
    await set_system(pair.primary, "synchronous_standby_names", None)


async def _write(
    here: World,
    value: int,
    session: Session | None = None,
    consistency: Consistency = Consistency.EVENTUAL,
) -> None:
    async with here.router.work(session, consistency=consistency):
        await insert(here.databases, value)


async def _read(
    here: World, session: Session, consistency: Consistency = Consistency.EVENTUAL
) -> list[int]:
    async with here.router.work(session, consistency=consistency):
        return await values(here.databases)


async def _seen_in_london(pair: PostgresPair, database: str) -> SessionToken:
    session = Session()
    async with world(pair, database, "lhr") as london:
        assert 2 in await _read(london, session)
    assert session.token
    return session.token


async def _still_waits(waiting: asyncio.Task[Any], here: World) -> None:
    reads, asked = here.databases._reads, asyncio.Event()
    question = reads.position_of

    async def counted(loan: Loan) -> Position:
        asked.set()
        return await question(loan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reads, "position_of", counted)
        for _ in range(5):
            asked.clear()
            async with asyncio.timeout(SOON.total_seconds()):
                await asked.wait()
    assert not waiting.done()


@pytest.mark.parametrize("consistency", [Consistency.EVENTUAL, Consistency.STRONG])
async def test_what_a_session_saw_at_the_standby_it_is_shown_at_the_primary_once_it_is_released(
    postgres_pair: PostgresPair, numbers: str, consistency: Consistency
) -> None:
    async with world(postgres_pair, numbers) as iad, _waiting(postgres_pair, numbers):
        token = await _seen_in_london(postgres_pair, numbers)
        assert await _read(iad, Session()) == []
        reading = asyncio.create_task(_read(iad, Session(token), consistency))
        await _still_waits(reading, iad)
        await _release(postgres_pair)
        assert await reading == [2]


async def test_a_write_of_its_own_does_not_hide_what_a_session_saw_at_the_standby(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as iad, _waiting(postgres_pair, numbers):
        session = Session(await _seen_in_london(postgres_pair, numbers))
        writing = asyncio.create_task(_write(iad, 3, session))
        await asyncio.wait({writing}, timeout=0.2)
        reading = asyncio.create_task(_read(iad, session))
        await asyncio.wait({reading}, timeout=0.2)
        assert not reading.done() or 2 in await reading
        await _release(postgres_pair)
        await writing
        assert await reading in ([2], [2, 3])
        assert await _read(iad, session) == [2, 3]


async def test_a_write_that_follows_such_a_read_is_made_where_the_row_is_shown(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as iad, _waiting(postgres_pair, numbers):
        session = Session(await _seen_in_london(postgres_pair, numbers))

        async def change() -> int:
            async with iad.router.work(session), iad.databases.writing() as connection:
                return (await connection.execute("update t set value = 4 where value = 2")).rowcount

        changing = asyncio.create_task(change())
        await _still_waits(changing, iad)
        await _release(postgres_pair)
        assert await changing == 1


async def test_who_read_at_the_primary_alone_is_not_held_up_by_the_commits_of_others(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    async with world(postgres_pair, numbers) as iad, _waiting(postgres_pair, numbers):
        session = Session()
        began = monotonic()
        for _ in range(3):
            await _read(iad, session)
            await postgres_pair.primary.ask("select pg_logical_emit_message(false, '', 'x', true)")
        for number in range(3, 6):
            await _read(iad, session)
            await _write(iad, number, session)
            assert (await _read(iad, session))[-1] == number
        assert monotonic() - began < 10  # held up, each would take 15 s


async def test_the_wait_for_the_primary_is_bounded_and_then_the_read_is_refused(
    postgres_pair: PostgresPair, numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("viral_engine.data.reads.SHOWN_LIMIT", timedelta(seconds=0.3))
    async with world(postgres_pair, numbers) as iad, _waiting(postgres_pair, numbers):
        token = await _seen_in_london(postgres_pair, numbers)
        with pytest.raises(ReplicaUnavailableError, match="to be shown at the primary"):
            await _read(iad, Session(token))
        with pytest.raises(ReplicaUnavailableError, match="to be shown at the primary"):
            await _read(iad, Session(token), Consistency.STRONG)
        assert await _read(iad, Session()) == []


@contextmanager
def _folder() -> Iterator[Path]:
    root = Path(tempfile.mkdtemp(prefix="viral-ahead-"))
    if os.geteuid() == 0:
        os.chown(root, UNPRIVILEGED, UNPRIVILEGED)
    try:
        yield root
    finally:
        shutil.rmtree(root)


@contextmanager
def _server(root: Path, pair: PostgresPair, region: str, number: int) -> Iterator[Server]:
    net = pair.primary.address.rpartition(".")[0]
    server = Server(region, f"{net}.{number}", 5432, root / region)
    try:
        yield server
    finally:
        if server.runs:
            server.stop("immediate")


async def test_after_a_promotion_a_standby_on_the_dead_branch_serves_nothing_until_it_follows(
    postgres_pair: PostgresPair, numbers: str
) -> None:
    with (
        _folder() as root,
        _server(root, postgres_pair, "iad", 21) as promoted,
        _server(root, postgres_pair, "lhr", 22) as rebuilt,
    ):
        promoted.copy_and_follow(postgres_pair.primary)
        await promoted.ask("alter system set primary_conninfo = ''")
        promoted.stop()
        async with _waiting(postgres_pair, numbers):
            token = await _seen_in_london(postgres_pair, numbers)
            promoted.start()
            await promoted.ask("select pg_promote()")
            dead = PostgresPair(promoted, postgres_pair.replica)
            await install(dead, numbers, "cluster/functions.sql")
            async with world(dead, numbers, "lhr", ready=_knows_history) as london:
                for seen in (token, None):
                    session = Session(seen)
                    async with london.router.work(session) as bound:
                        shown = await values(london.databases)
                    if seen is not None:
                        assert shown == []
                        assert bound.route.name == "primary; reason=replica-not-streaming"
                        assert session.lost is Lost.READ
                        # Told once: the next token is of the new branch.
                        again = Session(session.token)
                        assert await _read(london, again) == []
                        assert again.lost is None
            rebuilt.copy_and_follow(promoted)
            alive = PostgresPair(promoted, rebuilt)
            async with world(alive, numbers, "lhr", ready=_knows_history) as london:

                async def is_near() -> bool | NotYet:
                    async with london.router.work(Session(session.token)) as bound:
                        assert await values(london.databases) == []
                    return bound.route.is_near or NotYet(bound.route.name)

                await wait_until(is_near, timeout=SOON, waiting_for="London to serve again")


def _knows_history(view: ClusterView) -> bool:
    return bool(view.primary and view.primary.ends and all_answer(view))
