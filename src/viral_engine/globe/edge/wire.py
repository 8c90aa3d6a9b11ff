"""Words that every part of Envoy's configuration shares."""

from __future__ import annotations

from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]


def typed(name: str, value: Json) -> Json:
    """Mark a value with the message type that Envoy should read it as."""
    return {"@type": f"type.googleapis.com/{name}", **value}


def seconds(value: float) -> str:
    """Say a duration in the way of protobuf's JSON, to the millisecond."""
    return f"{value:.3f}s"


def file_source(folder: str, name: str) -> Json:
    """Point at a file of resources, which is read anew whenever it is replaced by a rename."""
    return {"resource_api_version": "V3", "path_config_source": {"path": f"{folder}/{name}"}}


def resources(*items: Json) -> Json:
    """Wrap resources as the content of one discovery file."""
    return {"resources": list(items)}


def header(key: str, value: str) -> Json:
    """Set a header, in place of whatever was there."""
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
