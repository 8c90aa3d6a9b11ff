from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Self

from viral_engine.cluster import ClusterView, DatabaseAddresses
from viral_engine.data.pools import Connection, LazyPool
from viral_engine.observe import Listener

__all__ = ["PrimaryPools"]


class PrimaryPools:
    """The pools that lead to the primary: straight to its node where primacy says which one it is.

    So nobody waits until a proxy has noticed that the primary moved, and what hangs on a node that
    is lost takes no connection from its successor. By DATABASE_URL where nobody is known to be the
    primary or nothing is proven, as with external databases; always by the pooler where there is one.
    """

    def __init__(
        self,
        addresses: DatabaseAddresses,
        way: str,
        *,
        view: Callable[[], ClusterView],
        name: str,
        read_only: bool,
        size: int,
        listener: Listener | None = None,
    ) -> None:
        self._nodes = {} if addresses.pooler else addresses.nodes
        self._view = view
        self._what = "read" if read_only else "write"
        self._made = partial(LazyPool, name=name, read_only=read_only, size=size, listener=listener)
        self._common = self._made(
            way, circuit=f"{self._what} primary", pooled=addresses.pooler is not None
        )
        self._straight: dict[str, LazyPool] = {}

    @classmethod
    def of(
        cls,
        addresses: DatabaseAddresses,
        *,
        view: Callable[[], ClusterView],
        name: str,
        read_only: bool,
        size: int,
        listener: Listener | None = None,
    ) -> PrimaryPools | None:
        """Return them, None where no address leads to a primary."""
        way = addresses.way_to_primary
        if way is None:
            return None
        return cls(
            addresses, way, view=view, name=name, read_only=read_only, size=size, listener=listener
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in (self._common, *self._straight.values()):
            await pool.__aexit__(kind, error, trace)

    def now(self) -> LazyPool:
        """Return the pool that leads to the primary, as the view has it at this moment."""
        view = self._view()
        region = view.primary_region if view.guarded else None
        if region is None or region not in self._nodes:
            return self._common
        if region not in self._straight:
            circuit = f"{self._what} {region}"
            self._straight[region] = self._made(self._nodes[region], circuit=circuit)
        return self._straight[region]

    def give_up(self) -> None:
        """Break off everything that is lent, as ``LazyPool.give_up``."""
        for pool in (self._common, *self._straight.values()):
            pool.give_up()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection to the primary for a block; else as ``LazyPool.borrow``."""
        async with self.now().connection() as connection:
            yield connection
