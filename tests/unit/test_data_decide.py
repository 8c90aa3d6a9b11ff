from __future__ import annotations

from datetime import UTC, datetime

import pytest

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data import Need, RouteKind, current_route, decide, read_statements, routed
from viral_engine.data.decide import Route
from viral_engine.data.token import SessionToken
from viral_engine.lsn import Lsn

REGIONS = ("iad", "lhr")


def _view(*, primary: str | None, answering: tuple[str, ...] = REGIONS) -> ClusterView:
    seen = [
        Observation(region, 0, Answer(region != primary, 1, Lsn(1), 0.0, cluster=0))
        for region in answering
    ]
    return build_view(REGIONS, seen, now=0, fresh_for=3)


@pytest.mark.parametrize(
    ("need", "here", "view", "expected"),
    [
        (Need.NEAR, "lhr", _view(primary="iad"), "local; reason=replica"),
        (Need.NEAR, "iad", _view(primary="iad"), "local; reason=primary-here"),
        (Need.NEAR, "lhr", _view(primary=None), "local; reason=replica"),
        (
            Need.NEAR,
            "lhr",
            _view(primary="iad", answering=("iad",)),
            "primary; reason=replica-unreachable",
        ),
        (Need.NEAR, "syd", _view(primary="iad"), "primary; reason=no-replica-here"),
        (
            Need.NEAR,
            "lhr",
            _view(primary=None, answering=()),
            "degraded; reason=replica-unreachable-and-no-primary",
        ),
        (
            Need.NEAR,
            "lhr",
            _view(primary=None, answering=("iad",)),
            "replay; reason=replica-elsewhere",
        ),
        (Need.NEAR, "syd", _view(primary=None), "replay; reason=replica-elsewhere"),
        (
            Need.PRIMARY,
            "iad",
            _view(primary="iad"),
            "local; reason=primary-here; lapsed=primacy",
        ),
        (Need.PRIMARY, "lhr", _view(primary="iad"), "replay; reason=write"),
        (Need.PRIMARY, "lhr", _view(primary=None), "degraded; reason=no-primary"),
    ],
)
def test_a_request_goes_where_its_need_and_the_view_send_it(
    need: Need, here: str, view: ClusterView, expected: str
) -> None:
    assert str(decide(need, here=here, view=view)) == expected


@pytest.mark.parametrize("primary", [None, "iad", "lhr"])
@pytest.mark.parametrize("need", list(Need))
@pytest.mark.parametrize("bound", ["replayed", "a socket"])
def test_what_was_replayed_or_cannot_be_is_not_replayed(
    bound: str, need: Need, primary: str | None
) -> None:
    seen = _view(primary=primary, answering=("iad",))
    route = decide(
        need, here="lhr", view=seen, replayed=bound == "replayed", movable=bound != "a socket"
    )
    assert route.kind is not RouteKind.REPLAY


@pytest.mark.parametrize(
    ("primary", "expected"),
    [("iad", "primary; reason=replica-not-streaming"), (None, "local; reason=replica")],
)
def test_a_replica_that_does_not_stream_serves_only_while_nobody_is_primary(
    primary: str | None, expected: str
) -> None:
    seen = [
        Observation("iad", 0, Answer(primary != "iad", 1, Lsn(1), 0.0)),
        Observation("lhr", 0, Answer(True, 1, Lsn(1), None)),
    ]
    view = build_view(REGIONS, seen, now=0, fresh_for=3)
    assert decide(Need.NEAR, here="lhr", view=view).name == expected


def test_a_read_goes_to_another_region_only_where_that_shows_all_that_the_client_has_seen() -> None:
    seen = _view(primary=None, answering=("iad",))

    def decided(position: int, timeline: int = 1) -> str:
        token = SessionToken(0, timeline, Lsn(position), datetime(2026, 1, 1, tzinfo=UTC))
        return decide(Need.NEAR, here="lhr", view=seen, token=token, waited=True).name

    assert decided(1) == "replay; reason=replica-elsewhere"
    assert (
        decided(2)
        == decided(1, timeline=2)
        == ("degraded; reason=replica-unreachable-and-no-primary")
    )


def test_a_route_is_bound_to_the_innermost_scope_and_undone_after_it() -> None:
    outer, inner = Route(RouteKind.LOCAL, "replica"), Route(RouteKind.PRIMARY, "fallback")
    with routed(outer) as bound:
        with routed(inner):
            found = current_route()
            assert found is not None
            assert found.route is inner
        assert current_route() is bound
    assert current_route() is None


def test_statements_are_found_by_the_name_before_them() -> None:
    statements = read_statements("viral_engine.service", "queries/tasks.sql")
    assert set(statements) == {
        "create_task",
        "get_task",
        "list_tasks",
        "list_tasks_after",
        "update_task",
    }
    assert statements["get_task"].startswith(b"select ")
    assert not statements["get_task"].endswith(b";")
