"""Says things to Patroni and etcd from inside a database machine, since nothing else reaches them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Protocol

from viral_engine.errors import OperationError, PlatformError
from viral_engine.fly.client import FlyClient

ANSWER_WITHIN = timedelta(seconds=20)


class Inside(Protocol):
    """A machine as the platform knows it."""

    @property
    def app(self) -> str:
        """The app that it belongs to."""

    @property
    def machine(self) -> str:
        """Its id."""


async def ctl(
    client: FlyClient, inside: Inside, *words: str, timeout: timedelta = ANSWER_WITHIN
) -> dict[str, Any]:
    """Run ``viral node ctl`` in a machine and return what it prints.

    Raises PlatformError where the machine cannot be entered, and OperationError with its words
    where the command fails.
    """
    command = ["viral", "node", "ctl", *words]
    result = await client.exec(inside.app, inside.machine, command, timeout=timeout)
    if result.exit_code:
        said = (result.stderr or result.stdout).strip().removeprefix("Error:").strip()
        raise OperationError(said or f"{' '.join(command)} ended with {result.exit_code}.")
    try:
        answer: dict[str, Any] = json.loads(result.stdout)
    except ValueError as error:
        raise OperationError(f"{words[0]} answered no JSON: {result.stdout[:200]}") from error
    return answer


async def ctl_anywhere(
    client: FlyClient, machines: Iterable[Inside], *words: str
) -> dict[str, Any]:
    """As ``ctl``, in the first of some machines that answers; raises what the last one did."""
    failure: Exception = OperationError("No database machine runs that could be asked.")
    for inside in machines:
        try:
            return await ctl(client, inside, *words)
        except (PlatformError, OperationError) as error:
            failure = error
    raise failure
