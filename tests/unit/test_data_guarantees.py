"""Over any schedule of reads, writes, lagging replicas and failovers a session never goes back.

The log and its replicas are simulated; what decides, waits, issues tokens and says what was lost is
the real code, and the checker of the drills is the judge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from random import Random
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.replicated_log import CLUSTER, Cluster, Move, MoveKind, Node

from viral_engine.clock import Deadline
from viral_engine.cluster.view import ClusterView, Observation, build_view
from viral_engine.data.commit import Commit
from viral_engine.data.decide import Need, Route, RouteKind, decide
from viral_engine.data.positions import after_read, covers
from viral_engine.data.router import route_read
from viral_engine.data.session import Session
from viral_engine.data.token import SessionToken, why_foreign
from viral_engine.lsn import Lsn
from viral_engine.operations.drills.history import Kind, Operation, Outcome
from viral_engine.operations.drills.sessions import Guarantee, check_sessions
from viral_engine.operations.drills.verdict import Ruling, Verdict, all_of, judge

T = TypeVar("T")

REGIONS = ("iad", "lhr", "syd")
CLIENTS = range(3)
KEYS = ("x", "y")


class Carries(StrEnum):
    """What moves a client's token."""

    ALL = "reads and writes"
    WRITES = "writes"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Look:
    """A region asks a node what it is; until it asks again it believes the answer."""

    here: str
    at: str


@dataclass(frozen=True)
class Ask:
    """A request; ``decided`` happens after its route was, ``read`` after the rows were read."""

    client: int
    here: str
    key: str
    writes: bool = False
    others: bool = False
    patient: bool = True
    to_former: bool = False
    decided: Move | None = None
    read: Move | None = None


Step = Look | Ask | Move


class StandingClock:
    """A clock that stands still: nothing in the model takes time."""

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Watch:
    """What one region believes of the nodes; a wait lets them move on, and then it looks again."""

    cluster: Cluster
    here: str
    patient: bool = True
    seen: dict[str, Observation] = field(default_factory=dict)
    waits: int = 0

    def look(self, at: str) -> None:
        answer = self.cluster.answer(at)
        self.seen[at] = Observation(at, 0.0, answer, "" if answer else "refused")

    @property
    def view(self) -> ClusterView:
        return build_view(REGIONS, self.seen.values(), now=0.0, fresh_for=1.0)

    async def wait_for(
        self, condition: Callable[[ClusterView], bool], *, timeout: timedelta
    ) -> ClusterView:
        for region in REGIONS if self.patient else ():
            self.look(region)
        condition(self.view)
        return self.view

    async def wait_until_replayed(
        self, region: str, *, timeline: int, lsn: Lsn, timeout: timedelta
    ) -> bool:
        self.waits += 1
        if self.patient:
            self.cluster.move(Move(MoveKind.REPLAY, region))
        self.look(region)
        return True


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what never has to wait for anything real."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    message = "the model never suspends"
    raise AssertionError(message)


class Refused(Exception):  # noqa: N818  # an answer of 503, not an error
    """Nobody could serve the request."""


