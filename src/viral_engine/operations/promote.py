"""Decides how a region becomes primary without the present one's help, and what that may cost: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.operations.formation import Formation, Standing
from viral_engine.operations.turn_over import TurnOver, plan_turn_over

__all__ = ["Fenced", "Losses", "PromotionPlan", "is_safe_to_rebuild", "plan_promotion"]


@dataclass(frozen=True, slots=True)
class Losses:
    """What may be lost: bytes of the old primary's log that the target has not, None for unknown.

    The old primary's last position is its own word or, where it is silent, what it noted in etcd
    within its last second.
    """

    bytes: int | None
    received: str | None
    last_known: str | None
    synchronous: bool | None
    """None where nobody who answers knows."""

    def sentences(self, to: str, was: str) -> Iterator[str]:
        """Say it to people."""
        if self.bytes is None:
            yield f"What may be lost is unknown: nobody knows how far {was} was"
        elif self.bytes:
            yield (f"At least {self.bytes} bytes of {was}'s log may be lost: {to} received it up to "
                   f"{self.received}, and {was} was last known at {self.last_known}")  # fmt: skip
        else:
            yield (f"{to} received all that is known of {was}'s log, up to {self.received}; what {was} "
                   "acknowledged on eventual resources in its last second may be lost")  # fmt: skip
        yield {
            True: f"{to} is the synchronous standby: no acknowledged write on a strong resource is lost",
            False: f"{to} was not the synchronous standby: acknowledged strong writes may be lost too",
            None: f"Nobody knows whether {to} was the synchronous standby: strong writes may be lost too",
        }[self.synchronous]


@dataclass(frozen=True, slots=True)
class Fenced:
    """A machine that has to be stopped first; ``votes``: it has a voice in etcd."""

    region: str
    app: str
    machine: str
    role: str
    votes: bool
    holds: bool
    """Whether it is, or was last, the primary."""


@dataclass(frozen=True, slots=True)
class PromotionPlan:
    """What a promotion will do."""

    to: str
    was: str
    alive: bool
    rebuild: bool
    losses: Losses
    fence: tuple[Fenced, ...]
    voices: tuple[str, ...]
    turn: TurnOver = field(default_factory=TurnOver)

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps in their order, as they are shown before and while they are done."""
        return (
            *(self.stop(one) for one in self.fence),
            *((self.rebuild_step,) if self.rebuild else ()),
            *(task.sentence for stage in self.turn.activate for task in stage),
            self.promote_step,
            *(task.sentence for stage in self.turn.stand_down for task in stage),
        )

    def stop(self, one: Fenced) -> str:
        """The step that makes sure of one machine."""
        return f"Stop the {one.role} of {one.region}, and see that it is stopped"

    @property
    def rebuild_step(self) -> str:
        """The step that gives the survivor a majority."""
        return f"Rebuild etcd from {self.to} alone, since its majority is lost"

    @property
    def promote_step(self) -> str:
        """The step that makes the primary."""
        return f"Promote {self.to}, and wait until it acknowledges writes"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be known before saying yes."""
        alive = (f"{self.was} is alive: it is stopped first",) if self.alive else ()
        return (*alive, *self.losses.sentences(self.to, self.was))

    def facts(self) -> dict[str, Any]:
        """The plan for programs."""
        return {
            "primary": self.was, "to": self.to, "alive": self.alive, "rebuild_etcd": self.rebuild,
            "lost_bytes": self.losses.bytes, "received": self.losses.received,
            "last_known": self.losses.last_known, "synchronous": self.losses.synchronous,
            "fence": [one.machine for one in self.fence],
            "warnings": list(self.warnings), "steps": list(self.steps),
        }  # fmt: skip


def plan_promotion(formation: Formation, to: str, *, force: bool) -> PromotionPlan:
    """Decide what to do, or raise MisuseError or RefusedError with what speaks against it."""
    target = formation.at(to)
    if target.error:
        raise RefusedError(f"The database in {to} does not answer: {target.error}.")
    if target.acknowledges:
        raise MisuseError(f"{to} is the primary already.")
    was = _last_primary(formation, target)
    alive = was is not None and _is_alive(formation, was)
    rebuild = not target.majority
    if target.paused and not rebuild:
        raise RefusedError(
            "Patroni is paused: it promotes nothing.",
            suggestion="Resume it first: patronictl resume.",
        )
    if not force:
        _refuse_without_force(was, to, alive=alive, rebuild=rebuild)
    return PromotionPlan(
        to=to,
        was=was or "the last primary",
        alive=alive,
        rebuild=rebuild,
        losses=losses_of(formation, target, was),
        fence=_to_fence(formation, target, was, rebuild=rebuild),
        voices=tuple(target.voices),
        turn=plan_turn_over(formation, to),
    )


def _refuse_without_force(was: str | None, to: str, *, alive: bool, rebuild: bool) -> None:
    if alive:
        raise RefusedError(
            f"The primary in {was} is alive.",
            suggestion=f"Move it without loss: viral failover --to {to}. Or stop it and promote: "
            f"viral promote {to} --force.",
        )
    if rebuild:
        raise RefusedError(
            f"etcd has no majority as seen from {to}, so it cannot say that nobody else is primary.",
            suggestion="If the other regions are lost for good, this stops their machines and "
            f"rebuilds etcd from {to}: viral promote {to} --force.",
        )


def losses_of(formation: Formation, target: Standing, was: str | None) -> Losses:
    """Compare what the target received with the last that anybody knows of the old primary."""
    own = [one.received for one in formation.databases if one.region == was and one.received]
    noted = [one.last_position for one in formation.databases if one.last_position]
    last = max(own or noted, default=None)
    lost = None if last is None or target.received is None else max(0, last - target.received)
    return Losses(
        bytes=lost,
        received=str(target.received) if target.received else None,
        last_known=str(last) if last else None,
        synchronous=(
            any(target.region in one.synchronous for one in formation.databases)
            if any(one.last_primary for one in formation.databases)
            else None
        ),
    )


def is_safe_to_rebuild(voices: Collection[str], to: str, stopped: Collection[str]) -> bool:
    """Tell whether those who may still run are too few to agree on another primary without ``to``."""
    unproven = set(voices) - {to} - set(stopped)
    return 2 * len(unproven) <= len(voices)


def _last_primary(formation: Formation, target: Standing) -> str | None:
    """Who has to be fenced: the primary, or whoever was the last that anybody knows of."""
    others = [one for one in formation.databases if one is not target]
    known = [
        *(one.region for one in others if one.role == "primary"),
        *(one.sees_renewed() for one in formation.databases),
        *(one.lock for one in formation.databases),
        *(one.primacy for one in formation.databases),
        *(one.last_primary for one in formation.databases),
    ]
    found = next((region for region in known if region not in {None, target.region}), None)
    if found is None and len(others) == 1:
        return others[0].region
    return found


def _is_alive(formation: Formation, was: str) -> bool:
    """Whether it acknowledges by its own word, or somebody saw it renew primacy a moment ago."""
    return any(
        (one.region == was and one.acknowledges) or one.sees_renewed() == was
        for one in formation.databases
    )


def _to_fence(
    formation: Formation, target: Standing, was: str | None, *, rebuild: bool
) -> tuple[Fenced, ...]:
    """The old primary; and, where etcd is rebuilt, everybody who could vote for another one.

    Without a majority nobody knows who was promoted since, so that no database but the target may
    run. The primary first, while it still can hand on what it has.
    """
    databases = [
        Fenced(one.region, one.app, one.machine, "database", one.region in target.voices,
               holds=one.region == was)
        for one in formation.databases
        if one is not target and one.running and (rebuild or one.region == was)
    ]  # fmt: skip
    witnesses = [
        Fenced(one.region, one.app, one.machine, "witness", votes=True, holds=False)
        for one in formation.machines
        if rebuild and one.role == "witness" and one.running
    ]
    return (*sorted(databases, key=lambda one: not one.holds), *witnesses)
