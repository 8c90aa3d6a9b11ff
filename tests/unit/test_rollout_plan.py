"""The steps of a rollout and of its undoing, over what was found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from viral_engine.cli.rollout_terms import version as version_of
from viral_engine.errors import MisuseError, RefusedError
from viral_engine.fly.model import Machine, MachineConfig
from viral_engine.operations.rollout import (
    Before,
    Fleet,
    Mark,
    Member,
    Options,
    Step,
    Strategy,
    Version,
    parse_waves,
    plan_back,
    plan_rollout,
)
from viral_engine.operations.rollout.plan import Act

OLD, NEW = MachineConfig(image="shop:1", env={"A": "1", "B": "2"}), Version("shop:2", {"A": "3"})
MARK = Mark(NEW, NEW.left_by(OLD), Strategy.ROLLING, before=Before(100, 1, 20.0))


def member(name: str, *, runs: bool = True, cordoned: bool = False) -> Member:
    return Member(name, name.split("-")[1], runs, cordoned, OLD)


def marked(one: Member, mark: Mark = MARK, *, renewed: bool = False) -> Member:
    config = NEW.brought_to(one.config) if renewed else one.config
    return replace(one, mark=mark, config=mark.put_on(config))


IAD, LHR, LHR2 = member("app-iad-1"), member("app-lhr-1"), member("app-lhr-2")


def fleet(*members: Member) -> Fleet:
    return Fleet(members, "iad")


def steps(found: Fleet, strategy: Strategy = Strategy.ROLLING, **more: object) -> list[str]:
    options = Options(strategy, bake_s=60, **more)  # type: ignore[arg-type]
    return told(plan_rollout(found, NEW, options, migrates=False).stages)


def told(stages: tuple[Step, ...]) -> list[str]:
    """Steps in short: ``watch! +opened -closed`` decides."""
    return [
        f"{one.act.value}{'!' if one.act is Act.WATCH and one.decides else ''} "
        + " ".join([
            ",".join(one.names), *(f"+{o}" for o in one.opens), *(f"-{c}" for c in one.closes)
        ])
        for one in stages
    ]  # fmt: skip


def test_regions_follow_each_other_and_the_primarys_comes_last() -> None:
    assert steps(fleet(IAD, LHR)) == [
        "renew app-lhr-1", "watch! app-lhr-1 +app-lhr-1", "pass app-lhr-1",
        "renew app-iad-1", "watch! app-iad-1 +app-iad-1", "pass app-iad-1",
    ]  # fmt: skip


def test_within_a_wave_one_machine_follows_the_other_and_the_bake_is_of_all() -> None:
    found = plan_rollout(fleet(IAD, LHR, LHR2), NEW, Options(bake_s=60), migrates=False)
    assert told(found.stages)[:5] == [
        "renew app-lhr-1", "watch app-lhr-1 +app-lhr-1",
        "renew app-lhr-2", "watch! app-lhr-1,app-lhr-2 +app-lhr-2", "pass app-lhr-1,app-lhr-2",
    ]  # fmt: skip
    assert [one.seconds for one in found.stages if one.act is Act.WATCH] == [5, 60, 60]
    assert not any("Be done" in sentence for sentence in found.steps)


def test_a_canary_bakes_alone_in_the_first_wave_and_the_rest_rolls() -> None:
    found = steps(fleet(IAD, LHR, LHR2), Strategy.CANARY)
    assert found[:4] == [
        "renew app-lhr-1", "watch! app-lhr-1 +app-lhr-1",
        "renew app-lhr-2", "watch! app-lhr-1,app-lhr-2 +app-lhr-2",
    ]  # fmt: skip
    assert found[5:7] == ["renew app-iad-1", "watch! app-iad-1 +app-iad-1"]


def test_blue_green_starts_new_machines_beside_the_old_and_keeps_these_for_the_bake() -> None:
    assert steps(fleet(LHR, LHR2), Strategy.BLUEGREEN) == [
        "add app-lhr-1-new,app-lhr-2-new",
        "watch app-lhr-1-new,app-lhr-2-new +app-lhr-1-new +app-lhr-2-new",
        "watch! app-lhr-1-new,app-lhr-2-new -app-lhr-1 -app-lhr-2",
        "renew app-lhr-1,app-lhr-2", "open app-lhr-1,app-lhr-2",
        "retire app-lhr-1-new,app-lhr-2-new", "pass app-lhr-1,app-lhr-2",
    ]  # fmt: skip


def test_machines_that_serve_nobody_get_the_version_and_are_led_to_no_user() -> None:
    stopped = member("app-lhr-1", runs=False)
    cordoned = member("app-lhr-2", cordoned=True)
    assert steps(fleet(IAD, member("app-iad-2"), stopped, cordoned))[:2] == [
        "renew app-lhr-1,app-lhr-2", "pass app-lhr-1,app-lhr-2",
    ]  # fmt: skip


def test_waves_are_as_they_were_said_and_name_every_region_once() -> None:
    assert parse_waves("iad / lhr, nrt") == (("iad",), ("lhr", "nrt"))
    assert steps(fleet(IAD, LHR), waves=(("iad", "lhr"),))[2:4] == [
        "renew app-lhr-1", "watch! app-iad-1,app-lhr-1 +app-lhr-1",
    ]  # fmt: skip
    for text in ("iad / ", "iad/iad", ""):
        with pytest.raises(MisuseError):
            parse_waves(text)
    for waves in ((("iad",),), (("iad",), ("lhr",), ("nrt",))):
        with pytest.raises(MisuseError, match="must name every region"):
            steps(fleet(IAD, LHR), waves=waves)


def test_a_version_that_runs_everywhere_leaves_nothing_to_do() -> None:
    there = [replace(one, config=NEW.brought_to(OLD)) for one in (IAD, LHR)]
    assert steps(fleet(*there)) == []


def test_migrations_come_first_and_only_while_nobody_runs_the_version() -> None:
    def first(*members: Member) -> Act:
        return plan_rollout(fleet(*members), NEW, Options(), migrates=True).stages[0].act

    assert first(IAD, LHR) is Act.MIGRATE
    assert first(IAD, marked(LHR, renewed=True)) is not Act.MIGRATE


@pytest.mark.parametrize(
    ("lhr", "first"),
    [
        (marked(LHR), "renew app-lhr-1"),
        (marked(replace(LHR, cordoned=True)), "renew app-lhr-1"),
        (marked(replace(LHR, cordoned=True), renewed=True), "renew app-lhr-1"),
        (marked(LHR, renewed=True), "watch! app-lhr-1"),
        (replace(LHR, config=NEW.brought_to(OLD)), "renew app-iad-1"),
    ],
)
def test_what_was_begun_is_gone_on_with_and_what_was_passed_is_left(
    lhr: Member, first: str
) -> None:
    assert steps(fleet(IAD, lhr))[0] == first


def test_blue_green_goes_on_from_wherever_it_was() -> None:
    mark = replace(MARK, strategy=Strategy.BLUEGREEN)
    guest = marked(member("app-lhr-1-new"), replace(mark, guest=True), renewed=True)
    away = marked(replace(LHR, cordoned=True), mark)
    assert steps(fleet(IAD, away, guest), Strategy.BLUEGREEN)[:4] == [
        "add app-lhr-1-new", "watch app-lhr-1-new +app-lhr-1-new",
        "watch! app-lhr-1-new -app-lhr-1", "renew app-lhr-1",
    ]  # fmt: skip
    renewed = marked(replace(LHR, cordoned=True), mark, renewed=True)
    assert steps(fleet(IAD, renewed, guest), Strategy.BLUEGREEN)[:4] == [
        "renew app-lhr-1", "open app-lhr-1", "retire app-lhr-1-new", "pass app-lhr-1",
    ]  # fmt: skip
    done = marked(LHR, mark, renewed=True)
    assert steps(fleet(IAD, done, guest), Strategy.BLUEGREEN)[:2] == [
        "retire app-lhr-1-new", "pass app-lhr-1",
    ]  # fmt: skip


def test_a_bad_blue_green_that_never_was_alone_is_only_closed() -> None:
    mark = replace(MARK, strategy=Strategy.BLUEGREEN)
    guest = marked(member("app-lhr-1-new"), replace(mark, guest=True), renewed=True)
    assert told(plan_back(fleet(IAD, marked(LHR, mark), guest))) == [
        "close app-lhr-1-new", "retire app-lhr-1-new", "pass app-lhr-1",
    ]  # fmt: skip


def test_a_strategy_that_was_begun_is_kept() -> None:
    found = fleet(IAD, marked(LHR, replace(MARK, strategy=Strategy.CANARY)))
    plan = plan_rollout(found, NEW, Options(), migrates=False)
    assert plan.strategy is Strategy.CANARY
    assert plan.warnings == ("A canary rollout was begun, and is gone on with as such.",)


def test_another_rollout_that_is_under_way_and_an_only_machine_are_refused() -> None:
    other = replace(MARK, to=Version("shop:9"))
    with pytest.raises(RefusedError, match="image shop:9 is under way"):
        steps(fleet(IAD, marked(LHR, other)))
    with pytest.raises(RefusedError, match="Nobody would serve") as raised:
        steps(fleet(IAD))
    assert "bluegreen" in raised.value.suggestion
    assert steps(fleet(IAD), Strategy.BLUEGREEN)[0] == "add app-iad-1-new"
    with pytest.raises(RefusedError, match="no app machine"):
        steps(fleet())


def test_a_wave_is_undone_with_who_still_has_the_old_version_first() -> None:
    untouched = marked(replace(LHR2, cordoned=True))
    found = fleet(IAD, marked(LHR, renewed=True), untouched)
    assert told(plan_back(found, ("lhr",))) == [
        "open app-lhr-2", "close app-lhr-1", "restore app-lhr-1", "open app-lhr-1",
        "pass app-lhr-1,app-lhr-2",
    ]  # fmt: skip
    assert plan_back(found) == plan_back(found, ("lhr",))
    assert plan_back(found, ("iad",)) == ()


def test_what_crashed_since_it_began_still_serves_and_goes_back_and_what_was_stopped_does_not() -> (
    None
):
    def found(name: str, mark: Mark) -> Member:
        wire = {
            "id": name, "name": name, "region": "lhr", "state": "stopped", "instance_id": "1",
            "private_ip": "", "created_at": "", "updated_at": "", "cordoned": True,
            "config": mark.put_on(NEW.brought_to(OLD)).to_wire(),
        }  # fmt: skip
        return Member.of(Machine.model_validate(wire))

    crashed = found("app-lhr-1", MARK)
    stopped = found("app-lhr-2", replace(MARK, ran=False, served=False))
    assert (crashed.runs, crashed.serves, stopped.runs, stopped.serves) == (
        True,
        True,
        False,
        False,
    )
    assert told(plan_back(fleet(IAD, crashed, stopped))) == [
        "restore app-lhr-1,app-lhr-2", "open app-lhr-1", "pass app-lhr-1,app-lhr-2",
    ]  # fmt: skip


def test_where_nobody_else_serves_machines_go_back_one_by_one_and_serve_until_then() -> None:
    both = [marked(one, renewed=True) for one in (IAD, LHR)]
    assert told(plan_back(fleet(*both))) == [
        "restore app-iad-1", "open app-iad-1", "restore app-lhr-1", "open app-lhr-1",
        "pass app-iad-1,app-lhr-1",
    ]  # fmt: skip


def test_blue_green_goes_back_by_leading_users_to_the_old_machines_again() -> None:
    mark = replace(MARK, strategy=Strategy.BLUEGREEN)
    guest = marked(member("app-lhr-1-new"), replace(mark, guest=True), renewed=True)
    found = fleet(IAD, marked(replace(LHR, cordoned=True), mark), guest)
    assert told(plan_back(found)) == [
        "open app-lhr-1", "close app-lhr-1-new", "retire app-lhr-1-new", "pass app-lhr-1",
    ]  # fmt: skip


def test_a_version_is_brought_and_taken_back_and_leaves_the_rest_alone() -> None:
    config = OLD.model_copy(update={"metadata": {"x": "y"}})
    version = Version("shop:2", {"A": "3", "B": None, "C": "4"})
    brought = version.brought_to(config)
    assert (brought.image, brought.env, brought.metadata) == ("shop:2", {"A": "3", "C": "4"}, {"x": "y"})  # fmt: skip
    assert version.runs_on(brought)
    assert not version.runs_on(config)
    assert version.left_by(config).brought_to(brought) == config
    assert Version(None, {"A": "1"}).runs_on(config)
    assert version.sentence == "image shop:2, A=3, without B, C=4"


def test_a_mark_is_read_as_it_was_written_and_anything_else_is_none() -> None:
    assert Mark.read(MARK.put_on(OLD)) == MARK
    for text in ("", "{}", "[]", "no JSON", '{"to": 1}'):
        assert Mark.read(OLD.model_copy(update={"metadata": {"viral_rollout": text}})) is None
    assert Mark.read(OLD) is None


def test_what_is_typed_names_a_version_or_is_refused() -> None:
    assert version_of("shop:2", None, ()) == Version("shop:2")
    typed = version_of(None, "shop.main:app", ("A=1=2", "B=", "C"))
    assert typed == Version(None, {"A": "1=2", "B": "", "C": None, "VIRAL_APP": "shop.main:app"})
    for said in ("=1", "", "a b=1", "FLY_REGION=iad", "DATABASE_URL=x", "PORT=1"):
        with pytest.raises(MisuseError):
            version_of(None, None, (said,))
    with pytest.raises(MisuseError, match="Nothing to roll out"):
        version_of(None, None, ())
