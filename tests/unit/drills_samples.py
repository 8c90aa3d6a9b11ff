"""Builders of what users saw, for tests of figures and checks."""

from __future__ import annotations

from viral_engine.operations.drills.samples import WRITE, Sample

REGIONS = ("iad", "lhr")


def write(
    due: float, took: float = 0.1, *, region: str = "lhr", ok: bool = True, status: int = 201,
    **more: object,
) -> Sample:  # fmt: skip
    """A write that was due then, and what became of it."""
    return Sample(
        region=region, kind=str(more.pop("kind", WRITE)), due=due, ended=due + took, ok=ok,
        status=status if ok else int(str(more.pop("failed", 503))), at_last=ok,
        **more,  # type: ignore[arg-type]  # names and values are the caller's
    )  # fmt: skip


def steady(
    until: float, *, every: float = 0.5, region: str = "lhr", without: tuple[float, float] = (0, 0),
    kind: str = WRITE,
) -> list[Sample]:  # fmt: skip
    """Requests at a steady rate, all good, with a pause in which none was due."""
    count = int(until / every)
    return [
        write(number * every, region=region, kind=kind, name=f"{region}-{number}")
        for number in range(count)
        if not without[0] <= number * every < without[1]
    ]
