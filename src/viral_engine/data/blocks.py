from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from viral_engine.data.decide import Need
from viral_engine.errors import DatabaseError

__all__ = ["Work", "at_primary", "current_work", "reads_at_primary", "working"]

Teller = Callable[[], Awaitable[None]]


class Work:
    """What one request needs of the data, and what it has read and not counted in yet.

    Where ``need`` is not PRIMARY its transactions are read-only. ``is_answered`` tells that its
    answer has begun, so that nothing can be said of what it reads from now on.
    """

    def __init__(self, need: Need) -> None:
        self.need = need
        self.is_answered = False
        self._tellers: list[Teller] = []
        self._faults: list[DatabaseError] = []

    @contextmanager
    def reading(self, teller: Teller) -> Iterator[None]:
        """Have ``teller`` count in what was read until then, should the answer begin in the block."""
        self._tellers.append(teller)
        try:
            yield
        finally:
            self._tellers.remove(teller)

    def must_not_answer(self, fault: DatabaseError) -> None:
        """Note that something was read that must not be used, where raising it would be too late."""
        self._faults.append(fault)

    async def tell(self) -> None:
        """Count in what open transactions have read; raise DatabaseError where none of it counts."""
        for teller in tuple(self._tellers):
            await teller()
        if self._faults:
            raise self._faults[0]


_WORK: ContextVar[Work | None] = ContextVar("viral_work", default=None)
_AT_PRIMARY: ContextVar[bool] = ContextVar("viral_at_primary", default=False)


def current_work() -> Work | None:
    """Return the work of the request that runs now, None outside of one."""
    return _WORK.get()


@contextmanager
def working(need: Need) -> Iterator[Work]:
    """Say what the block, and the tasks that it starts, need of the data; scopes nest."""
    work = Work(need)
    token = _WORK.set(work)
    try:
        yield work
    finally:
        _WORK.reset(token)


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