class World:
    """Clients, the regions' beliefs and the cluster; keeps the history of all that was asked."""

    def __init__(self, carries: Carries) -> None:
        self.cluster = Cluster(REGIONS)
        self.history: list[Operation] = []
        self.routes: Counter[str] = Counter()
        self._watches = {here: Watch(self.cluster, here) for here in REGIONS}
        self._tokens: dict[int, SessionToken | None] = dict.fromkeys(CLIENTS)
        self._carries = carries
        for watch in self._watches.values():
            for region in REGIONS:
                watch.look(region)

    def take(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, Move):
                self.cluster.move(step)
            elif isinstance(step, Look):
                self._watches[step.here].look(step.at)
            else:
                self._ask(step)

    def verdict(self) -> Verdict:
        return check_sessions(self.history, self.cluster.versions())

    @property
    def at_stake(self) -> dict[str, int]:
        told = sum(one.told_lost for one in self.history)
        waits = sum(watch.waits for watch in self._watches.values())
        failovers = self.cluster.failovers
        return {**self.routes, "failovers": failovers, "waits": waits, "told": told}

    def _ask(self, ask: Ask) -> None:
        number = len(self.history)
        session = self._opened(ask.here, ask.client)
        answer: dict[str, Any] = {"outcome": Outcome.FAIL}
        try:
            if ask.writes:
                session, answer = self._write(ask, session, number)
            else:
                answer = self._read(ask, session)
        except Refused:
            self.routes["refused"] += 1
        if self._carries is Carries.ALL or (self._carries is Carries.WRITES and ask.writes):
            self._tokens[ask.client] = session.token
        self.history.append(
            Operation(
                index=number,
                client=f"client {ask.client}",
                session=f"client {ask.client}",
                key=ask.key,
                kind=Kind.WRITE if ask.writes else Kind.READ,
                called_at=2 * number,
                returned_at=2 * number + 1,
                written=number if ask.writes else None,
                told_lost=session.lost is not None,
                **answer,
            )
        )

    def _opened(self, here: str, client: int) -> Session:
        """Return the session as the web layer opens it in a region."""
        token, view = self._tokens[client], self._watches[here].view
        if token and why_foreign(token, cluster=view.cluster, heads=view.heads):
            token = None
        session = Session(token, clock=StandingClock())
        session.settle(view)
        return session

    def _write(self, ask: Ask, session: Session, value: int) -> tuple[Session, dict[str, Any]]:
        here = ask.here
        route = decide(Need.PRIMARY, here=here, view=self._watches[here].view)
        if route.kind is RouteKind.REPLAY and route.region:
            self._note(route)
            here = route.region
            session = self._opened(here, ask.client)
            route = decide(Need.PRIMARY, here=here, view=self._watches[here].view, replayed=True)
        self._note(route)
        if ask.decided:
            self.cluster.move(ask.decided)
        node = self._primary(ask)
        if route.kind is RouteKind.DEGRADED or node is None:
            raise Refused
        start, end = self.cluster.commit(node, ask.key, value, others=ask.others)
        if node.timeline < self.cluster.newest:
            # It has been outvoted, so primacy has lapsed and the outcome is not known.
            return session, {"outcome": Outcome.UNKNOWN}
        commit = Commit(node.timeline, start, end, in_two_regions=True)
        session.wrote_at(commit, cluster=CLUSTER)
        return session, {"outcome": Outcome.OK, "region_served": node.region, "route": str(route)}

    def _read(self, ask: Ask, session: Session) -> dict[str, Any]:
        watch = self._watches[ask.here]
        watch.patient = ask.patient
        route = at_once(
            route_read(
                watch,
                here=ask.here,
                session=session,
                budget=timedelta(seconds=2),
                deadline=Deadline(15.0, StandingClock()),
            )
        )
        self._note(route)
        if route.kind is RouteKind.DEGRADED:
            raise Refused
        if ask.decided:
            self.cluster.move(ask.decided)
        node, is_near = self._node_to_read(ask, route, session)
        found = self.cluster.find(node, ask.key)
        if ask.read:
            self.cluster.move(ask.read)
        self._saw(node, watch if is_near else None, session)
        answer = {"outcome": Outcome.OK, "found": found, "region_served": node.region}
        return answer | {"route": str(route)}

    def _node_to_read(self, ask: Ask, route: Route, session: Session) -> tuple[Node, bool]:
        near = self.cluster.nodes[ask.here]
        if route.is_near and near.is_up:
            return near, True
        far = self._primary(ask)
        if far is not None:
            return far, False
        view = build_view(
            REGIONS,
            [one for one in self._watches[ask.here].seen.values() if _is_replica(one)],
            now=0.0,
            fresh_for=1.0,
        )
        alone = decide(Need.NEAR, here=ask.here, view=view, token=session.token, waited=True)
        if not (alone.is_near and near.is_up):
            raise Refused
        return near, True

    def _saw(self, node: Node, watch: Watch | None, session: Session) -> None:
        said = self.cluster.answer(node.region)
        if said is None:
            raise Refused
        believed = watch.view.node(node.region) if watch else None
        position = after_read(
            {
                "lsn": str(said.lsn),
                "timeline": said.timeline,
                "in_recovery": said.in_recovery,
                "waiting": 0,
            },
            known_timeline=believed.timeline if believed else None,
        )
        if position is None or (session.token and not covers(position, session.token)):
            raise Refused
        session.read_at(position, cluster=CLUSTER)

    def _primary(self, ask: Ask) -> Node | None:
        """Return where the primary's address leads; for a moment that may be the former one."""
        found = sorted(self.cluster.primaries, key=lambda node: node.timeline)
        return found[0 if ask.to_former else -1] if found else None

    def _note(self, route: Route) -> None:
        self.routes[route.reason] += 1


