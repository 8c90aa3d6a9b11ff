"""Where an edge listens, and what it does with a request, as Envoy's listeners and routes."""

from __future__ import annotations

from importlib import resources as package
from typing import Final

from viral_engine.globe.edge.clusters import KEY_MACHINE, KEY_REGION, socket
from viral_engine.globe.edge.model import EdgeView, HttpService, TcpService
from viral_engine.globe.edge.wire import Json, file_source, seconds, typed

BODY_LIMIT: Final = 1024 * 1024
"""The largest body that a replay can carry, in bytes."""
REPLAY_LIMIT: Final = 10
SERVER: Final = "Fly/viral-globe"
REPLAY_HOST: Final = "replay.edge"
INTERNAL_HEADERS: Final = ("x-edge-machine", "x-edge-region", "x-edge-replay")

_FILTERS: Final = "envoy.extensions.filters"
_NOTHING_SENT: Final = "connect-failure,refused-stream,reset-before-request"
# Envoy redirects no upgrade, since its request never ends. A machine that did not accept one is passed
# over instead, two in each region, until one accepts; it is not told who passed.
_REFUSED: Final = f"{_NOTHING_SENT},retriable-headers"


def http_listener(service: HttpService, address: str, view: EdgeView, folder: str) -> Json:
    """Serve an HTTP service on one address."""
    manager = typed(
        f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": service.name,
            "rds": {
                "route_config_name": service.name,
                "config_source": file_source(folder, routes_file(service.name)),
            },
            "http_filters": [_lua("places.lua", "request.lua"), _router()],
            "use_remote_address": True,
            "append_x_forwarded_port": True,
            "skip_xff_append": True,  # request.lua does it: Envoy leaves loopback users out
            # No peer is trusted for being on a private network: all of them are users.
            "internal_address_config": {
                "cidr_ranges": [{"address_prefix": "255.255.255.255", "prefix_len": 32}]
            },
            "generate_request_id": False,
            "preserve_external_request_id": True,
            "server_name": SERVER,
            "via": "1.1 fly.io",
            "stream_idle_timeout": seconds(service.idle_timeout_s),
            "request_headers_timeout": seconds(10),
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "local_reply_config": _local_replies(),
            "access_log": [_access_log(service.name, view.region)],
        },
    )
    return _listener(
        f"{service.name}@{address}",
        address,
        service.port,
        "envoy.filters.network.http_connection_manager",
        manager,
    )


def tcp_listener(service: TcpService, view: EdgeView) -> Json:
    """Pass connections to the healthy backend of a TCP service, for as long as they live."""
    proxy = typed(
        f"{_FILTERS}.network.tcp_proxy.v3.TcpProxy",
        {"stat_prefix": service.name, "cluster": service.name, "idle_timeout": seconds(0)},
    )
    name = f"{service.name}@{view.private_address}"
    return _listener(
        name, view.private_address, service.port, "envoy.filters.network.tcp_proxy", proxy
    )


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
                        _route("upgrade", upgrade, service, view, _REFUSED),
                        _route("repeatable", repeatable, service, view, f"{_NOTHING_SENT},reset"),
                        _route("once", {}, service, view, _NOTHING_SENT),
                    ],
                },
            ],
            "request_headers_to_add": [
                _header("fly-client-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
                _header("fly-forwarded-port", "%DOWNSTREAM_LOCAL_PORT%"),
                _header("fly-region", view.region),
            ],
            "response_headers_to_add": [_header("fly-request-id", "%REQ(FLY-REQUEST-ID)%")],
            "response_headers_to_remove": ["fly-replay", "fly-region"],
            "most_specific_header_mutations_wins": True,
        },
    )


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
        "host_selection_retry_max_attempts": 8,
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


def _header(key: str, value: str) -> Json:
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }


def _listener(name: str, address: str, port: int, filter_name: str, config: Json) -> Json:
    return typed(
        "envoy.config.listener.v3.Listener",
        {
            "name": name,
            "address": socket(address, port),
            "per_connection_buffer_limit_bytes": BODY_LIMIT,
            # Two edges must not share a port in silence; one thread needs no second socket.
            "enable_reuse_port": False,
            "filter_chains": [{"filters": [{"name": filter_name, "typed_config": config}]}],
        },
    )


def _lua(*files: str) -> Json:
    here = package.files(__package__)
    code = "\n".join(here.joinpath(file).read_text(encoding="utf-8") for file in files)
    config = typed(f"{_FILTERS}.http.lua.v3.Lua", {"default_source_code": {"inline_string": code}})
    return {"name": "envoy.filters.http.lua", "typed_config": config}


def _router() -> Json:
    codec = typed(f"{_FILTERS}.http.upstream_codec.v3.UpstreamCodec", {})
    labels = {KEY_MACHINE: "x-edge-machine", KEY_REGION: "x-edge-region"}
    mutations = [
        {"append": _header(header, f"%UPSTREAM_METADATA(envoy.lb:{key})%")}
        for key, header in labels.items()
    ]
    served = typed(
        f"{_FILTERS}.http.header_mutation.v3.HeaderMutation",
        {"mutations": {"response_mutations": [{"remove": "x-edge-replay"}, *mutations]}},
    )
    config = typed(
        f"{_FILTERS}.http.router.v3.Router",
        {
            "suppress_envoy_headers": True,
            "upstream_http_filters": [
                _lua("machine.lua"),
                {"name": "envoy.filters.http.header_mutation", "typed_config": served},
                {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
            ],
        },
    )
    return {"name": "envoy.filters.http.router", "typed_config": config}


def _local_replies() -> Json:
    """Say what went wrong in the platform's words, with its code where there is one."""
    texts = {
        "UH": "[PR01] no healthy machine can serve this request\n",
        "UF": "[PR03] no machine could be reached\n",
        "UC": "[PU02] the machine went away before it answered\n",
    }
    return {"mappers": [_local_reply(flag, text) for flag, text in texts.items()]}


def _local_reply(flag: str, text: str) -> Json:
    return {
        "filter": {"response_flag_filter": {"flags": [flag]}},
        "body_format_override": {"text_format_source": {"inline_string": text}},
        "headers_to_add": [_header("retry-after", "1")],
    }


def _access_log(service: str, region: str) -> Json:
    line = {
        "time": "%START_TIME%",
        "edge": region,
        "service": service,
        "request": "%REQ(FLY-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-URL?:PATH)%",
        "status": "%RESPONSE_CODE%",
        "region": "%UPSTREAM_METADATA(envoy.lb:region)%",
        "machine": "%UPSTREAM_METADATA(envoy.lb:machine)%",
        "duration_ms": "%DURATION%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "replays": "%FILTER_STATE(num_internal_redirects:PLAIN)%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
    }
    config = typed(
        "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
        {"log_format": {"json_format": line}},
    )
    return {"name": "envoy.access_loggers.stdout", "typed_config": config}
