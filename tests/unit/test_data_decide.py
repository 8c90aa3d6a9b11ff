from __future__ import annotations

import pytest

from viral_engine.cluster import ClusterView
from viral_engine.cluster.view import Answer, Observation, build_view
from viral_engine.data import Need, RouteKind, current_route, decide, read_statements, routed
from viral_engine.data.decide import Route
from viral_engine.lsn import Lsn

REGIONS = ("iad", "lhr")


def _view(*, primary: str | None, answering: tuple[str, ...] = REGIONS) -> ClusterView:
    seen = [
        Observation(region, 0, Answer(region != primary, 1, Lsn(1), 0.0)) for region in answering
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
def test_a_replayed_request_is_never_replayed_again(primary: str | None) -> None:
    route = decide(Need.PRIMARY, here="lhr", view=_view(primary=primary), replayed=True)
    assert route.kind is not RouteKind.REPLAY


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
