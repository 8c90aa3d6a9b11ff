"""What two connections say of one node, whichever is answered first."""

from __future__ import annotations

import pytest

from viral_engine.cluster import ClusterWatcher
from viral_engine.cluster.view import Answer, Observation
from viral_engine.lsn import Lsn


class StillClock:
    def monotonic(self) -> float:
        return 10.0


def _replica(asked_at: float, lsn: int, *, lag: float | None = 0.0) -> Observation:
    return Observation("lhr", asked_at, Answer(True, 1, Lsn(lsn), lag))


@pytest.mark.parametrize(
    ("late", "shown"),
    [
        (_replica(9.0, 80), 80),  # asked before, and further
        (_replica(9.0, 20), 50),  # asked before, and of before
        (_replica(9.0, 80, lag=None), 50),  # one that receives nothing says nothing of use
        (Observation("lhr", 9.0, None, "no answer"), 50),
        (_replica(9.6, 20), 20),  # asked after: a node that was set back is where it says
    ],
)
def test_what_was_asked_earlier_undoes_nothing_and_what_it_saw_replayed_counts(
    late: Observation, shown: int
) -> None:
    clock = StillClock()
    watcher = ClusterWatcher({"lhr": "postgresql://nobody@127.0.0.1:1/x"}, machine="m", clock=clock)  # type: ignore[arg-type]  # it asks for the time alone
    watcher._publish(_replica(9.5, 50))
    watcher._publish(late)
    node = watcher.view.node("lhr")
    assert node is not None
    assert (node.reachable, node.lsn) == (True, Lsn(shown))
