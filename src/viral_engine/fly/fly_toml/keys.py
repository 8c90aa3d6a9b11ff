"""The keys that fly.toml has: what flyctl reads; it drops every other one without a word.

Source: `Config` of superfly/flyctl, internal/appconfig, at ad0172fac of 2026-08-21, and the types of
superfly/fly-go that it embeds. Spellings that flyctl still takes from old files are among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["ANY_NAME", "KEYS", "Keys", "Kind"]

ANY_NAME = "*"
"""Stands for a name of the writer's choosing."""

Keys = Mapping[str, Any]
"""A table: for each name the kind of its value, or the keys of the table that it holds."""


class Kind:
    """What a value may be: ``allowed`` in words, and the test that it must pass."""

    def __init__(self, allowed: str, allows: Callable[[object], bool]) -> None:
        self.allowed = allowed
        self.allows = allows


_DURATION = re.compile(r"([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    digits = isinstance(value, str) and value.isdecimal()
    return digits or (isinstance(value, int) and not isinstance(value, bool))


def _is_duration(value: object) -> bool:
    return _is_number(value) or (isinstance(value, str) and _DURATION.fullmatch(value) is not None)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


TEXT = Kind("text", lambda value: isinstance(value, str))
TEXTS = Kind("a list of texts", _is_list)
NUMBER = Kind("a number", _is_number)
WHOLE = Kind("a whole number", _is_whole)
SWITCH = Kind("true or false", lambda value: isinstance(value, bool))
DURATION = Kind('a duration such as "15s" or "1m30s"', _is_duration)
SIZE = Kind('a size such as "1gb"', lambda value: _is_number(value) or isinstance(value, str))
AUTOSTOP = Kind(
    '"off", "stop" or "suspend"',
    lambda value: isinstance(value, bool) or value in ("off", "stop", "suspend"),
)
ANYTHING = Kind("anything", lambda _value: True)

_CHECK: Keys = {
    **dict.fromkeys(("interval", "timeout", "grace_period"), DURATION),
    **dict.fromkeys(("method", "path", "protocol", "tls_server_name"), TEXT),
    "tls_skip_verify": SWITCH,
    "headers": {ANY_NAME: ANYTHING},
}
_TCP_CHECK: Keys = dict.fromkeys(("interval", "timeout", "grace_period"), DURATION)
_MACHINE_CHECK: Keys = {
    "command": TEXTS,
    "image": TEXT,
    "entrypoint": TEXTS,
    "kill_signal": TEXT,
    "kill_timeout": DURATION,
}
_GUEST: Keys = {
    "size": TEXT,
    "memory": SIZE,
    "cpu_kind": TEXT,
    **dict.fromkeys(("cpus", "memory_mb", "max_memory_mb", "gpus"), WHOLE),
    "gpu_kind": TEXT,
    "host_dedication_id": TEXT,
    "persist_rootfs": TEXT,
    "kernel_args": TEXTS,
    "processes": TEXTS,
}
_HTTP_OPTIONS: Keys = {
    "compress": SWITCH,
    "h2_backend": SWITCH,
    "idle_timeout": WHOLE,
    "headers_read_timeout": WHOLE,
    "response": {"headers": {ANY_NAME: ANYTHING}, "pristine": SWITCH},
    "replay_cache": {
        "path_prefix": TEXT,
        "ttl_seconds": WHOLE,
        "type": TEXT,
        "name": TEXT,
        "allow_bypass": SWITCH,
    },
}
_TLS_OPTIONS: Keys = {"alpn": TEXTS, "versions": TEXTS, "default_self_signed": SWITCH}
_SERVICE: Keys = {
    "internal_port": WHOLE,
    "auto_stop_machines": AUTOSTOP,
    "auto_start_machines": SWITCH,
    "min_machines_running": WHOLE,
    "processes": TEXTS,
    "concurrency": {"type": TEXT, "soft_limit": WHOLE, "hard_limit": WHOLE},
    "machine_checks": _MACHINE_CHECK,
}
_MOUNT: Keys = {
    "source": TEXT,
    "destination": TEXT,
    "initial_size": SIZE,
    "snapshot_retention": WHOLE,
    "scheduled_snapshots": SWITCH,
    "auto_extend_size_threshold": WHOLE,
    "auto_extend_size_increment": TEXT,
    "auto_extend_size_limit": TEXT,
    "processes": TEXTS,
}
_METRICS: Keys = {"port": WHOLE, "path": TEXT, "https": SWITCH, "processes": TEXTS}
_BUILD: Keys = {
    **dict.fromkeys(
        ("builder", "builtin", "image", "dockerfile", "ignorefile", "build-target",
         "build_target", "compression"),
        TEXT,
    ),
    "buildpacks": TEXTS,
    "compression_level": WHOLE,
    "args": {ANY_NAME: ANYTHING},
    "settings": {ANY_NAME: ANYTHING},
    "compose": {"file": TEXT},
}  # fmt: skip
_EXPERIMENTAL: Keys = {
    **dict.fromkeys(("cmd", "entrypoint", "exec"), ANYTHING),
    **dict.fromkeys(("auto_rollback", "enable_consul", "enable_etcd", "lazy_load_images"), SWITCH),
    "attached": {"secrets": {"export": {ANY_NAME: TEXT}}},
    "machine_config": TEXT,
    "kill_timeout": DURATION,
    "metrics_port": WHOLE,
    "metrics_path": TEXT,
}

KEYS: Keys = MappingProxyType(
    {
        **dict.fromkeys(
            ("app", "primary_region", "kill_signal", "console_command", "host_dedication_id",
             "machine_config", "container"),
            TEXT,
        ),
        "kill_timeout": DURATION,
        "swap_size_mb": WHOLE,
        "experimental": _EXPERIMENTAL,
        "build": _BUILD,
        "deploy": {
            "strategy": TEXT,
            "max_unavailable": NUMBER,
            "wait_timeout": DURATION,
            "release_command": TEXT,
            "release_command_timeout": DURATION,
            "release_command_vm": _GUEST,
            "seed_command": TEXT,
        },
        "env": {ANY_NAME: ANYTHING},
        "processes": {ANY_NAME: TEXT},
        **dict.fromkeys(("mounts", "mount"), _MOUNT),
        "http_service": {
            **_SERVICE,
            "force_https": SWITCH,
            "tls_options": _TLS_OPTIONS,
            "http_options": _HTTP_OPTIONS,
            "checks": _CHECK,
        },
        "services": {
            **_SERVICE,
            "protocol": TEXT,
            "ports": {
                **dict.fromkeys(("port", "start_port", "end_port"), WHOLE),
                "handlers": TEXTS,
                "force_https": SWITCH,
                "tls_options": _TLS_OPTIONS,
                "http_options": _HTTP_OPTIONS,
                "proxy_proto_options": {"version": TEXT},
            },
            "tcp_checks": _TCP_CHECK,
            "http_checks": _CHECK,
        },
        "checks": {ANY_NAME: {"type": TEXT, "port": WHOLE, "processes": TEXTS, **_CHECK}},
        "machine_checks": _MACHINE_CHECK,
        "files": {
            **dict.fromkeys(("guest_path", "local_path", "secret_name", "raw_value"), TEXT),
            "processes": TEXTS,
        },
        "restart": {"policy": TEXT, "retries": WHOLE, "processes": TEXTS},
        **dict.fromkeys(("vm", "compute", "computes"), _GUEST),
        "statics": dict.fromkeys(("guest_path", "url_prefix", "tigris_bucket", "index_document"), TEXT),
        **dict.fromkeys(("metrics", "metric"), _METRICS),
    }
)  # fmt: skip
