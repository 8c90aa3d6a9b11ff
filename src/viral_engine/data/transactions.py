from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from viral_engine.data.commit import Commit
from viral_engine.data.loans import Loan
from viral_engine.data.once import FirstAnswer, RequestKey, claim, keep
from viral_engine.data.pools import Connection
from viral_engine.data.reads import Reads
from viral_engine.data.request import RequestRoute, current_route
from viral_engine.data.writes import OpenTransaction, Writes
from viral_engine.errors import NoPrimaryError, UnknownOutcomeError
from viral_engine.lsn import Lsn
from viral_engine.topology.model import Consistency

__all__ = ["RequestTransaction", "Transactions"]


class Transactions:
    """Write transactions of requests: begun behind what their client has seen, and counted in.

    ``writes`` is None where there is nowhere to write.
    """

    def __init__(
        self, writes: Writes | None, reads: Reads, statements: Mapping[str, bytes]
    ) -> None:
        self._writes = writes
        self._reads = reads
        self._sql = statements

    @asynccontextmanager
    async def once(
        self, bound: RequestRoute, key: RequestKey
    ) -> AsyncIterator[FirstAnswer | RequestTransaction]:
        """Run the block in one transaction that no second request with ``key`` repeats.

        Gives the first answer where there is one, once it holds as well as the resource asks for;
        else the transaction, for the block to end with an answer. Without that it is rolled back.
        Raises as ``writing``.
        """
        async with self.begun(bound.consistency) as transaction:
            before = await claim(transaction.connection, self._sql, key)
            if before is None:
                bound.transaction = transaction
                try:
                    yield RequestTransaction(self, bound, transaction, key)
                finally:
                    bound.transaction = None
                return
            await self._saw_first_answer(bound, transaction.connection)
        if bound.consistency.is_strong and self._writes:
            # The first one's commit may have lost its second region on the way.
            bound.in_one_region = not (await self._writes.barrier()).in_two_regions
        yield before

    async def _saw_first_answer(self, bound: RequestRoute, connection: Connection) -> None:
        """Count in the first one's commit, which lies before where the primary stands now.

        Where it begins is not known any more, so a failover in between makes it unknown, not lost.
        """
        position = await self._reads.position_of(Loan(connection, is_near=False))
        cluster = await self._reads.cluster_of(connection)
        bound.session.wrote_at(
            Commit(position.timeline, Lsn(0), position.lsn, in_two_regions=True), cluster=cluster
        )

    async def end_once(
        self,
        bound: RequestRoute,
        transaction: OpenTransaction,
        key: RequestKey,
        answer: FirstAnswer,
    ) -> None:
        """Store the answer in the transaction and commit both."""
        await keep(transaction.connection, self._sql, key, answer)
        await self.committed(bound, transaction)

    @asynccontextmanager
    async def begun(self, consistency: Consistency) -> AsyncIterator[OpenTransaction]:
        """Open a transaction; raise as ``Writes.begun``, and NoPrimaryError where there is none."""
        if not self._writes:
            raise NoPrimaryError("DATABASE_URL is not set, so there is nowhere to write.")
        bound = current_route()

        async def ready(connection: Connection) -> None:
            if bound:
                await self._reads.wait_until_shown(Loan(connection, is_near=False), bound)

        async with self._writes.begun(consistency, ready=ready) as transaction:
            yield transaction

    async def committed(self, bound: RequestRoute | None, transaction: OpenTransaction) -> None:
        """Commit, and count it in for the request; raise as ``OpenTransaction.commit``."""
        cluster = await self._reads.cluster_of(transaction.connection) if bound else 0
        commit = await transaction.commit()
        if bound:
            _note_commit(bound, commit, cluster, transaction.consistency)

    async def settle_doubt(self) -> None:
        """Return once another region holds what was committed before with an unknown outcome.

        Raises NoPrimaryError where that cannot be had.
        """
        if not (self._writes and self._writes.in_doubt):
            return
        try:
            await self._writes.barrier()
        except UnknownOutcomeError as error:
            raise NoPrimaryError(
                "A write before this read is not known to be held by another region yet."
            ) from error


class RequestTransaction:
    """The one transaction of a request that carries an idempotency key."""

    def __init__(
        self,
        transactions: Transactions,
        bound: RequestRoute,
        transaction: OpenTransaction,
        key: RequestKey,
    ) -> None:
        self._transactions = transactions
        self._bound = bound
        self._transaction = transaction
        self._key = key

    async def end(self, answer: FirstAnswer) -> None:
        """Commit what the request did together with its answer; raise as ``writing``."""
        await self._transactions.end_once(self._bound, self._transaction, self._key, answer)


def _note_commit(
    bound: RequestRoute, commit: Commit, cluster: int, consistency: Consistency
) -> None:
    seen = bound.session.token
    if seen and seen.cluster == cluster and seen.timeline > commit.timeline:
        raise UnknownOutcomeError(
            "The write may be lost: its node is on a branch that this client has seen the end of."
        )
    bound.session.wrote_at(commit, cluster=cluster)
    if consistency.is_strong and not commit.in_two_regions:
        bound.in_one_region = True
