"""What an edge does with a request, as Envoy's routes: which machine, how often, how long."""

from __future__ import annotations

from typing import Final

from viral_engine.globe.edge.clusters import directions
from viral_engine.globe.edge.model import EdgeView, HttpService
from viral_engine.globe.edge.wire import Json, header, seconds, typed

BODY_LIMIT: Final = 1024 * 1024
"""The largest body that a replay can carry, in bytes."""
REPLAY_LIMIT: Final = 10
ALIVE_PATH: Final = "/.viral/edge"
"""A path of the edge's own, which no machine ever sees."""
REPLAY_HOST: Final = "replay.edge"
CLUSTER_HEADER: Final = "x-edge-cluster"
INTERNAL_HEADERS: Final = ("x-edge-machine", "x-edge-region", "x-edge-replay")

_NOTHING_SENT: Final = "connect-failure,refused-stream,reset-before-request"
# Envoy redirects no upgrade, since its request never ends. A machine that did not accept one is passed
# over instead, two in each region, until one accepts; it is not told who passed.
_REFUSED: Final = f"{_NOTHING_SENT},retriable-headers"


def routes(service: HttpService, view: EdgeView) -> Json:
    """Route every request of a service; a retry never repeats what a machine may have begun."""
    upgrade = {"headers": [{"name": "upgrade", "present_match": True}]}
    repeatable = {"headers": [_method("GET|HEAD|OPTIONS")]}
    return typed(
        "envoy.config.route.v3.RouteConfiguration",
        {
            "name": service.name,
            "virtual_hosts": [
                {
                    "name": "replays",
                    "domains": [REPLAY_HOST],
                    "routes": [_route("replay", {}, service, view, _NOTHING_SENT)],
                },
                {
                    "name": "users",
                    "domains": ["*"],
                    "routes": [
                        _alive(view),
                        _replay_that_may_fall_back(service, view),
                        _route("upgrade", upgrade, service, view, _REFUSED),
                        _route("repeatable", repeatable, service, view, f"{_NOTHING_SENT},reset"),
                        _route("once", {}, service, view, _NOTHING_SENT),
                    ],
                },
            ],
            "request_headers_to_add": [
                header("fly-client-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
                header("fly-forwarded-port", "%DOWNSTREAM_LOCAL_PORT%"),
                header("fly-region", view.region),
            ],
            "response_headers_to_add": [header("fly-request-id", "%REQ(FLY-REQUEST-ID)%")],
            "response_headers_to_remove": ["fly-replay", "fly-region"],
        },
    )


def _alive(view: EdgeView) -> Json:
    """What an edge answers by itself, so that it can be asked whether it lives."""
    return {
        "name": "alive",
        "match": {"path": ALIVE_PATH},
        "direct_response": {"status": 200, "body": {"inline_string": f"edge {view.region}\n"}},
        # The scripts speak of a service's machines, and here is none.
        "typed_per_filter_config": {
            "envoy.filters.http.lua": typed(
                "envoy.extensions.filters.http.lua.v3.LuaPerRoute", {"disabled": True}
            )
        },
    }


def _replay_that_may_fall_back(service: HttpService, view: EdgeView) -> Json:
    """Where request.lua has said so, which no user can: to the region asked, else the edge's own."""
    said = {
        "filter": "edge",
        "path": [{"key": "by_cluster"}],
        "value": {"bool_match": True},
    }
    made = _route("toward", {"dynamic_metadata": [said]}, service, view, _NOTHING_SENT)
    route = made["route"]
    del route["cluster"]
    retries = route["retry_policy"]
    retries["retry_priority"]["typed_config"]["update_frequency"] = 1
    route["cluster_header"] = CLUSTER_HEADER
    return made


def routes_file(service: str) -> str:
    """Name the file that holds the routes of a service."""
    return f"routes-{service}.json"


def _route(name: str, match: Json, service: HttpService, view: EdgeView, retry_on: str) -> Json:
    return {
        "name": name,
        "match": {"prefix": "/", **match},
        "request_body_buffer_limit": BODY_LIMIT,
        "metadata": {
            "filter_metadata": {
                "envoy.filters.http.lua": {
                    "region": view.region,
                    "service": service.name,
                    "toward": [region for region in directions(service, view) if region],
                    "body_limit": BODY_LIMIT,
                    "replay_limit": REPLAY_LIMIT,
                    "machines": _machines(service, view),
                }
            }
        },
        "route": {
            "cluster": service.name,
            "timeout": seconds(0),
            "idle_timeout": seconds(service.idle_timeout_s),
            "retry_policy": _retries(retry_on),
            "internal_redirect_policy": _replays(),
        },
    }


def _machines(service: HttpService, view: EdgeView) -> list[Json]:
    by_region = (
        (region, [b.machine_id for b in service.backends if b.region == region])
        for region in view.regions_by_rtt
    )
    return [{"region": region, "ids": ids} for region, ids in by_region if ids]


def _replays() -> Json:
    predicate = typed(
        "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
        {"allowed_route_names": ["replay"]},
    )
    name = "envoy.internal_redirect_predicates.allow_listed_routes"
    return {
        "max_internal_redirects": REPLAY_LIMIT,
        "redirect_response_codes": [307],
        "predicates": [{"name": name, "typed_config": predicate}],
        "response_headers_to_copy": list(INTERNAL_HEADERS),
        "allow_cross_scheme_redirect": True,
    }


def _retries(retry_on: str) -> Json:
    """Try another machine of the region, then the next region."""
    hosts = "envoy.retry_host_predicates.previous_hosts"
    priorities = "envoy.retry_priorities.previous_priorities"
    config = "envoy.extensions.retry"
    return {
        "retry_on": retry_on,
        "num_retries": REPLAY_LIMIT if retry_on == _REFUSED else 5,
        "retriable_headers": [{"name": "x-edge-replay", "present_match": True}],
        "retry_back_off": {"base_interval": seconds(0.005), "max_interval": seconds(0.05)},
        "retry_host_predicate": [
            {
                "name": hosts,
                "typed_config": typed(
                    f"{config}.host.previous_hosts.v3.PreviousHostsPredicate", {}
                ),
            }
        ],
        # A pick is random, and after the last one Envoy takes a machine that was tried already.
        "host_selection_retry_max_attempts": 40,
        "retry_priority": {
            "name": priorities,
            "typed_config": typed(
                f"{config}.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                {"update_frequency": 2},
            ),
        },
    }


def _method(pattern: str) -> Json:
    return {"name": ":method", "string_match": {"safe_regex": {"regex": pattern}}}