def _is_replica(seen: Observation) -> bool:
    return seen.answer is None or seen.answer.in_recovery


_regions = st.sampled_from(REGIONS)
# While one request is served nothing is built anew: that takes seconds and cuts its connection.
_quick_moves = st.builds(
    Move,
    st.sampled_from([MoveKind.REPLAY, MoveKind.CUT, MoveKind.PROMOTE, MoveKind.FOLLOW]),
    _regions,
    st.integers(0, 100),
)
_moves = st.builds(Move, st.sampled_from(MoveKind), _regions, st.integers(0, 100))
_asks = st.builds(
    Ask,
    client=st.sampled_from(CLIENTS),
    here=_regions,
    key=st.sampled_from(KEYS),
    writes=st.booleans(),
    others=st.booleans(),
    patient=st.booleans(),
    to_former=st.booleans(),
    decided=st.none() | _quick_moves,
    read=st.none() | _quick_moves,
)
_looks = st.builds(Look, _regions, _regions)
_steps = st.lists(_asks | _asks | _asks | _moves | _looks, min_size=30, max_size=80)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_steps)
def test_no_schedule_takes_a_session_back_unless_it_was_told_what_is_lost(
    steps: Sequence[Step],
) -> None:
    world = World(Carries.ALL)
    world.take(steps)
    verdict = world.verdict()
    assert verdict.ruling is not Ruling.BROKEN, "\n".join(map(str, verdict.findings))


def _drawn(random: Random, size: int) -> list[Step]:
    """Return a long schedule with the odds of a cluster that mostly works."""
    steps: list[Step] = []
    for _ in range(size):
        region, share = random.choice(REGIONS), random.randint(0, 100)
        luck = random.random()
        if luck < 0.6:
            steps.append(
                Ask(
                    client=random.choice(CLIENTS),
                    here=region,
                    key=random.choice(KEYS),
                    writes=random.random() < 0.3,
                    others=random.random() < 0.2,
                    patient=random.random() < 0.7,
                    to_former=random.random() < 0.1,
                )
            )
        elif luck < 0.75:
            steps.append(Move(MoveKind.REPLAY, region, share))
        elif luck < 0.95:
            steps.append(Look(region, random.choice(REGIONS)))
        elif luck < 0.96:
            steps.append(Move(random.choice([MoveKind.STOP, MoveKind.CUT]), region))
        elif luck < 0.965:
            steps.append(Move(MoveKind.PROMOTE, region))
        else:
            steps.append(Move(random.choice([MoveKind.FOLLOW, MoveKind.REBUILD]), region))
    return steps


def _arm(carries: Carries, seeds: int = 12) -> tuple[Verdict, Counter[str], Counter[str]]:
    verdicts, at_stake = [], Counter[str]()
    for seed in range(seeds):
        world = World(carries)
        world.take(_drawn(Random(seed), 1000))
        verdicts.append(world.verdict())
        at_stake.update(world.at_stake)
    verdict = all_of(verdicts)
    return verdict, at_stake, Counter(finding.guarantee for finding in verdict.findings)


def test_the_same_schedules_break_sessions_whose_tokens_are_dropped_or_move_on_writes_only() -> (
    None
):
    kept, at_stake, _ = _arm(Carries.ALL)
    dropped, _, found_dropped = _arm(Carries.NOTHING)
    writes_only, _, found_writes_only = _arm(Carries.WRITES)
    assert found_dropped[Guarantee.READ_YOUR_WRITES] > 20
    assert found_dropped[Guarantee.MONOTONIC_READS] > 20
    assert found_writes_only[Guarantee.MONOTONIC_READS] > 5
    for control in (dropped, writes_only):
        verdict = judge(kept, control, at_stake=at_stake)
        assert verdict.ruling is Ruling.KEPT, (verdict, at_stake)
    asked = {"failovers", "waits", "told", "replica", "replica-behind", "primary-here", "write"}
    assert asked <= at_stake.keys()


@pytest.mark.parametrize("part", ["covers", "telling"])
def test_the_model_breaks_where_a_part_of_the_protection_is_taken_out(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if part == "covers":
        monkeypatch.setitem(globals(), "covers", lambda *_: True)
    else:
        monkeypatch.setattr(Session, "_note_unsettled", lambda *_: None)
    verdict, _, _ = _arm(Carries.ALL)
    assert verdict.ruling is Ruling.BROKEN
