"""Signals to a part of a machine, sent from inside it."""

from __future__ import annotations

import json
from datetime import timedelta

from viral_engine.errors import PlatformError
from viral_engine.operations.drills.crew import Crew
from viral_engine.operations.drills.witness import PARTS
from viral_engine.operations.observe import Found

__all__ = ["ASKED_WITHIN", "machine_of", "signal"]

ASKED_WITHIN = timedelta(seconds=15)


def machine_of(crew: Crew, part: str, region: str) -> Found:
    """Return the machine of a region that has a part, such as ``etcd``."""
    role = "cache" if part == "valkey" else "database"
    (found,) = crew.of(role, region) or crew.of("witness", region)
    return found


async def signal(crew: Crew, found: Found, part: str, word: str) -> list[int]:
    """Send it and return to which processes; raises PlatformError where that cannot be."""
    command = ["python", "-m", PARTS, part, word, found.machine.id]
    done = await crew.client.exec(found.app, found.machine.id, command, timeout=ASKED_WITHIN)
    if done.exit_code:
        raise PlatformError(f"No SIG{word} could be sent to {part}: {done.stderr.strip()[-300:]}")
    return [int(one["pid"]) for one in json.loads(done.stdout)]
