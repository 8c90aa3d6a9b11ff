"""Gives one region's member of etcd a majority of its own when the others are lost."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import timedelta

from viral_engine.clock import NotYet, wait_until
from viral_engine.errors import PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine, MachineConfig
from viral_engine.operations.control import ctl
from viral_engine.operations.formation import Formation, Standing, ask_standing
from viral_engine.operations.progress import Progress

SETTING = "VIRAL_ETCD_REBUILD"
"""In a machine's environment: from which member etcd was rebuilt, where that is, which time."""

REBUILT_WITHIN = timedelta(seconds=90)
POLL = timedelta(milliseconds=500)

ETCD_ROLES = ("database", "witness")


async def rebuild_etcd(
    client: FlyClient, formation: Formation, target: Standing, *, stopped: Collection[str],
    progress: Progress,
) -> None:  # fmt: skip
    """Have the target's machine rebuild etcd; return once it has a majority.

    The others, which must be ``stopped`` (machine ids), are told first: whenever they start again,
    they forget what they knew and join. One that cannot be told is too few to decide anything, and
    is turned away by the rebuilt cluster.
    """
    survivor = await client.get_machine(target.app, target.machine)
    setting = f"{target.region}={survivor.private_ip}/{secrets.token_hex(6)}"
    for one in formation.machines:
        if one.role not in ETCD_ROLES or one.machine == target.machine:
            continue
        if one.machine not in stopped:
            progress.seen("etcd", f"{one.name} could not be stopped, and is not told")
            continue
        try:
            machine = await client.get_machine(one.app, one.machine)
            config = with_setting(machine.config, setting)
            await client.update_machine(one.app, one.machine, config, launch=False)
        except PlatformError as error:
            progress.seen("etcd", f"{one.name} could not be told: {error.message}")
    await client.update_machine(target.app, target.machine, with_setting(survivor.config, setting))
    now = await _until_majority(client, target)
    if now.operator:
        # Its command could not give it back, or died, when the majority was lost.
        await ctl(client, now, "unlock", "--holder", now.operator["holder"])


async def _until_majority(client: FlyClient, target: Standing) -> Standing:
    async def has_majority() -> Standing | NotYet:
        now = await ask_standing(client, target)
        if now.error or now.role == "unknown":
            return NotYet(now.error or "PostgreSQL does not answer yet")
        return now if now.majority else NotYet("etcd has no majority yet")

    return await wait_until(
        has_majority, timeout=REBUILT_WITHIN, interval=POLL,
        waiting_for=f"etcd in {target.region} to lead itself",
    )  # fmt: skip


def with_setting(config: MachineConfig, setting: str) -> MachineConfig:
    """Return a configuration whose machine knows of the rebuilding."""
    return config.model_copy(update={"env": {**config.env, SETTING: setting}})


def carried_over(before: MachineConfig, wanted: MachineConfig) -> MachineConfig:
    """Return what is wanted, with what was noted in the machine's configuration since it was made."""
    setting = before.env.get(SETTING)
    return wanted if setting is None else with_setting(wanted, setting)


def setting_missed(machine: Machine, others: Collection[Machine]) -> str | None:
    """Return the setting that a machine was not told while it was out of reach, None for none.

    What the others agree on is what counts; a machine that is alone has nothing to learn.
    """
    own = machine.config.env.get(SETTING)
    told = {other.config.env.get(SETTING) for other in others if other.id != machine.id}
    if len(told) != 1:
        return None
    (setting,) = told
    return setting if setting != own else None
