"""Row versions as entity tags: what is read, what matches, and what a write may replace."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from viral_engine.data.versions import (
    EntityTag,
    Expected,
    Judgement,
    TagList,
    is_unchanged,
    judge,
    parse_tags,
    version_tag,
)

VERSIONS = st.integers(min_value=1, max_value=2**63 - 1)
OPAQUE = st.text(st.characters(min_codepoint=0x23, max_codepoint=0x7E), max_size=5)
TAGS = st.lists(st.builds(EntityTag, OPAQUE, st.booleans()), min_size=1, max_size=5)


@given(version=VERSIONS)
def test_the_tag_of_a_version_leads_back_to_it(version: int) -> None:
    assert parse_tags(version_tag(version)).tags[0].version == version


@given(tags=TAGS, separator=st.sampled_from([",", ", ", " ,\t", ",,", ", ,"]))
def test_a_list_of_tags_is_read_with_its_commas_in_quotes_and_its_empty_elements(
    tags: list[EntityTag], separator: str
) -> None:
    text = separator.join(str(tag) for tag in tags)
    assert parse_tags(text) == TagList(tuple(tags))


def test_a_star_means_whatever_is_there() -> None:
    assert parse_tags(" * ") == TagList(anything=True)


@pytest.mark.parametrize(
    "text",
    ["", " ", ",", "7", '"7', '7"', '"7" "8"', '*, "7"', 'w/"7"', 'W/ "7"', '"a b"', "**", '"7"\n'],
)
def test_what_is_no_list_of_tags_is_refused_and_not_taken_for_none(text: str) -> None:
    with pytest.raises(ValueError, match="entity tags"):
        parse_tags(text)


@pytest.mark.parametrize(
    "text", ['"0"', '"07"', '"-7"', '"7 "', '"x"', '""', f'"{2**63}"', 'W/"7"']
)
def test_a_tag_that_is_no_version_of_ours_never_matches(text: str) -> None:
    try:
        tags = parse_tags(text)
    except ValueError:
        return
    assert Expected(tags).versions() == ()
    assert judge(Expected(tags), 7) is Judgement.PRECONDITION_FAILED


@pytest.mark.parametrize(
    ("if_match", "version", "current", "judgement"),
    [
        (None, None, 7, Judgement.MET),
        ('"7"', None, 7, Judgement.MET),
        ('"6", "7"', None, 7, Judgement.MET),
        ("*", None, 7, Judgement.MET),
        ('"6"', None, 7, Judgement.PRECONDITION_FAILED),
        ("*", None, None, Judgement.PRECONDITION_FAILED),
        ('"7"', None, None, Judgement.PRECONDITION_FAILED),
        (None, 7, 7, Judgement.MET),
        (None, 6, 7, Judgement.VERSION_CONFLICT),
        (None, 6, None, Judgement.VERSION_CONFLICT),
        ("*", 6, 7, Judgement.VERSION_CONFLICT),
        ('"7"', 6, 7, Judgement.VERSION_CONFLICT),
        ('"6"', 6, 7, Judgement.PRECONDITION_FAILED),
    ],
)
def test_if_match_is_judged_before_the_version_of_the_body(
    if_match: str | None, version: int | None, current: int | None, judgement: Judgement
) -> None:
    tags = None if if_match is None else parse_tags(if_match)
    assert judge(Expected(tags, version), current) is judgement


@given(
    tags=st.none() | st.just(TagList(anything=True)) | TAGS.map(lambda tags: TagList(tuple(tags))),
    version=st.none() | st.integers(1, 9),
    current=st.integers(1, 9),
)
def test_the_versions_that_a_write_asks_for_are_those_that_are_judged_to_be_met(
    tags: TagList | None, version: int | None, current: int
) -> None:
    expected = Expected(tags, version)
    versions = expected.versions()
    assert (versions is None or current in versions) == (judge(expected, current) is Judgement.MET)


def test_if_none_match_compares_weakly() -> None:
    assert is_unchanged(parse_tags('W/"7"'), 7)
    assert is_unchanged(parse_tags('"6", "7"'), 7)
    assert is_unchanged(parse_tags("*"), 7)
    assert not is_unchanged(parse_tags('"8"'), 7)
