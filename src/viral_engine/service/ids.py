from __future__ import annotations

import secrets
from uuid import UUID

from viral_engine.clock import SYSTEM_CLOCK, Clock

__all__ = ["new_id"]


def new_id(clock: Clock = SYSTEM_CLOCK) -> UUID:
    """Return a UUID of version 7: its first 48 bits are the time in ms, the rest is random."""
    now_ms = int(clock.now().timestamp() * 1000) & (2**48 - 1)
    value = now_ms << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return UUID(int=value)
