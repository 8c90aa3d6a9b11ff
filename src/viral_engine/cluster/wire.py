from __future__ import annotations

import asyncio
import base64
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from urllib.parse import urlsplit

__all__ = ["DEFAULT_TIMEOUT", "Reply", "UnreachableError", "call"]

# The standard library's client, in a thread: a node's supervisor starts in a fifth of a second,
# and a full HTTP client would double that.

DEFAULT_TIMEOUT = timedelta(seconds=2)


class UnreachableError(Exception):
    """A neighbour on this machine or in the cluster did not answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a neighbour answered: status, and the body as JSON where it is that, else as text."""

    status: int
    body: object

    def field(self, key: str) -> object:
        """Return one field of the body, None where there is none."""
        return self.body.get(key) if isinstance(self.body, dict) else None


async def call(
    url: str,
    body: Mapping[str, object] | None = None,
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    credentials: tuple[str, str] | None = None,
) -> Reply:
    """Send a GET, or a POST where there is a body; raise UnreachableError where nobody answers.

    ``timeout`` bounds each step on the connection, not the whole.
    """
    return await asyncio.to_thread(_call, url, body, timeout.total_seconds(), credentials)


def _call(
    url: str,
    body: Mapping[str, object] | None,
    timeout_s: float,
    credentials: tuple[str, str] | None,
) -> Reply:
    target = urlsplit(url)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if credentials is not None:
        token = base64.b64encode(":".join(credentials).encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=timeout_s)
    try:
        connection.request(
            "GET" if body is None else "POST",
            f"{target.path}?{target.query}" if target.query else target.path,
            None if body is None else json.dumps(body),
            headers,
        )
        response = connection.getresponse()
        return Reply(response.status, _parsed(response.read()))
    except (OSError, http.client.HTTPException) as error:
        raise UnreachableError(f"{target.netloc}: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()


def _parsed(raw: bytes) -> object:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode(errors="replace").strip()
