"""Other numbers and sizes: what is allowed, what a plan keeps of it, and what viral.toml then says."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.deploy_values import World, blueprint

from viral_engine.errors import MisuseError, TopologyError
from viral_engine.operations.deploy import diff
from viral_engine.operations.deploy.scaling import of_scaling
from viral_engine.operations.scaling.wanted import named, scaled, with_exactly
from viral_engine.operations.scaling.written import lines, rewritten
from viral_engine.topology.load import parse
from viral_engine.topology.model import CpuKind, default_deployment

ALL = default_deployment()


def test_counts_and_sizes_are_set_where_they_are_named_and_nowhere_else() -> None:
    found = scaled(ALL, ["iad=3..7"], size="performance-2x", sized=["lhr"])
    assert (found.plan("iad").min, found.plan("iad").max) == (3, 7)
    assert found.plan("iad").guest == ALL.plan("iad").guest
    assert found.plan("lhr").guest.cpu_kind is CpuKind.PERFORMANCE
    assert (found.plan("lhr").min, found.plan("lhr").max) == (3, 5)
    one = scaled(ALL, ["lhr=4"], size="shared-cpu-2x")
    assert (one.plan("lhr").min, one.plan("lhr").max, one.plan("lhr").guest.cpus) == (4, 4, 2)
    assert one.plan("iad") == ALL.plan("iad")
    assert {plan.guest.cpus for plan in scaled(ALL, [], size="shared-cpu-2x").regions} == {2}


@pytest.mark.parametrize(
    ("counts", "more", "said"),
    [
        (["syd=1"], {}, "not among the regions"),
        (["iad"], {}, "no count"),
        (["iad=5..2"], {}, "above max"),
        (["iad=0..3"], {}, "at least 1"),
        (["iad=1", "iad=2"], {}, "twice"),
        ([], {"size": "huge"}, "no size"),
        ([], {"sized": ["iad"]}, "which size"),
        ([], {"size": "shared-cpu-1x:9gb"}, "memory"),
    ],
)
def test_what_cannot_be_is_misuse(counts: list[str], more: dict[str, Any], said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        scaled(ALL, counts, **more)


def test_a_plan_of_scaling_has_machines_of_these_regions_and_nothing_else() -> None:
    world = World()
    world.deploy(blueprint())
    drifted = world.machine("database-lhr").config.model_copy(update={"image": "by-hand"})
    world.edit("database-lhr", config=drifted)
    world.edit("app-iad-1", cordoned=True)
    wanted = scaled(ALL, ["iad=4", "lhr=1..2"])
    plan = of_scaling(diff(blueprint(wanted), world.found), named(ALL, ["iad=4", "lhr=1..2"], ()))
    assert [f"{change.kind} {change.what}" for change in plan.changes] == [
        "create-machine app-iad-3", "create-machine app-iad-4", "cordon-machine app-lhr-3",
        "stop-machine app-lhr-3", "destroy-machine app-lhr-3",
    ]  # fmt: skip
    only = of_scaling(diff(blueprint(wanted), world.found), ["iad"])
    assert {change.what for change in only.changes} == {"app-iad-3", "app-iad-4"}


def test_another_size_updates_one_machine_after_the_other_and_a_new_image_is_left_to_a_deploy() -> (
    None
):
    world = World()
    world.deploy(blueprint())
    wanted = scaled(ALL, [], size="shared-cpu-2x", sized=["lhr"])
    plan = of_scaling(diff(blueprint(wanted), world.found), ["lhr"])
    assert [len(stage.changes) for stage in plan.stages] == [1, 1, 1]
    assert {change.kind for change in plan.changes} == {"update-machine"}
    assert of_scaling(diff(blueprint(image="image:2"), world.found), ["iad", "lhr"]).changes == ()


def test_exactly_so_many_are_kept_of_those_that_somebody_scaled() -> None:
    world = World()
    world.deploy(blueprint(with_exactly(ALL, {"iad": 5})))
    assert sum(m.name.startswith("app-iad") for m in world.found.machines) == 5
    assert diff(blueprint(), world.found).changes == ()
    world.deploy(blueprint(with_exactly(ALL, {"iad": 0})))
    assert not any(m.name.startswith("app-iad") for m in world.found.machines)


TEXT = """\
# ours
app = "shop"  # the name

[regions.iad] # Virginia
min = 2   # never fewer
max = 10

[regions.lhr]
min = 3

[service]
app = "shop:app"
"""


def test_a_file_is_changed_where_it_has_to_be_and_keeps_its_comments() -> None:
    wanted = scaled(parse(TEXT), ["iad=3..10", "lhr=3..6"])
    assert rewritten(TEXT, wanted, ["iad", "lhr"]) == TEXT.replace(
        "min = 2   #", "min = 3   #"
    ).replace("min = 3\n\n[service]", "min = 3\nmax = 6\n\n[service]")
    assert rewritten(TEXT, wanted, ["lhr"]).count("min = 2   # never fewer") == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[service]\nsoft_limit = 5\n",
        "regions = { iad = { min = 1 }, lhr = { min = 1, max = 2 } }\n",
        "regions.iad.min = 1\nregions.lhr.min = 1\n",
        "[regions]\niad = { min = 1 }\n[regions.lhr]\nguest = { cpus = 2, memory_mb = 1024 }\n",
        TEXT.replace("\n", "\r\n"),
    ],
)  # fmt: skip
def test_however_a_file_is_written_it_reads_as_what_was_decided(text: str) -> None:
    before = parse(text)
    wanted = scaled(before, ["iad=2..4"], size="performance-1x", sized=["lhr"])
    after = parse(rewritten(text, wanted, ["iad", "lhr"]))
    assert after == wanted


def test_the_lines_to_write_read_as_what_was_decided_and_hold_only_what_is_not_usual() -> None:
    wanted = scaled(ALL, ["iad=2..4"])
    assert lines(wanted, ["iad"]) == "[regions.iad]\nmin = 2\nmax = 4\n"
    sized = scaled(ALL, [], size="performance-1x", sized=["lhr"])
    assert parse(lines(sized, ["lhr"])).plan("lhr") == sized.plan("lhr")


def test_a_file_with_faults_is_not_touched() -> None:
    with pytest.raises(TopologyError):
        rewritten("[regions.iad]\nmin = 'two'\n", ALL, ["iad"])
