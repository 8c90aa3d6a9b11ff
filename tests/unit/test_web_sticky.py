from __future__ import annotations

import pytest

from viral_engine.cluster.view import Answer, ClusterView, Observation, build_view
from viral_engine.errors import MisuseError
from viral_engine.lsn import Lsn
from viral_engine.operations.blueprint import Addresses, Blueprint, places
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.load import parse
from viral_engine.topology.model import Sticky
from viral_engine.web.sticky import Home, Homes, SentHome, home_elsewhere, sticky_of

FLAGS = b"; Path=/"


def view(*, lost: str = "") -> ClusterView:
    regions = ("iad", "lhr")
    seen = [
        Observation(region, 0, None if region == lost else Answer(region != "iad", 1, Lsn(1), 0.0))
        for region in regions
    ]
    return build_view(regions, seen, now=0, fresh_for=3)


@pytest.mark.parametrize(
    ("text", "home"),
    [
        ("iad", Home("iad")),
        ("iad.2874de1a", Home("iad", "2874de1a")),
        ("", None),
        ("iad.", None),
        ("IAD", None),
        ("iadx", None),
        ("iad\n", None),
        ("iad.a;app=other", None),
        ('iad.a",lhr', None),
        ("iad." + "a" * 65, None),
        ("iad.é", None),
    ],
)
def test_a_home_has_one_form_and_nothing_else_fits_in_it(text: str, home: Home | None) -> None:
    assert Home.parse(text) == home
    assert home is None or str(home) == text


@pytest.mark.parametrize(
    ("home", "by_region", "by_machine"),
    [
        (None, None, None),
        (Home("lhr"), None, None),
        (Home("lhr", "m1"), None, None),
        (Home("lhr", "m2"), None, Home("lhr", "m2")),
        (Home("iad"), Home("iad"), Home("iad")),
        (Home("iad", "m3"), Home("iad"), Home("iad", "m3")),
        (Home("nrt"), None, None),
        (Home("nrt", "m1"), None, None),
    ],
)
def test_a_session_is_handed_to_its_home_as_far_as_that_was_asked_for(
    home: Home | None, by_region: Home | None, by_machine: Home | None
) -> None:
    for here, wanted in ((Home("lhr"), by_region), (Home("lhr", "m1"), by_machine)):
        assert home_elsewhere(home, here=here, view=view()) == wanted


def test_a_region_whose_database_does_not_answer_is_no_home_elsewhere() -> None:
    for home in (Home("iad"), Home("iad", "m3")):
        for here in (Home("lhr"), Home("lhr", "m1")):
            assert home_elsewhere(home, here=here, view=view(lost="iad")) is None
    # Inside a region its database is the same for all machines.
    kept = home_elsewhere(Home("lhr", "m2"), here=Home("lhr", "m1"), view=view(lost="lhr"))
    assert kept == Home("lhr", "m2")


def test_the_way_home_ends_where_it_began() -> None:
    homes = Homes(Sticky.MACHINE, region="lhr", machine="m1")
    assert homes.directions(Home("iad", "m3")) == 'region="iad,lhr";prefer_instance=m3'
    assert homes.directions(Home("iad")) == 'region="iad,lhr"'
    assert homes.directions(Home("lhr", "m2")) == 'region="lhr";prefer_instance=m2'


@pytest.mark.parametrize(
    ("headers", "home", "by_header"),
    [
        ([], None, False),
        ([(b"cookie", b"a=b; viral-home=iad; c=d")], "iad", False),
        ([(b"cookie", b"a=b"), (b"cookie", b"viral-home=iad")], "iad", False),
        ([(b"cookie", b"viral-home=made up; viral-home=lhr")], "lhr", False),
        ([(b"cookie", b"x-viral-home=iad")], None, False),
        ([(b"cookie", b"viral-home=iad"), (b"viral-home", b" lhr ")], "lhr", True),
        ([(b"viral-home", b"made up"), (b"cookie", b"viral-home=iad")], None, True),
    ],
)
def test_the_header_counts_before_the_cookie(
    headers: list[tuple[bytes, bytes]], home: str | None, *, by_header: bool
) -> None:
    sent = Homes(Sticky.REGION, region="lhr", machine="m1").sent(headers)
    assert sent == SentHome(Home.parse(home) if home else None, by_header)


def test_whoever_serves_is_the_home_and_what_is_known_is_not_said_again() -> None:
    homes = Homes(Sticky.MACHINE, region="lhr", machine="m1")
    said = [(b"viral-home", b"lhr.m1")]
    assert homes.headers(SentHome(Home("iad", "m3")), FLAGS) == [
        *said,
        (b"set-cookie", b"viral-home=lhr.m1; Path=/"),
    ]
    assert homes.headers(SentHome(Home("lhr", "m1")), FLAGS) == []
    assert homes.headers(SentHome(None, by_header=True), FLAGS) == said
    assert homes.headers(SentHome(), None) == said


def test_what_is_off_reads_and_says_nothing() -> None:
    homes = Homes(Sticky.OFF, region="lhr", machine="m1")
    sent = homes.sent([(b"viral-home", b"iad")])
    assert (sent, homes.headers(sent, FLAGS)) == (SentHome(), [])


def test_the_environment_says_how_sticky_sessions_are() -> None:
    assert sticky_of({}) is Sticky.OFF
    assert sticky_of({"VIRAL_STICKY": ""}) is Sticky.OFF
    assert sticky_of({"VIRAL_STICKY": "machine"}) is Sticky.MACHINE
    with pytest.raises(MisuseError) as refused:
        sticky_of({"VIRAL_STICKY": "yes"})
    assert "off, region, machine" in refused.value.suggestion


@pytest.mark.parametrize("sticky", list(Sticky))
def test_what_a_deployment_says_reaches_its_app(sticky: Sticky) -> None:
    deployment = parse(f'[service]\nsticky = "{sticky}"\n')
    here = dict.fromkeys((*deployment.region_codes, "yyz"), "10.10.1.10")
    blueprint = Blueprint(
        deployment, Secrets.make(), Addresses(here, here, here, here), "image", "app", {}
    )
    apps = [place for place in places(deployment) if place.role == "app"]
    assert apps
    assert {sticky_of(blueprint.config(place, None).env) for place in apps} == {sticky}
