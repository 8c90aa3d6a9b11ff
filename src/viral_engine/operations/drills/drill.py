"""Plays one story against a deployment that runs, under load, and says what was found."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from viral_engine.errors import RefusedError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.drills.cast import Cast, Look, cast_of
from viral_engine.operations.drills.checks import Evidence
from viral_engine.operations.drills.company import Company, in_company
from viral_engine.operations.drills.conclusion import concluded
from viral_engine.operations.drills.crew import Crew
from viral_engine.operations.drills.deeds import doing
from viral_engine.operations.drills.load import Effort, LoadPlan, Outside, under_users
from viral_engine.operations.drills.options import CALM_SHARE, Options, seconds_of
from viral_engine.operations.drills.probes import Probe
from viral_engine.operations.drills.probing import probed
from viral_engine.operations.drills.result import Result
from viral_engine.operations.drills.samples import Sample, Window, set_apart
from viral_engine.operations.drills.soundness import network_for, sound_machines, until_well
from viral_engine.operations.drills.stories import Stage
from viral_engine.operations.drills.story import Act, Story
from viral_engine.operations.drills.workload import MakeWorkload, Played
from viral_engine.operations.drills.workloads import under_load
from viral_engine.operations.observe import Found
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import Progress

__all__ = ["Rig", "play"]

WINDOW_AFTER_S = 10.0
"""The window of a fault goes on so long after its last act was undone."""

WELL_WITHIN = timedelta(seconds=60)
WELL_AGAIN_WITHIN = timedelta(seconds=120)
PROBED_LONGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Rig:
    """What a drill works with; histories and samples are left in ``folder``."""

    client: FlyClient
    edges: Mapping[str, str]
    outside: Outside
    k6: Path
    folder: Path
    who: Operator
    progress: Progress
    workloads: Mapping[str, MakeWorkload]


@dataclass(frozen=True, slots=True)
class _Heard:
    """What was gathered while the load ran; times in nanoseconds of the history's clock."""

    plan: LoadPlan
    zero: int
    faulted: int
    healed: int
    ended: int
    effort: Effort
    samples: Sequence[Sample]
    probes: Mapping[str, Sequence[Probe]]

    @property
    def fault(self) -> Window:
        return Window((self.faulted - self.zero) / 1e9, (self.healed - self.zero) / 1e9)


@dataclass(frozen=True, slots=True)
class _Scene:
    """A story on a deployment: who does it, and what works beside it."""

    story: Story
    options: Options
    rig: Rig
    stage: Stage
    crew: Crew
    company: Company
    before: Look


async def play(story: Story, options: Options, rig: Rig) -> Result:
    """Play a story, as it was drawn, once. Whatever ends it, every fault is undone.

    Raises RefusedError, and breaks nothing, where the deployment is not well or lacks a role, and
    UnsupportedError where its platform or network lacks the fault.
    """
    started_at = datetime.now(UTC)
    stage = Stage(rig.client, rig.edges, lambda said: rig.progress.seen(story.name, said))
    network = await network_for(rig.client, story)
    machines = await sound_machines(rig.client)
    before = await until_well(stage, within=WELL_WITHIN)
    cast = _cast(before, machines)
    cast.check(story)
    crew = Crew(rig.client, cast, machines, stage.mark, rig.who, rig.progress)
    with in_company(rig.edges, rig.workloads, folder=rig.folder, seed=options.seed,
                    primary=before.primary, run=uuid.uuid4().hex[:8]) as company:  # fmt: skip
        await company.prepare(before.primary)
        scene = _Scene(story, options, rig, stage, crew, company, before)
        heard = await _under_load(scene)
        stage.mark("the load has ended")
        evidence = await _evidence(scene, heard)
    return concluded(
        evidence, seed=options.seed, network=network, zero=heard.zero, marks=stage.marks,
        started_at=started_at.isoformat(timespec="seconds"),
    )  # fmt: skip


async def _under_load(scene: _Scene) -> _Heard:
    story, options, rig, crew = scene.story, scene.options, scene.rig, scene.crew
    ledger, seconds = scene.company.ledger, seconds_of(story, options)
    plan = LoadPlan(tuple(rig.edges), options.rate, options.vus, seconds, ledger.run, ledger.places)
    begins = seconds * CALM_SHARE + Random(options.seed).uniform(0, story.phase)  # noqa: S311 - a schedule
    databases = [one for one in crew.machines if one.machine.role == "database"]
    async with under_users(plan, k6=rig.k6, outside=rig.outside, folder=rig.folder) as running:
        crew.mark(f"the load begins; {crew.cast.primary} is the primary")
        async with (
            probed(rig.client, databases, seconds=seconds + PROBED_LONGER_S) as probes,
            under_load(scene.company.loops),
        ):
            faulted, healed = await _acted(crew, story, running.zero + int(begins * 1e9))
            await running.ended()
        return _Heard(
            plan, running.zero, faulted, healed, time.monotonic_ns(), running.effort(),
            running.samples(), probes,
        )  # fmt: skip


async def _acted(crew: Crew, story: Story, first: int) -> tuple[int, int]:
    """Do every act at its time; return when the first began and the last was undone (ns)."""
    times: list[int] = []

    async def act(one: Act) -> None:
        await asyncio.sleep(max(0.0, (first - time.monotonic_ns()) / 1e9 + one.at))
        times.append(time.monotonic_ns())
        async with doing(crew, one):
            await asyncio.sleep(one.lasts)
        times.append(time.monotonic_ns())

    async with asyncio.TaskGroup() as group:
        for one in story.acts:
            group.create_task(act(one))
    return (min(times), max(times)) if times else (first, first)


async def _evidence(scene: _Scene, heard: _Heard) -> Evidence:
    story, crew, before = scene.story, scene.crew, scene.before
    after, ill = None, ""
    try:
        after = await until_well(scene.stage, within=WELL_AGAIN_WITHIN)
        scene.stage.mark(f"all is well; {after.primary} is the primary")
    except RefusedError as error:
        ill = error.message
    lost = frozenset(map(crew.cast.region, story.expect.lost))
    cut_off = frozenset(map(crew.cast.region, story.expect.cut_off))
    samples = set_apart(heard.samples, lost=lost, cut_off=cut_off, fault=heard.fault)
    played = Played(
        primary=before.primary, lost=lost | cut_off, began_at=heard.zero,
        faulted_at=heard.faulted, healed_at=heard.healed, ended_at=heard.ended,
        moved=after is None or after.timeline > before.timeline,
    )  # fmt: skip
    ledger, workloads = (
        scene.company.unread() if after is None else await scene.company.judge(samples, played)
    )
    ends = min(heard.fault.ends + WINDOW_AFTER_S, heard.plan.seconds)
    return Evidence(
        story=story, plan=heard.plan, effort=heard.effort, samples=samples,
        fault=heard.fault, window=Window(heard.fault.begins, ends), regions=crew.cast.regions,
        surviving=frozenset(scene.rig.edges) - lost - cut_off, before=before, after=after,
        probes=heard.probes, workloads=workloads, ledger=ledger, seen=tuple(crew.seen), ill=ill,
        cut_off=cut_off,
    )  # fmt: skip


def _cast(look: Look, machines: Sequence[Found]) -> Cast:
    def regions(role: str) -> list[str]:
        return [one.machine.region for one in machines if one.machine.role == role]

    return cast_of(look, databases=regions("database"), witnesses=regions("witness"))
