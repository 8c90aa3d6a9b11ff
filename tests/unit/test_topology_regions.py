"""The regions of the platform, the distances between them, and the place of the witness."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from viral_engine.errors import UnknownRegionError
from viral_engine.topology.names import is_reserved, redis_url_variable, replica_url_variable
from viral_engine.topology.regions import (
    Place,
    aliases,
    all_regions,
    distance_km,
    nearest,
    region,
    retired_regions,
)
from viral_engine.topology.rtt import by_distance, round_trip, round_trip_ms
from viral_engine.topology.witness import SEPARATE_FAILURE_KM, choose_witness

CODES = tuple(all_regions())


def test_there_are_eighteen_regions_and_each_has_a_place_and_a_price() -> None:
    assert len(CODES) == 18
    for code, one in all_regions().items():
        assert one.code == code
        assert -90 <= one.latitude <= 90
        assert -180 <= one.longitude <= 180
        assert one.price_markup >= 1


def test_no_retired_code_and_no_alias_is_a_region() -> None:
    assert len(retired_regions()) == 17
    assert not set(CODES) & {*retired_regions(), *aliases()}


def test_places_are_where_the_world_has_them() -> None:
    assert distance_km(region("iad"), region("lhr")) == pytest.approx(5900, rel=0.02)
    assert distance_km(region("syd"), region("syd")) == 0
    assert distance_km(retired_regions()["yul"], region("yyz")) == pytest.approx(500, rel=0.05)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("lrh", 'did you mean "lhr" (London)?'),
        ("IAD", 'did you mean "iad" (Ashburn, Virginia)?'),
        ("frankfurt", 'did you mean "fra" (Frankfurt)?'),
        ("sao paulo", 'did you mean "gru" (Sao Paulo)?'),
        ("hkg", 'is retired; the nearest one now is "sin" (Singapore)'),
        ("mad", 'is retired; the nearest one now is "cdg" (Paris)'),
        ("eu", "stands for several regions"),
        ("", "the regions are ams, arn, bom"),
    ],
)
def test_a_wrong_code_is_answered_with_the_one_that_was_meant(wrong: str, said: str) -> None:
    with pytest.raises(UnknownRegionError) as caught:
        region(wrong)
    assert said in caught.value.message
    assert caught.value.exit_code == 2


def test_the_nearest_region_is_found_for_places_codes_and_retired_codes() -> None:
    reykjavik = Place(city="Reykjavik", latitude=64.1, longitude=-21.9)
    assert nearest(reykjavik).code == "lhr"
    assert nearest("lhr").code == "lhr"
    assert nearest("sea").code == "sjc"
    assert nearest("nrt", among=["iad", "lhr", "lax"]).code == "lax"
    with pytest.raises(UnknownRegionError):
        nearest("xyz")


def test_round_trips_cover_every_pair_alike_in_both_directions() -> None:
    for a, b in itertools.product(CODES, CODES):
        assert round_trip_ms(a, b) == round_trip_ms(b, a)
        assert round_trip_ms(a, b) == 1 if a == b else round_trip_ms(a, b) > 1


def test_no_round_trip_is_faster_than_light_in_fibre() -> None:
    for a, b in itertools.combinations(CODES, 2):
        fibre_ms = 2 * distance_km(region(a), region(b)) / 204
        assert round_trip_ms(a, b) >= 0.99 * fibre_ms, (a, b)


def test_a_round_trip_is_a_duration_and_refuses_unknown_codes() -> None:
    assert round_trip("iad", "lhr") == timedelta(milliseconds=78)
    with pytest.raises(UnknownRegionError):
        round_trip("iad", "atl")


def test_regions_are_ordered_by_round_trip_from_an_origin() -> None:
    assert by_distance("lhr", ["nrt", "iad", "lhr", "ams"]) == ("lhr", "ams", "iad", "nrt")
    assert by_distance("iad", []) == ()


def test_the_witness_of_the_default_regions_is_in_toronto() -> None:
    assert choose_witness(["iad", "lhr"]) == "yyz"
    assert choose_witness(["lhr", "iad"]) == "yyz"


@pytest.mark.parametrize("codes", [["iad"], ["iad", "lhr", "nrt"]])
def test_an_odd_number_of_regions_needs_no_witness(codes: list[str]) -> None:
    assert choose_witness(codes) is None


@pytest.mark.parametrize("pair", [*itertools.combinations(CODES, 2)])
def test_a_witness_shares_no_failure_domain_and_none_better_exists(pair: tuple[str, str]) -> None:
    chosen = choose_witness(pair)
    assert chosen is not None

    def is_apart(code: str) -> bool:
        return all(distance_km(region(code), region(c)) > SEPARATE_FAILURE_KM for c in pair)

    def worst(code: str) -> float:
        return max(round_trip_ms(code, c) for c in pair)

    assert is_apart(chosen)
    assert worst(chosen) == min(worst(code) for code in CODES if is_apart(code))


def test_where_every_region_is_in_use_there_is_no_witness() -> None:
    assert choose_witness(CODES) is None


def test_variables_are_spelled_as_in_the_environment_contract() -> None:
    assert replica_url_variable("lhr") == "READ_REPLICA_LHR_URL"
    assert redis_url_variable("iad") == "REDIS_IAD_URL"


@pytest.mark.parametrize(
    "name", ["FLY_REGION", "PORT", "DATABASE_URL", "REDIS_LHR_URL", "READ_REPLICA_IAD_URL"]
)
def test_what_the_platform_sets_is_reserved(name: str) -> None:
    assert is_reserved(name)
    assert not is_reserved(f"MY_{name}")
