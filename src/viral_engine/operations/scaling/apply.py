"""Has the numbers and sizes of app machines made so, by a deploy that changes nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass

from viral_engine.errors import RefusedError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.blueprint import Blueprint, apps, places
from viral_engine.operations.deploy import Deploy, Found, Plan, diff, observe
from viral_engine.operations.deploy.scaling import of_scaling
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress
from viral_engine.operations.rollout_mark import is_in_rollout

__all__ = ["make_so", "planned"]


class LeftAlone:
    """The databases, of which scaling wants nothing: a failover may go on beside it."""

    def locked(self, operator: Operator) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - the shape of Databases
        """As in Databases: nobody is kept out."""
        return nullcontext()

    async def until_well(self) -> None:
        """As in Databases: they are as they are."""

    async def hand_over(self, region: str) -> None:
        """As in Databases: no plan of scaling has it."""

    async def hand_back(self, region: str) -> None:
        """As in Databases: the same."""


async def planned(client: FlyClient, blueprint: Blueprint, regions: Collection[str]) -> Plan:
    """Observe, and decide what scaling changes; raises RefusedError before the first deploy."""
    found = await observe(client, apps(blueprint.deployment))
    _refuse_unfit(blueprint, found)
    return of_scaling(diff(blueprint, found), regions)


async def make_so(
    client: FlyClient,
    blueprint: Blueprint,
    regions: Collection[str],
    *,
    operator: Operator,
    progress: Progress,
    edges: Mapping[str, str],
) -> int:
    """Make the app machines of these regions what the blueprint says; return how many changes."""
    _refuse_unfit(blueprint, await observe(client, apps(blueprint.deployment)))
    deploy = Deploy(
        client, blueprint, LeftAlone(), operator, progress, edges=edges,
        scaling=frozenset(regions),
    )  # fmt: skip
    await deploy.run()
    return len(deploy.done)


@dataclass(frozen=True, slots=True)
class Quiet:
    """Progress that nobody hears."""

    def begun(self, step: str) -> None:
        """Nothing is said."""

    def done(self, step: str, seconds: float) -> None:
        """Nothing is said."""

    def seen(self, step: str, detail: str) -> None:
        """Nothing is said."""


def _refuse_unfit(blueprint: Blueprint, found: Found) -> None:
    """Raise RefusedError while what app machines need is not there, or a rollout is under way.

    They would not find it; and a rollout's new machines, which nothing declares, would be taken away.
    """
    needed = [p for p in places(blueprint.deployment) if p.role != "app"]
    missing = [p.name for p in needed if found.machine(p.app, p.name) is None]
    if missing:
        raise RefusedError(
            f"There is no {missing[0]} yet: this deployment is not whole.",
            suggestion="Make it whole first: viral deploy.",
        )
    changing = [m.name for m in found.app(blueprint.deployment.app).machines if is_in_rollout(m)]
    if changing:
        raise RefusedError(
            f"A rollout is under way: {changing[0]} is a part of it.",
            suggestion="Go on with it or back, with viral rollout; or end it: viral deploy.",
        )
