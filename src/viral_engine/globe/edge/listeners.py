"""Where an edge listens, and what every request passes through, as Envoy's listeners."""

from __future__ import annotations

from importlib import resources as package
from typing import Final

from viral_engine.globe.edge.clusters import KEY_MACHINE, KEY_REGION, socket
from viral_engine.globe.edge.model import EdgeView, HttpService, TcpService
from viral_engine.globe.edge.routes import BODY_LIMIT, routes_file
from viral_engine.globe.edge.wire import Json, file_source, header, seconds, typed

SERVER: Final = "Fly/viral-globe"
_FILTERS: Final = "envoy.extensions.filters"
_KEEPALIVE: Final = [
    {"level": 1, "name": 9, "int_value": 1},  # SOL_SOCKET, SO_KEEPALIVE
    {"level": 6, "name": 4, "int_value": 5},  # IPPROTO_TCP: TCP_KEEPIDLE, in seconds,
    {"level": 6, "name": 5, "int_value": 2},  # TCP_KEEPINTVL
    {"level": 6, "name": 6, "int_value": 3},  # and TCP_KEEPCNT
]
"""A connection whose user anycast has led elsewhere is never closed by that user: without this an edge keeps
it for an hour."""
_UNKNOWN: Final = "[PU02] the machine went away before it answered; what it did is unknown"


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


def _listener(name: str, address: str, port: int, filter_name: str, config: Json) -> Json:
    return typed(
        "envoy.config.listener.v3.Listener",
        {
            "name": name,
            "address": socket(address, port),
            "per_connection_buffer_limit_bytes": BODY_LIMIT,
            # Two edges must not share a port in silence; one thread needs no second socket.
            "enable_reuse_port": False,
            "socket_options": [*_KEEPALIVE],
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
    labels = {"x-edge-machine": KEY_MACHINE, "x-edge-region": KEY_REGION}
    mutations = [{"append": _of_machine(name, key)} for name, key in labels.items()]
    served = {"response_mutations": [{"remove": "x-edge-replay"}, *mutations]}
    choice = {"x-edge-chosen": KEY_MACHINE, "x-edge-chosen-region": KEY_REGION}
    chosen = {"request_mutations": [{"append": _of_machine(*one)} for one in choice.items()]}
    config = typed(
        f"{_FILTERS}.http.router.v3.Router",
        {
            "suppress_envoy_headers": True,
            "upstream_http_filters": [
                _mutation(chosen),
                _lua("machine.lua"),
                _mutation(served),
                {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
            ],
        },
    )
    return {"name": "envoy.filters.http.router", "typed_config": config}


def _of_machine(name: str, key: str) -> Json:
    """A header that holds a label of the machine that was chosen."""
    return header(name, f"%UPSTREAM_METADATA(envoy.lb:{key})%")


def _mutation(mutations: Json) -> Json:
    config = typed(f"{_FILTERS}.http.header_mutation.v3.HeaderMutation", {"mutations": mutations})
    return {"name": "envoy.filters.http.header_mutation", "typed_config": config}


def _local_replies() -> Json:
    """Say what went wrong in the platform's words; only where nothing was done, say to retry."""
    retry = {"headers_to_add": [header("retry-after", "1")]}
    return {
        "mappers": [
            _local_reply("UH", "[PR01] no healthy machine can serve this request", retry),
            _local_reply("UF", "[PR03] no machine could be reached", retry),
            _local_reply("UC", _UNKNOWN, {"status_code": 502}),
            _local_reply("UR", _UNKNOWN, {"status_code": 502}),
        ]
    }


def _local_reply(flag: str, text: str, more: Json) -> Json:
    return {
        "filter": {"response_flag_filter": {"flags": [flag]}},
        "body_format_override": {"text_format_source": {"inline_string": f"{text}\n"}},
        **more,
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
