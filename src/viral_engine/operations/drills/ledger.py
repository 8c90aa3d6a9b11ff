"""What the load wrote: every name that it asked for, what it was told, and what is there at last."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.operations.drills.clients import Book, Client, Session
from viral_engine.operations.drills.durable import Durability, check_set
from viral_engine.operations.drills.history import Kind, Operation, Outcome, Value
from viral_engine.operations.drills.outcomes import PROBLEM, Answer, write_outcome
from viral_engine.operations.drills.samples import WRITE, Sample
from viral_engine.operations.drills.verdict import Verdict
from viral_engine.operations.drills.workloads import everything, made

__all__ = ["Ledger", "additions", "lost_writes"]

PATH = "/api/organizations"
READS = "/api/tasks"
TASKS = 10
PAGE = 200
ARRIVES_WITHIN = timedelta(seconds=30)


@dataclass(slots=True)
class Ledger:
    """Makes what the load reads, and lists in every region what it wrote."""

    edges: Mapping[str, str]
    book: Book
    run: str
    places: list[str] = field(default_factory=list)
    _after: str = ""

    async def prepare(self, first: str) -> None:
        """Make some tasks in region ``first``, and wait until all regions have them."""
        async with self._client(first) as client:
            for number in range(TASKS):
                self.places.append(
                    await made(client, READS, {"title": f"{self.run}-{number}", "description": ""})
                )
            self._after = await _last_page(client)
        for region in self.edges:
            async with self._client(region) as client:
                await _arrived(client, self.places[-1])

    async def final(self) -> dict[str, list[Value]]:
        """Return the names of this run that a strong read finds, by region."""
        found: dict[str, list[Value]] = {}
        for region in self.edges:
            async with self._client(region) as client:
                rows = await everything(client, PATH, after=self._after)
            found[region] = [row["name"] for row in rows if row["name"].startswith(f"{self.run}-")]
        return found

    def _client(self, region: str) -> Client:
        return Client(Session(f"ledger-{region}"), region, self.edges[region], self.book)


async def _last_page(client: Client) -> str:
    """Return where the last page begins: what is there already need not be read again."""
    after = ""
    while True:
        query = f"{PATH}?limit={PAGE}{f'&after={after}' if after else ''}"
        answer = await client.ask("GET", query)
        following = answer.body.get("next") if answer.status == 200 else None
        if not following:
            return after
        after = following


async def _arrived(client: Client, place: str) -> None:
    async def arrived() -> bool | NotYet:
        answer = await client.ask("GET", place)
        return answer.status == 200 or NotYet(f"{answer.status} {answer.problem}")

    await wait_until(
        arrived, timeout=ARRIVES_WITHIN, waiting_for=f"{place} to reach {client.region}"
    )


def additions(samples: Iterable[Sample]) -> list[Operation]:
    """Return the writes of a load as operations of a history; one that was never sent is none.

    A second attempt with the same key answers for the first.
    """
    return [
        Operation(
            index=index, client=one.region, session=one.region, key="load", kind=Kind.WRITE,
            called_at=int(one.due * 1e9), returned_at=int(one.ended * 1e9), written=one.name,
            outcome=_outcome(one), region_asked=one.region, region_served=one.served,
            idempotency_key=one.name,
        )
        for index, one in enumerate(samples)
        if one.kind == WRITE and not one.dropped
    ]  # fmt: skip


def _outcome(one: Sample) -> Outcome:
    if one.ok or one.at_last:
        return Outcome.OK
    body = {"type": f"{PROBLEM}{one.reason}"}
    return write_outcome(Answer(one.status, body=body, text=one.reason))


def judged(samples: Iterable[Sample], final: Mapping[str, list[Value]]) -> Verdict:
    """Return whether what the load had acknowledged is there, once, in every region alike."""
    return check_set(additions(samples), final)


def lost_writes(verdicts: Iterable[Verdict]) -> int:
    """Count acknowledged writes that are not there, each once however many regions lack it."""
    lost = {
        operation.written
        for verdict in verdicts
        for finding in verdict.findings
        if finding.guarantee == Durability.LOST
        for operation in finding.operations
    }
    return len(lost)
