from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import pytest
from bench.consistency import AWAY, HOME
from bench.figures import State
from bench.own_writes import ReadOf
from bench.soak import asks_of
from bench.soak_faults import Fault, Place, held, moved, primaries_in, well_in
from bench.soak_plan import WAIT_BUDGET_S, Act, Step, plan
from bench.soak_report import Soak, judge, outcome
from bench.soak_seen import Seen
from bench.wire import Answer

from viral_engine.clock import NotYet

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_plan_moves_the_primary_away_in_three_ways_and_hands_it_back(seed: int) -> None:
    steps = plan(seed, 400)
    moves = [step.act for step in steps if step.act.moves_primary]
    assert set(moves[::2]) == {Act.SWITCHOVER, Act.KILL, Act.CUT}
    assert moves[1::2] == [Act.SWITCHOVER] * 3
    # Wherever the primary is, its standby is held back before it moves again.
    between = [pair for pair in pairwise(steps) if pair[0].act.moves_primary]
    assert not any(after.act.moves_primary for _, after in between)


def test_a_seed_says_all_and_another_one_says_something_else() -> None:
    assert plan(3, 400) == plan(3, 400)
    assert plan(3, 400) != plan(4, 400)


def test_some_stops_are_longer_than_a_read_waits_and_most_are_not() -> None:
    stops = [stop for step in plan(0, 400) for stop, _ in step.pauses]
    longer = [stop for stop in stops if stop > WAIT_BUDGET_S]
    assert longer
    assert len(longer) < len(stops) / 3


def test_a_longer_run_is_calm_for_longer_between_the_same_faults() -> None:
    short, long = plan(0, 10), plan(0, 1000)
    assert [one.act for one in short] == [one.act for one in long]
    assert all(a.calm_s < b.calm_s for a, b in zip(short, long, strict=True))


def look(*, iad: str = "primary", ready: bool = True, timeline: int = 1) -> dict[str, object]:
    def said(role: str) -> dict[str, object]:
        return {
            "role": role,
            "state": "running",
            "timeline": timeline,
            "streaming": role == "replica",
        }

    return {"ready": ready, "databases": {"iad": said(iad), "lhr": said("replica")}}


def test_all_is_well_with_one_primary_whose_timeline_the_others_stream() -> None:
    assert well_in(look(timeline=4), 2) == Place("iad", 4)
    for bad in (look(iad="replica"), look(ready=False)):
        assert isinstance(well_in(bad, 2), NotYet)
    silent = look()
    assert isinstance(well_in({**silent, "databases": {}}, 2), NotYet)
    assert primaries_in(look(iad="replica")) == []


@pytest.mark.parametrize(
    ("act", "after", "is_moved"),
    [
        (Act.SWITCHOVER, Place("lhr", 2), True),
        (Act.SWITCHOVER, Place("iad", 2), False),
        (Act.SWITCHOVER, Place("lhr", 1), False),
        (Act.KILL, Place("lhr", 2), True),
        (Act.BURSTS, Place("lhr", 2), False),
    ],
)
def test_the_primary_has_moved_when_it_is_elsewhere_on_a_later_timeline(
    act: Act, after: Place, *, is_moved: bool
) -> None:
    assert moved(act, Place("iad", 1), after) is is_moved


def test_a_standby_was_held_back_when_most_stops_held_and_none_is_left() -> None:
    bursts, delay = Step(Act.BURSTS), Step(Act.DELAY)
    assert held(bursts, {"stops": 5, "held": 4, "left": "sleeping"})
    assert not held(bursts, {"stops": 5, "held": 2, "left": "sleeping"})
    assert not held(bursts, {"stops": 5, "held": 5, "left": "stopped"})
    assert held(delay, {"in_force": "200ms", "left": "0"})
    assert not held(delay, {"in_force": "0", "left": "0"})


def answer(
    *, region: str, edge: str, route: str = "local; reason=replica", lost: str = ""
) -> Answer:
    headers = {
        b"viral-region": region.encode(),
        b"viral-route": route.encode(),
        b"fly-request-id": f"01ABC-{edge}".encode(),
        b"viral-session-lost": lost.encode(),
    }
    return Answer(200, headers, json.dumps({"id": 1, "title": "t", "region": region}).encode())


