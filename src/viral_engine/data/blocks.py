from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["at_primary", "reads_at_primary"]

_AT_PRIMARY: ContextVar[bool] = ContextVar("viral_at_primary", default=False)


def reads_at_primary() -> bool:
    """Tell whether what runs now was asked to read at the primary."""
    return _AT_PRIMARY.get()


@contextmanager
def at_primary() -> Iterator[None]:
    """Read at the primary inside the block, and in the tasks that it starts.

    What is read there holds every write that was acknowledged before. Blocks nest, and a commit
    inside one does not end it.
    """
    token = _AT_PRIMARY.set(True)
    try:
        yield
    finally:
        _AT_PRIMARY.reset(token)
