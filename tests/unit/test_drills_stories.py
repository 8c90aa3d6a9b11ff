"""Stories: what can be said in one, what is refused, and what the package ships."""

from __future__ import annotations

from random import Random

import pytest

from viral_engine.errors import MisuseError, RefusedError
from viral_engine.operations.drills.cast import Cast, Look, cast_of
from viral_engine.operations.drills.options import Options, seconds_of
from viral_engine.operations.drills.repertoire import drawn, shipped, story_named
from viral_engine.operations.drills.story import Story
from viral_engine.operations.drills.story_toml import parse

STORIES = shipped()
LOOK = Look(primary="lhr", timeline=3, etcd_leader="yyz", etcd_term=7)
CAST = cast_of(LOOK, databases=["iad", "lhr", "ams"], witnesses=["yyz"])

GOOD = 'sentence = "A."\ncatalogue = [1]\n'


def act(**more: object) -> str:
    given = {"do": "cut", "in": ["primary", "witness"], "for": 5, **more}
    lines = (f"{key} = {_toml(value)}" for key, value in given.items() if value is not None)
    return f"{GOOD}[[act]]\n" + "\n".join(lines)


def _toml(value: object) -> str:
    return repr(value).replace("'", '"')


@pytest.mark.parametrize("name", STORIES)
def test_every_shipped_story_can_be_cast_and_fits_into_its_time(name: str) -> None:
    story = drawn(STORIES[name], STORIES, Random(1))
    CAST.check(story)
    assert seconds_of(story, Options()) >= 45
    assert story.sentence
    assert 0 <= min(story.catalogue) <= max(story.catalogue) <= 34


def test_the_shipped_stories_cover_what_the_page_promises() -> None:
    promised = {"noop", "switchover", "postgres-kill", "region-kill", "black-hole", "replica-loss",
                "one-way-send", "one-way-receive", "partial-cut", "primary-store-cut",
                "etcd-leader-kill", "patroni-freeze", "region-pause", "primary-locked", "lag",
                "wan-slow", "flap", "cache-kill", "edge-kill", "app-kill", "standby-then-primary",
                "region-stop", "random-pair", "island"}  # fmt: skip
    assert promised <= set(STORIES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sentence = ", "is not TOML"),
        ("catalogue = [1]", "sentence must be a sentence"),
        ('sentence = "A."', "catalogue must be a list"),
        (f"{GOOD}colour = 1", "the key is 'colour'"),
        (act(do="explode"), "act 1: do is 'explode', and must be one of alter, blackout,"),
        (act(**{"in": ["primary", "kitchen"]}), "in is 'kitchen', and must be one of"),
        (act(**{"in": "primary"}), "cut takes 2 different roles"),
        (act(**{"in": ["primary", "primary"]}), "cut takes 2 different roles"),
        (act(do="blackout", **{"in": "others"}), "others stands beside another role"),
        (act(**{"for": None}), "cut needs for"),
        (act(**{"for": -1}), "for must be a number of at least 0"),
        (act(at="soon"), "at must be a number"),
        (act(do="kill", what="app", **{"in": "primary"}), "kill takes no for"),
        (act(do="kill", **{"in": "primary", "for": None}), "kill needs what"),
        (act(do="kill", what="roof", **{"in": "primary", "for": None}), "what is 'roof'"),
        (act(amount=2), "cut takes no amount"),
        (f"{GOOD}[expect]\nmoves = 'maybe'", "moves is 'maybe'"),
        (f"{GOOD}[expect]\nfailed = 'few'", "failed must be a number or 'any', not 'few'"),
        (f"{GOOD}[expect]\nlost = ['kitchen']", "lost is 'kitchen'"),
        (f"{GOOD}[draw]\ncount = 3\namong = ['noop']", "count must be"),
    ],
)
def test_a_story_that_makes_no_sense_is_refused_with_its_name_and_the_reason(
    text: str, said: str
) -> None:
    with pytest.raises(MisuseError) as refused:
        parse(text, name="bad")
    assert "story bad" in str(refused.value)
    assert said in str(refused.value)


def test_a_story_can_do_without_a_target() -> None:
    expect = parse(f"{GOOD}[expect]\nfailed_reads = 'any'\nwrite_gap_s = 3", name="x").expect
    assert (expect.failed_reads, expect.failed, expect.write_gap_s) == (None, None, 3)


def test_every_fault_of_a_story_is_told_at_once() -> None:
    with pytest.raises(MisuseError) as refused:
        parse(act(do="kill", what="roof"), name="bad")
    assert str(refused.value).count(";") == 2


def test_a_name_that_is_none_is_told_with_one_that_comes_close() -> None:
    with pytest.raises(MisuseError) as refused:
        story_named("blackhole", STORIES)
    assert "Did you mean black-hole?" in refused.value.suggestion


def test_roles_are_found_on_any_deployment_and_others_are_all_but_one() -> None:
    assert [CAST.region(role) for role in ("primary", "replica", "witness", "etcd-leader")] == [
        "lhr", "iad", "yyz", "yyz"]  # fmt: skip
    assert CAST.pairs(["primary", "others"]) == [("lhr", "iad"), ("lhr", "ams"), ("lhr", "yyz")]
    assert CAST.pairs(["others", "primary"]) == [("iad", "lhr"), ("ams", "lhr"), ("yyz", "lhr")]
    assert CAST.pairs([]) == []


def test_a_story_whose_role_nobody_plays_is_refused_before_anything_is_broken() -> None:
    alone = Cast(("iad", "lhr"), "iad", ("lhr",), None, "iad")
    with pytest.raises(RefusedError, match="witness"):
        alone.check(STORIES["primary-store-cut"])


def test_one_seed_draws_one_story_and_others_draw_others() -> None:
    pair = STORIES["random-pair"]
    one, again = (drawn(pair, STORIES, Random(5)) for _ in range(2))
    assert one == again
    assert len({drawn(pair, STORIES, Random(seed)).sentence for seed in range(20)}) > 5
    assert one.expect.moves == "either"
    assert len(one.acts) >= 2
    assert set(pair.catalogue) < set(one.catalogue)


def test_a_draw_settles_every_delay() -> None:
    story = drawn(STORIES["edge-kill"], STORIES, Random(3))
    (found,) = story.acts
    assert 0 < found.at < 2
    assert found.within == 0


def test_a_duration_into_which_the_story_does_not_fit_is_refused_with_the_one_it_needs() -> None:
    story = Story("x", "A.", (1,), parse(act(**{"for": 30}), name="x").acts)
    with pytest.raises(MisuseError) as refused:
        seconds_of(story, Options(seconds=40))
    assert refused.value.suggestion == "It needs at least --duration 51s."
    assert seconds_of(story, Options()) == 51
    assert seconds_of(story, Options(seconds=300)) == 300
