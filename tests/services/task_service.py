"""The bundled service over a real primary and a real replica, one app per region."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from tests.services.asgi_life import living
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until
from viral_engine.service.app import create_app
from viral_engine.service.migrate import migrate

SOON = timedelta(seconds=10)


def environ_of(pair: PostgresPair, database: str, region: str) -> dict[str, str]:
    return {
        "FLY_REGION": region,
        "PRIMARY_REGION": "iad",
        "FLY_MACHINE_ID": f"{region}-1",
        "DATABASE_URL": pair.primary.url(database),
        "READ_REPLICA_IAD_URL": pair.primary.url(database),
        "READ_REPLICA_LHR_URL": pair.replica.url(database),
        "VIRAL_SECRET": "shared",
    }


@asynccontextmanager
async def user_of(environ: Mapping[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(environ)
    transport = httpx.ASGITransport(app=app)
    async with living(app), httpx.AsyncClient(transport=transport, base_url="http://app") as user:
        yield user


async def unless_busy(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask again while no connection was free in time: that is refused before anything is done."""
    answer = await ask()
    for _ in range(20):
        if answer.status_code != 503:
            break
        answer = await ask()
    return answer


@asynccontextmanager
async def both_regions(
    pair: PostgresPair, database: str
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    async with AsyncExitStack() as stack:
        iad, lhr = [
            await stack.enter_async_context(user_of(environ_of(pair, database, region)))
            for region in ("iad", "lhr")
        ]
        for user in (iad, lhr):

            async def sees_all(user: httpx.AsyncClient = user) -> bool:
                nodes = (await user.get("/api/regions")).json()["nodes"]
                return all(node["reachable"] for node in nodes)

            await wait_until(sees_all, timeout=SOON, waiting_for="every database to be seen")
        yield iad, lhr


@pytest.fixture
async def migrated(postgres_pair: PostgresPair, database: str) -> str:
    """The name of a database with its tables, which the replica has as well."""
    await asyncio.to_thread(migrate, postgres_pair.primary.url(database))
    await postgres_pair.wait_until_replayed()
    return database
