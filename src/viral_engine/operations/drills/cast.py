"""Who plays which role, as it is when a story begins; and what can be asked of a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from viral_engine.errors import RefusedError
from viral_engine.operations.drills.story import Story

__all__ = ["Cast", "Look", "cast_of"]


@dataclass(frozen=True, slots=True)
class Look:
    """What the databases said at one moment: who is the primary, on which timeline, and etcd's state."""

    primary: str
    timeline: int
    etcd_leader: str | None
    etcd_term: int

    @classmethod
    def of(cls, answers: Sequence[Mapping[str, Any]]) -> Look:
        """Read the answers of every database machine to ``viral node ctl status``."""
        told = next((one for one in answers if one.get("role") == "primary"), {})
        votes = [vote for one in answers for vote in (one.get("etcd") or {}).get("members", ())]
        return cls(
            primary=str(told.get("region", "")),
            timeline=int(told.get("timeline") or 0),
            etcd_leader=next((vote["region"] for vote in votes if vote["leader"]), None),
            etcd_term=max((vote["term"] or 0 for vote in votes), default=0),
        )


@dataclass(frozen=True, slots=True)
class Cast:
    """The regions of a deployment by role."""

    regions: tuple[str, ...]
    primary: str
    replicas: tuple[str, ...]
    witness: str | None
    etcd_leader: str | None

    def region(self, role: str) -> str:
        """Return the region of a role; raises RefusedError where this deployment has none."""
        found = {
            "primary": self.primary,
            "replica": self.replicas[0] if self.replicas else None,
            "witness": self.witness,
            "etcd-leader": self.etcd_leader,
        }[role]
        if found is None:
            raise RefusedError(
                f"This drill needs a region that is the {role}, and there is none here."
            )
        return found

    def check(self, story: Story) -> None:
        """Raise RefusedError where the story needs a role that nobody has here."""
        for act in story.acts:
            for role in act.places:
                if role != "others":
                    self.region(role)

    def pairs(self, places: Sequence[str]) -> list[tuple[str, str]]:
        """Return the ordered pairs of regions that two roles mean; none of them for no roles."""
        if not places:
            return []
        first, second = places
        known = self.region(second if first == "others" else first)
        if first == "others":
            return [(other, known) for other in self.regions if other != known]
        if second == "others":
            return [(known, other) for other in self.regions if other != known]
        return [(known, self.region(second))]


def cast_of(look: Look, *, databases: Sequence[str], witnesses: Sequence[str]) -> Cast:
    """Return who plays what."""
    regions = tuple(dict.fromkeys((*databases, *witnesses)))
    return Cast(
        regions=regions,
        primary=look.primary,
        replicas=tuple(region for region in databases if region != look.primary),
        witness=witnesses[0] if witnesses else None,
        etcd_leader=look.etcd_leader,
    )
