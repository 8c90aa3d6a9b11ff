"""Carries a promotion out: fences, rebuilds etcd where it must, promotes and verifies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from viral_engine.errors import OperationError, PlatformError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.change_duty import do_stages
from viral_engine.operations.control import ctl
from viral_engine.operations.fail_over import until_acknowledges
from viral_engine.operations.fence import fence, until_lapsed
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.progress import Progress, step
from viral_engine.operations.promote import PromotionPlan, is_safe_to_rebuild
from viral_engine.operations.rebuild_etcd import rebuild_etcd

PROMOTED_WITHIN = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class Promoted:
    """What is true after a promotion: one region holds the data, and how to change that."""

    primary: str
    was: str
    synchronous: tuple[str, ...]
    stopped: tuple[str, ...]
    lost_bytes: int | None

    @property
    def next(self) -> tuple[str, ...]:
        """What to type to be protected again."""
        return tuple(f"viral start {region}" for region in self.stopped)

    def facts(self) -> dict[str, Any]:
        """The outcome for programs."""
        return {
            "primary": self.primary, "was": self.was, "synchronous": list(self.synchronous),
            "protection": "two-regions" if self.synchronous else "degraded",
            "lost_bytes": self.lost_bytes, "next": list(self.next),
        }  # fmt: skip

    def sentence(self) -> str:
        """The outcome for people."""
        said = f"primary {self.primary} (was {self.was})"
        if self.synchronous:
            return said + "".join(f", standby {region} synchronous" for region in self.synchronous)
        said += f", degraded: {self.primary} holds the data alone"
        commands = ", ".join(self.next)
        return said + (
            f". Bring the others back, when they can be, with: {commands}" if commands else ""
        )


async def take_over(
    client: FlyClient, formation: Formation, plan: PromotionPlan, progress: Progress
) -> Promoted:
    """Do what was planned and return what then is true; raises ViralError otherwise."""
    target = formation.at(plan.to)
    stopped = {one.machine for one in formation.machines if not one.running}
    held = True
    for one in plan.fence:
        with step(progress, plan.stop(one)):
            why_not = await fence(client, one)
            if why_not:
                progress.seen("fence", f"the platform could not stop it: {why_not}")
                held = held and not one.holds
            else:
                stopped.add(one.machine)
    if plan.rebuild:
        _refuse_unsafe(formation, plan, stopped)
    if not held:
        with step(progress, f"Wait until primacy has ended in {plan.was}"):
            await until_lapsed(client, target, plan.was)
    if plan.rebuild:
        with step(progress, plan.rebuild_step):
            await rebuild_etcd(client, formation, target, stopped=stopped, progress=progress)
    await do_stages(client, plan.turn.activate, progress)
    with step(progress, plan.promote_step):
        await ctl(client, target, "promote")
        now = await until_acknowledges(client, target, within=PROMOTED_WITHIN)
    try:
        await do_stages(client, plan.turn.stand_down, progress)
    except PlatformError as error:  # a lost region's machines serve nobody anyhow
        progress.seen("standby", f"not all of the others stand by: {error.message}")
    return Promoted(plan.to, plan.was, now.synchronous, _to_bring_back(formation, stopped, target),
                    plan.losses.bytes)  # fmt: skip


def _refuse_unsafe(formation: Formation, plan: PromotionPlan, stopped: Collection[str]) -> None:
    regions = {one.region for one in formation.machines if one.machine in stopped
               and one.role in {"database", "witness"}}  # fmt: skip
    if not is_safe_to_rebuild(plan.voices, plan.to, regions):
        left = ", ".join(sorted(set(plan.voices) - regions - {plan.to}))
        raise OperationError(
            f"Nobody can tell that {left} do not go on without {plan.to}: etcd is not rebuilt.",
            suggestion="Where the platform cannot stop their machines, end them by other means.",
        )


def _to_bring_back(
    formation: Formation, stopped: Collection[str], target: Standing
) -> tuple[str, ...]:
    regions = (
        one.region
        for one in formation.machines
        if one.machine in stopped and one.role in {"database", "witness"}
    )
    return tuple(dict.fromkeys(region for region in regions if region != target.region))
