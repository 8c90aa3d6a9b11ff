"""What the platform's refusals mean, and what can be done about each: pure."""

from __future__ import annotations

import httpx

from viral_engine.errors import (
    BadRequestError,
    ConflictError,
    DeadlineError,
    LeaseHeldError,
    NoCapacityError,
    NotFoundError,
    PlatformError,
)

FULL = ("insufficient_capacity", "volume_placement_capacity")
"""The platform's own words, in ``status``, for a region or a volume's host without room."""

FULL_AT_START = ("could not reserve resource", "no capacity")
LEASE_HELD = "lease currently held by"

_KINDS: dict[int, type[PlatformError]] = {
    400: BadRequestError, 404: NotFoundError, 408: DeadlineError, 409: ConflictError,
    412: ConflictError,
}  # fmt: skip

_REMEDIES = {
    401: "The token is not valid. Make one with: fly tokens create deploy, and set FLY_API_TOKEN.",
    403: "The token may not do this, or the app belongs to another organization: choose another "
    "name for app in viral.toml, or a token of that organization.",
    404: "It was removed meanwhile, or never was there. See: viral plan.",
    408: "The platform is slow. Typed again, the command goes on where it was.",
    409: "Somebody else changes it at this moment. Typed again, the command looks anew.",
    412: "It changed since it was looked at. Typed again, the command looks anew.",
    429: "The platform is asked too often. Wait a minute; typed again, the command goes on.",
}
_OF_SERVER = "The platform has a fault of its own: see its status page. Nothing is lost by trying again later."
_FULL = (
    "The region has no room. Try again later, take a smaller machine, or take another region; "
    "a stopped machine has no place kept for it."
)
_HELD = "Wait for its end: a lease that nobody renews ends within seconds."


def refusal_of(answer: httpx.Response) -> PlatformError:
    """Turn an answer that is no success into the error that it means, with a remedy."""
    body = _body(answer)
    said = str(body.get("error") or "")
    code = answer.status_code
    message = said or f"The platform answered {code} {answer.reason_phrase}."
    if body.get("status") in FULL or (code == 409 and any(w in said for w in FULL_AT_START)):
        return NoCapacityError(message, status=code, suggestion=_FULL)
    if code == 409 and LEASE_HELD in said:
        return LeaseHeldError(message, status=code, suggestion=_HELD)
    remedy = _OF_SERVER if code >= 500 else _REMEDIES.get(code, "")
    return _KINDS.get(code, PlatformError)(message, status=code, suggestion=remedy)


def wished_delay(answer: httpx.Response) -> float | None:
    """Seconds that ``retry-after`` asks for; None where it does not say."""
    try:
        return max(0.0, float(answer.headers["retry-after"]))
    except (KeyError, ValueError):  # a date, which nothing of this wire sends, is as good as none
        return None


def _body(answer: httpx.Response) -> dict[str, object]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
