"""SQLAlchemy's sessions keep what the runtime promises: one node, own writes, no way back in time."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, InternalError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from tests.services.orm_world import NEAR, SOON, London, Thing, in_london
from tests.services.postgres_pair import PostgresPair

from viral_engine.data import Detour, Need, Route, RouteKind, Session, routed
from viral_engine.data.blocks import at_primary
from viral_engine.data.orm_errors import OrmReplicaUnavailableError
from viral_engine.errors import ReplicaUnavailableError

FAR = Route(RouteKind.PRIMARY, "replica-behind", "iad")
IN_RECOVERY = select(func.pg_is_in_recovery())


async def _in_recovery(london: London) -> bool:
    async with london.sessions() as session:
        return bool(await session.scalar(IN_RECOVERY))


async def test_outside_of_a_request_a_session_writes_and_one_for_reading_cannot(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        async with london.sessions() as session:
            session.add(Thing(value=1))
            await session.commit()
            assert await session.scalar(select(func.count(Thing.value))) == 1
        await postgres_pair.wait_until_replayed()
        async with london.sessions.reading() as session:
            assert await session.scalar(IN_RECOVERY) is True
            assert list(await session.scalars(select(Thing.value))) == [1]
            session.add(Thing(value=2))
            with pytest.raises(DBAPIError, match="read-only transaction"):
                await session.commit()


async def test_a_request_that_writes_gets_sessions_that_do_from_the_usual_session_maker(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        make: async_sessionmaker[AsyncSession] = async_sessionmaker(london.engine)
        with routed(FAR, need=Need.PRIMARY) as bound:
            async with make() as session, session.begin():
                session.add(Thing(value=1))
            assert bound.session.wrote
        token = bound.session.token
        assert token
        assert token.wrote
        await london.cluster.wait_until_replayed(
            "lhr", timeline=token.timeline, lsn=token.position, timeout=SOON
        )
        with routed(NEAR, Session(token)):
            assert await london.values() == [1]


async def test_r06_a_commit_inside_a_block_at_the_primary_keeps_it_there(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london, postgres_pair.replay_paused():
        with routed(NEAR) as bound, at_primary():
            async with london.sessions() as session:
                assert await session.scalar(IN_RECOVERY) is False
                await session.commit()
                assert await session.scalar(IN_RECOVERY) is False
            assert str(bound.route) == "primary; reason=asked-for"


async def test_r07_blocks_at_the_primary_nest_and_end_with_the_outermost(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        with routed(NEAR) as bound:
            with at_primary():
                with at_primary():
                    assert await _in_recovery(london) is False
                assert await _in_recovery(london) is False
            token = bound.session.token
            assert token
            await london.cluster.wait_until_replayed(
                "lhr", timeline=token.timeline, lsn=token.position, timeout=SOON
            )
            assert await _in_recovery(london) is True
            assert str(bound.route) == "local; reason=replica"


async def test_after_a_block_at_the_primary_a_replica_that_is_behind_it_is_not_read(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london, postgres_pair.replay_paused():
        await london.add(1)
        with routed(NEAR) as bound:
            with at_primary():
                assert await london.values() == [1]
            assert await london.values() == [1]
            assert str(bound.route) == "primary; reason=replica-behind"


@pytest.mark.parametrize("route", [NEAR, FAR])
async def test_r08_reads_in_one_request_hit_one_node_whatever_their_transactions(
    postgres_pair: PostgresPair, things: str, route: Route
) -> None:
    async with in_london(postgres_pair, things) as london:
        with routed(route) as bound:
            async with london.sessions() as session:
                backends = {await session.scalar(select(func.pg_backend_pid())) for _ in range(4)}
                found = {await session.scalar(IN_RECOVERY)}
            for _ in range(4):
                found.add(await _in_recovery(london))
            assert len(backends) == 1
            assert found == {route is NEAR}
            assert bound.route is route


async def test_r09_a_read_after_a_commit_in_the_same_request_sees_it(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london, postgres_pair.replay_paused():
        with routed(NEAR) as bound:
            assert await london.values() == []
            await london.add(1)
            assert await london.values() == [1]
            assert str(bound.route) == "primary; reason=written-before"


@pytest.mark.parametrize(
    "statement",
    [
        "insert into thing (value) values (7)",
        "with added as (insert into thing (value) values (7) returning value) select * from added",
        "select value from thing for no key update",
        "select nextval('numbers')",
        "select add_thing()",
    ],
)
@pytest.mark.parametrize("route", [NEAR, FAR])
async def test_r10_r11_what_writes_under_a_read_is_refused_and_noted_whatever_its_form(
    postgres_pair: PostgresPair, things: str, statement: str, route: Route
) -> None:
    async with in_london(postgres_pair, things) as london:
        with routed(route) as bound:
            async with london.sessions() as session:
                with pytest.raises(InternalError) as refused:
                    await session.execute(text(statement))
            assert getattr(refused.value.orig, "sqlstate", None) == "25006"
            assert bound.detour is Detour.WRITE_IN_READ
            await bound.tell()
    assert await postgres_pair.primary.ask("select count(*) from thing", things) == 0
    assert await postgres_pair.primary.ask("select is_called from numbers", things) is False


async def test_r13_a_transaction_that_failed_is_asked_nothing_and_advances_nothing(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        with routed(FAR, need=Need.PRIMARY) as bound:
            await london.add(1)
            before = bound.session.token
            async with london.sessions() as session:
                with pytest.raises(DBAPIError, match="division by zero"):
                    await session.execute(text("select 1 / 0"))
            # Refused by the commit itself, whose answer travels with that of the position.
            async with london.sessions() as session:
                await session.execute(text("insert into checked_late values (1), (1)"))
                with pytest.raises(IntegrityError):
                    await session.commit()
            # The error was swallowed below the session, so that nobody undid anything.
            async with london.engine.connect() as connection:
                with pytest.raises(DBAPIError):
                    await connection.execute(text("select 1 / 0"))
                with pytest.raises(DBAPIError, match="its error was not passed on"):
                    await connection.commit()
            assert bound.session.token == before


async def test_a_read_that_failed_is_counted_in_up_to_where_it_came(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        for route in (NEAR, FAR):
            with routed(route) as bound:
                async with london.sessions() as session:
                    with pytest.raises(DBAPIError, match="division by zero"):
                        await session.execute(text("select 1 / 0"))
                    await bound.tell()
                    assert bound.session.token


async def test_what_an_open_session_has_read_is_counted_in_before_the_answer_and_it_goes_on(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        await london.add(1)  # the first transaction of all also asks what the server is
        await postgres_pair.wait_until_replayed()
        with routed(NEAR) as bound:
            async with london.sessions() as session:
                assert list(await session.scalars(select(Thing.value))) == [1]
                assert bound.session.token is None
                await bound.tell()
                assert bound.session.token
                assert list(await session.scalars(select(Thing.value))) == [1]


async def test_a_node_that_does_not_hold_what_the_client_saw_is_never_answered_from(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london, postgres_pair.replay_paused():
        with routed(NEAR) as written:
            await london.add(1)
        # A decision for the replica, although it cannot have it: as when it was rebuilt meanwhile.
        with routed(NEAR, Session(written.session.token)) as bound:
            async with london.sessions() as session:
                assert list(await session.scalars(select(Thing.value))) == []
            with pytest.raises(ReplicaUnavailableError, match="all that this client has seen"):
                await bound.tell()
        with routed(NEAR, Session(written.session.token)) as bound:
            async with london.sessions() as session:
                assert list(await session.scalars(select(Thing.value))) == []
                with pytest.raises(OrmReplicaUnavailableError):
                    await session.commit()


async def test_reads_may_stream_use_savepoints_and_ask_for_one_moment(
    postgres_pair: PostgresPair, things: str
) -> None:
    async with in_london(postgres_pair, things) as london:
        await london.add(1)
        await postgres_pair.wait_until_replayed()
        with routed(NEAR):
            async with london.sessions() as session:
                with pytest.raises(DBAPIError, match="division by zero"):
                    async with session.begin_nested():
                        await session.execute(text("select 1 / 0"))
                streamed = await session.stream_scalars(select(Thing.value))
                assert [value async for value in streamed] == [1]
            async with london.sessions() as session:
                await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
                level = await session.scalar(text("show transaction_isolation"))
                assert level == "repeatable read"
            async with london.sessions() as session:
                level = await session.scalar(text("show transaction_isolation"))
                assert level == "read committed"