def test_a_write_is_replayed_when_another_region_answers_than_the_edge_that_was_asked() -> None:
    seen = Seen()
    seen.wrote(answer(region="iad", edge="lhr"), 0.1)
    seen.wrote(answer(region="iad", edge="iad"), 0.1)
    seen.wrote(answer(region="lhr", edge="lhr"), 0.1)
    assert seen.replayed == {"writes": 1}
    assert [region for _, region in seen.moves] == ["iad", "lhr"]


def test_a_write_called_lost_that_is_there_is_counted() -> None:
    seen = Seen()
    seen.read(answer(region="lhr", edge="lhr", lost="write-lost"), ReadOf.SEEN, 0.1)
    seen.read(answer(region="lhr", edge="lhr", lost="write-lost"), ReadOf.TOLD_LOST, 0.1)
    seen.read(answer(region="lhr", edge="lhr", lost="write-unknown"), ReadOf.SEEN, 0.1)
    assert (seen.wrongly, seen.unsurely) == (1, 1)


def test_what_a_client_leaves_is_read_back_as_it_was() -> None:
    client = Seen()
    client.read(
        answer(region="lhr", edge="lhr", route="wait; reason=replica-behind; waited=0.5"),
        ReadOf.SEEN,
        0.6,
    )
    seen = Seen.of(json.loads(json.dumps(client.as_json())))
    assert seen.reads == {ReadOf.SEEN: 1}
    assert seen.routes == {"wait replica-behind": 1}
    assert seen.waited_ms == [500.0]
    assert seen.within(0, 1e12)["wait"] == 1


def test_the_longest_time_without_a_write_is_counted_in_whole_seconds() -> None:
    seen = Seen(by_second={10: Counter(written=3), 14: Counter(written=1), 15: Counter(seen=1)})
    assert seen.longest_without_write(10, 16) == 3
    assert Seen().longest_without_write(1, 3) == 3


def fault(act: Act = Act.KILL, *, seen: bool = True) -> Fault:
    return Fault(act, "iad", 10.0, 20.0, seen=seen, told="", moved=seen)


def soak(
    *, stale: int = 0, control: int = 5, waits: int = 200, faults: int = 3, read: int = 1000
) -> Soak:
    ours = Seen(
        reads=Counter({ReadOf.SEEN: read - stale, ReadOf.STALE: stale}), waited_ms=[40.0] * waits
    )
    other = Seen(reads=Counter({ReadOf.STALE: control}))
    return Soak(
        reads=1000, rate=100, seed=0, reads_a_write=4, steps=[Step(Act.KILL)] * 3,
        arms={"through_runtime in lhr": ours, "replay_without_tokens in lhr": other},
        faults=[fault()] * faults, began=0, took_s=30, idle=0.3,
    )  # fmt: skip


def test_none_stale_is_kept_only_with_waits_failovers_every_read_and_a_control_that_was_caught() -> (
    None
):
    assert judge(soak()).state is State.KEPT
    for doubtful in (soak(control=0), soak(waits=0), soak(faults=2), soak(read=999)):
        assert judge(doubtful).state is State.UNKNOWN
    assert judge(soak(stale=1, control=0, waits=0)).state is State.BROKEN


def test_a_fault_that_a_second_look_did_not_show_leaves_it_unknown() -> None:
    found = soak()
    unseen = [*found.faults[:2], fault(seen=False)]
    told = judge(Soak(**{**{n: getattr(found, n) for n in found.__slots__}, "faults": unseen}))
    assert told.state is State.UNKNOWN
    assert "not seen" in " ".join(told.reasons)


def test_the_report_says_reads_waits_and_failovers_in_its_promise() -> None:
    told = outcome(soak())
    assert told.kept
    assert "0 of 1000" in told.promises[0].sentence
    assert "200 waited" in told.promises[0].sentence
    assert "3 failovers" in told.promises[0].sentence
    json.dumps(told.as_json())


def test_the_regions_share_the_reads_and_never_a_session() -> None:
    asks = asks_of(1000, 100, 1, [HOME, AWAY])
    ours = [ask for each in asks.values() for ask in each if ask.reads]
    assert sum(ask.reads for ask in ours) == 1000
    assert all(a.where != b.where for a, b in pairwise(ours))
