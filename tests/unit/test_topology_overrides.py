"""What the command line says in place of what the file says."""

from __future__ import annotations

import pytest

from viral_engine.errors import MisuseError, UnknownRegionError
from viral_engine.topology.load import parse
from viral_engine.topology.model import BUNDLED_APP, RegionPlan, default_deployment
from viral_engine.topology.overrides import with_overrides


def test_nothing_said_changes_nothing() -> None:
    assert with_overrides(default_deployment()) == default_deployment()


def test_a_known_region_keeps_its_plan_and_a_new_one_gets_the_default() -> None:
    got = with_overrides(default_deployment(), regions=["iad", "lhr", "nrt"])
    assert got.regions == (*default_deployment().regions, RegionPlan(code="nrt", min=1, max=1))
    assert got.witness is None


def test_another_set_of_regions_gets_a_witness_of_its_own() -> None:
    assert with_overrides(default_deployment(), regions=["iad", "yyz"]).witness == "ord"


def test_the_same_regions_keep_the_witness_of_the_file() -> None:
    deployment = parse('witness = "ams"')
    assert with_overrides(deployment, regions=["lhr", "iad"]).witness == "ams"


def test_a_primary_outside_the_regions_is_refused_with_the_remedy() -> None:
    with pytest.raises(MisuseError, match='primary region "iad" is not among the') as caught:
        with_overrides(default_deployment(), regions=["lhr", "nrt"])
    assert "--primary lhr" in caught.value.suggestion
    moved = with_overrides(default_deployment(), regions=["lhr", "nrt"], primary="lhr")
    assert moved.primary_region == "lhr"


def test_the_primary_can_move_alone() -> None:
    assert with_overrides(default_deployment(), primary="lhr").primary_region == "lhr"


@pytest.mark.parametrize(
    ("regions", "said"), [([], "no region was given"), (["iad", "lhr", "iad"], "given twice.*iad")]
)
def test_no_region_or_one_twice_is_misuse(regions: list[str], said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        with_overrides(default_deployment(), regions=regions)


@pytest.mark.parametrize("said", [{"regions": ["iad", "lhx"]}, {"primary": "hkg"}])
def test_an_unknown_region_is_refused(said: dict[str, str]) -> None:
    with pytest.raises(UnknownRegionError):
        with_overrides(default_deployment(), **said)


def test_another_app_leaves_the_bundled_promises_behind_but_keeps_declared_ones() -> None:
    plain = with_overrides(default_deployment(), app="shop:app")
    assert plain.service.app == "shop:app"
    assert plain.consistency == {}
    declared = parse('[consistency]\norders = "strong"')
    assert "orders" in with_overrides(declared, app="shop:app").consistency
    assert with_overrides(plain, app=BUNDLED_APP).consistency == default_deployment().consistency


@pytest.mark.parametrize("app", ["shop", "shop:", ":app", "shop.py:app:x", "my-shop:app", "a:if"])
def test_an_app_that_cannot_be_imported_by_its_name_is_refused(app: str) -> None:
    with pytest.raises(MisuseError, match="the app must be an importable"):
        with_overrides(default_deployment(), app=app)
