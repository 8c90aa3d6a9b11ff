"""Whoever asks the desk for primacy is told that it is taken only where it was."""

from __future__ import annotations

import asyncio
from typing import cast

from viral_engine.nodes.primacy import PrimacyKeeper
from viral_engine.nodes.primacy_desk import _taken


class Keeper:
    """Takes the key, or fails at it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    async def take(self) -> None:
        if self.error is not None:
            raise self.error


async def taken(keeper: Keeper) -> bool:
    async with asyncio.timeout(5):
        return await _taken(cast("PrimacyKeeper", keeper), asyncio.StreamReader())


async def test_a_key_that_was_taken_is_said_to_be_and_one_that_failed_is_not() -> None:
    assert await taken(Keeper())
    assert not await taken(Keeper(OSError("too many open files")))
