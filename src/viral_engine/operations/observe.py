"""What runs now, as rows for people and programs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineState
from viral_engine.operations.protection import protection

TOLD = ("role", "timeline", "position", "lag_seconds", "paused", "differences", "etcd", "members")
"""What of a database machine's words is used."""

OF_ALL = ("members", "etcd", "differences")
"""What it says of the whole cluster: all say the same, and it is shown once."""

ASK_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Found:
    """A machine and the app that it belongs to."""

    app: str
    machine: Machine


async def find_machines(client: FlyClient) -> list[Found]:
    """Every machine of every app."""
    return [
        Found(app.name, machine)
        for app in await client.list_apps()
        for machine in await client.list_machines(app.name)
    ]


def health(machine: Machine) -> str:
    """``passing``, ``critical`` or, for a machine that does not run, ``stopped``."""
    if machine.state is not MachineState.STARTED:
        return "stopped"
    return "passing" if machine.healthy else "critical"


async def machine_rows(client: FlyClient) -> list[dict[str, Any]]:
    """Every machine with its place, state and health."""
    return [
        {
            "id": found.machine.id,
            "name": found.machine.name,
            "app": found.app,
            "region": found.machine.region,
            "role": found.machine.role,
            "state": found.machine.state.value,
            "health": health(found.machine),
            "cordoned": found.machine.cordoned,
            "private_ip": found.machine.private_ip,
        }
        for found in await find_machines(client)
    ]


async def database_view(client: FlyClient) -> dict[str, Any]:
    """Who is primary and how far behind the replicas are, as the database machines say it.

    A machine that does not answer is listed with its error; with nobody to ask, primary is None.
    """
    machines = [found for found in await find_machines(client) if found.machine.role == "database"]
    answers = await asyncio.gather(*(_ask(client, found) for found in machines))
    primaries = [answer for answer in answers if answer["role"] == "primary"]
    return {
        "primary": primaries[0]["region"] if primaries else None,
        "replicas": [_node(answer) for answer in answers if answer["role"] != "primary"],
        "nodes": [_node(answer) for answer in answers],
        "etcd_leader": next((a["etcd"]["leader"] for a in answers if a.get("etcd")), None),
        "settings_not_in_force": sorted({d for a in answers for d in a.get("differences") or ()}),
        **protection(answers),
    }


def _node(answer: dict[str, Any]) -> dict[str, Any]:
    """One database for the list."""
    return {key: value for key, value in answer.items() if key not in OF_ALL}


async def _ask(client: FlyClient, found: Found) -> dict[str, Any]:
    machine = found.machine
    row: dict[str, Any] = {"region": machine.region, "machine": machine.id, "role": "unknown",
                           "lag_seconds": None}  # fmt: skip
    try:
        result = await client.exec(
            found.app, machine.id, ["viral", "node", "ctl", "status"], timeout=ASK_WITHIN
        )
    except PlatformError as error:
        return row | {"error": error.message}
    if result.exit_code:
        return row | {"error": (result.stderr or result.stdout).strip()}
    try:
        said: dict[str, Any] = json.loads(result.stdout)
    except ValueError:
        return row | {"error": f"it answered something that is not JSON: {result.stdout[:200]}"}
    return row | {key: said.get(key) for key in TOLD}
