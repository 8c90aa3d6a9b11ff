from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from viral_engine.clock import BOOT_CLOCK
from viral_engine.nodes.primacy import PrimacyKeeper
from viral_engine.nodes.promotion import SOCKET, TAKE, TAKEN

__all__ = ["ask_desk", "primacy_desk"]

SHOW = b"show\n"
ANSWER_LIMIT_S = 1.0


@asynccontextmanager
async def primacy_desk(keeper: PrimacyKeeper, folder: Path) -> AsyncIterator[None]:
    """Answer on a socket in ``folder``: to the hook of a promotion, and to who asks who holds it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            question = await reader.readline()
            if question == TAKE and await _taken(keeper, reader):
                writer.write(TAKEN)
            elif question == SHOW:
                writer.write(json.dumps(_shown(keeper)).encode() + b"\n")
            await writer.drain()
        writer.close()

    with _place(folder) as place:
        server = await asyncio.start_unix_server(serve, place)
        (folder / SOCKET).chmod(0o600)
    try:
        yield
    finally:
        server.close()
        (folder / SOCKET).unlink(missing_ok=True)


async def ask_desk(folder: Path) -> dict[str, object] | None:
    """Return what this machine's node process knows of primacy; None where it keeps none."""
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            with _place(folder) as place:
                reader, writer = await asyncio.open_unix_connection(place)
            writer.write(SHOW)
            said = json.loads(await reader.readline())
            writer.close()
    except (OSError, TimeoutError, ValueError):
        return None
    return said if isinstance(said, dict) else None


@contextmanager
def _place(folder: Path) -> Iterator[str]:
    # The name of a socket may have 107 bytes, and that of a data folder be longer.
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{held}/{SOCKET}"
    finally:
        os.close(held)


async def _taken(keeper: PrimacyKeeper, reader: asyncio.StreamReader) -> bool:
    """Wait for the key as long as who asked waits for the answer."""
    take = asyncio.ensure_future(keeper.take())
    gone = asyncio.ensure_future(reader.read(1))
    try:
        done, _ = await asyncio.wait({take, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        take.cancel()
        gone.cancel()
        await asyncio.gather(take, gone, return_exceptions=True)
    return take in done and take.exception() is None


def _shown(keeper: PrimacyKeeper) -> dict[str, object]:
    sight = keeper.sight
    if sight is None:
        return {
            "region": None,
            "machine": None,
            "unchanged_seconds": None,
            "remaining_seconds": None,
        }
    unchanged = round(BOOT_CLOCK.seconds() - sight.since, 2)
    remaining = keeper.remaining()
    return {
        "region": None if sight.claim is None else sight.claim.region,
        "machine": None if sight.claim is None else sight.claim.machine,
        "unchanged_seconds": None if sight.claim is None else unchanged,
        "remaining_seconds": None if remaining is None else round(remaining, 2),
    }
