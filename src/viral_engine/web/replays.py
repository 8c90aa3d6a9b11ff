from __future__ import annotations

from viral_engine.data import Route
from viral_engine.web.asgi import Receive, Send, drain
from viral_engine.web.headers import Incoming, replay_fields
from viral_engine.web.problem import Problem, send_problem
from viral_engine.web.signing import Replay, ReplaySigner
from viral_engine.web.sticky import Homes
from viral_engine.web.visit import Visit

__all__ = ["Replays"]

_OR_BACK = "timeout=2s;fallback=prefer_self"
"""Where the region cannot be reached the proxy brings the request back, and it is held here."""


class Replays:
    """Hands requests on by the platform's proxy, and knows those that were handed on to here."""

    def __init__(self, signer: ReplaySigner, homes: Homes) -> None:
        self._signer = signer
        self._homes = homes

    def of(self, incoming: Incoming) -> Replay | None:
        """Return what a machine of ours sent this request here for; None where none did."""
        if not incoming.replay_source:
            return None
        return self._signer.read(replay_fields(incoming.replay_source).get("state", ""))

    async def hand_over(
        self, visit: Visit, receive: Receive | None, send: Send, route: Route
    ) -> None:
        """Ask the proxy to bring a request elsewhere; its body, where there is one, is read first.

        One of more than 1 MiB is answered 413, with nothing done.
        """
        region = route.region or ""
        if visit.is_http and receive and not await drain(visit.scope, receive):
            await send_problem(visit.scope, send, _body_too_large(region))
            return
        home = visit.goes_home
        way = self._homes.directions(home) if home else f"region={region}"
        back = "" if home else f";{_OR_BACK}"
        state = self._signer.sign(region, route.reason)
        detail = f"This request is served in {region}; the platform's proxy takes it there."
        headers = (("fly-replay", f"{way};state={state}{back}"),)
        await send_problem(visit.scope, send, Problem(409, "replay", detail, headers))


def _body_too_large(region: str) -> Problem:
    detail = (
        f"A body of more than 1 MiB cannot be handed on to {region}. Nothing was done. "
        f"Send less, or send it there at once, with the header fly-prefer-region: {region}."
    )
    return Problem(413, "body-too-large", detail, ())
