from __future__ import annotations

from typing import Any

from viral_engine.web.problem import PROBLEM_TYPE

__all__ = ["READ", "TAGGED", "UNCHANGED", "WRITE", "problems"]

Responses = dict[int | str, dict[str, Any]]

_WORD = {"type": "string"}
_PROBLEM = {
    "title": "Problem",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:viral-engine:problem:not-found"]},
        "title": _WORD,
        "status": {"type": "integer"},
        "detail": _WORD,
        "current": {"type": "object", "description": "The row as it is, where versions conflict"},
        "errors": {
            "type": "array",
            "description": "Every fault of an invalid request",
            "items": {"type": "object", "properties": {"where": _WORD, "what": _WORD}},
        },
    },
}
_RETRY_AFTER = {"retry-after": {"schema": _WORD, "description": "Seconds until a retry may help"}}
_ETAG = {"etag": {"schema": _WORD, "description": 'The row\'s version, as `"7"`'}}
_DESCRIPTIONS = {
    400: "The idempotency-key is none: one header of 1 to 255 printable ASCII characters.",
    404: "There is no such row here (yet).",
    409: "It conflicts with what is stored, which `current` shows where that is one row."
    " Without the platform's proxy also: it belongs to the primary's region, see `fly-replay`.",
    412: "The row is not at a version that If-Match names; `current` and `etag` are the row's.",
    413: "The body is larger than 1 MiB.",
    422: "The request is not valid; `errors` lists every fault.",
    503: "No database can serve this at the moment; nothing was changed.",
    504: "The outcome is unknown: the write may have happened.",
}
_HEADERS = {412: _ETAG, 503: _RETRY_AFTER}


def problems(*statuses: int) -> Responses:
    """Return what the API's description says of these statuses, each a problem of RFC 9457."""
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {PROBLEM_TYPE: {"schema": _PROBLEM}},
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in statuses
    }


READ: Responses = problems(422, 503)
"""What any read can be answered besides its rows."""

WRITE: Responses = problems(400, 409, 413, 422, 503, 504)
"""What any write can be answered besides its row."""

TAGGED: dict[str, Any] = {"headers": _ETAG}
"""A good answer that carries its row's version."""

UNCHANGED: Responses = {
    304: {"description": "The version that If-None-Match names is the current.", "headers": _ETAG}
}
