"""A routed engine in London, over a real primary in ``iad`` and its replica in ``lhr``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.services.postgres_pair import PostgresPair

from viral_engine.cluster import ClusterView, ClusterWatcher, DatabaseAddresses
from viral_engine.data import Databases, Route, RouteKind
from viral_engine.data.orm import RoutedSessions, routed_engine

SOON = timedelta(seconds=10)
NEAR = Route(RouteKind.LOCAL, "replica", "lhr")
SCHEMA = """
create table thing (value integer primary key, note text not null default '');
create table checked_late (value integer unique deferrable initially deferred);
create sequence numbers;
create function add_thing() returns void volatile language sql
    as 'insert into thing (value) values (7)';

create table slow_to_commit (value integer);
create function be_slow() returns trigger language plpgsql
    as 'begin perform pg_sleep(case when new.value < 0 then 10 else 1.2 end); return null; end';
create constraint trigger slow after insert on slow_to_commit deferrable initially deferred
    for each row execute function be_slow();
"""


class Base(DeclarativeBase):
    pass


class Thing(Base):
    __tablename__ = "thing"

    value: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str] = mapped_column(default="")


@dataclass(frozen=True)
class London:
    """What an app in ``lhr`` has."""

    cluster: ClusterWatcher
    databases: Databases
    engine: AsyncEngine
    sessions: RoutedSessions

    async def values(self) -> list[int]:
        """The values as a session of the request that runs now reads them."""
        async with self.sessions() as session:
            return list(await session.scalars(select(Thing.value).order_by(Thing.value)))

    async def add(self, value: int) -> None:
        async with self.sessions.writing() as session:
            session.add(Thing(value=value))
            await session.commit()


def _all_answer(view: ClusterView) -> bool:
    return all(node.reachable for node in view.nodes)


@asynccontextmanager
async def in_london(pair: PostgresPair, database: str) -> AsyncIterator[London]:
    nodes = {"iad": pair.primary.url(database), "lhr": pair.replica.url(database)}
    addresses = DatabaseAddresses(primary=nodes["iad"], nodes=nodes)
    async with ClusterWatcher(nodes, machine="m1") as cluster:
        await cluster.wait_for(_all_answer, timeout=SOON)
        async with Databases(
            addresses, here="lhr", machine="m1", view=lambda: cluster.view, pool_size=3
        ) as databases:
            engine = routed_engine(databases)
            options = {"expire_on_commit": False}
            yield London(cluster, databases, engine, RoutedSessions(engine, **options))
            await engine.dispose()


@pytest.fixture
async def things(postgres_pair: PostgresPair, database: str) -> str:
    """The name of a database with a table ``thing`` and what else the tests write to."""
    await postgres_pair.primary.ask(SCHEMA, database)
    await postgres_pair.wait_until_replayed()
    return database
