"""What a month costs: by hand, in general, as it would be, and as it really is."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from viral_engine.errors import MisuseError, RefusedError, UnknownRegionError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Guest as WireGuest
from viral_engine.fly.model import MachineConfig
from viral_engine.globe.api.apps import AppCalls
from viral_engine.globe.api.machines import MachineCalls
from viral_engine.globe.api.server import make_app
from viral_engine.globe.logbook import LogBook
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.platform import Platform
from viral_engine.operations.cost import Assumptions, Estimate, declared, estimate
from viral_engine.operations.cost.assumptions import describe
from viral_engine.operations.cost.inventory import Kept, Stored, found
from viral_engine.operations.cost.suggestions import suggestions
from viral_engine.operations.cost.what_if import what_if
from viral_engine.topology.load import parse
from viral_engine.topology.model import Deployment, Guest, RegionPlan, default_deployment
from viral_engine.topology.overrides import with_overrides
from viral_engine.topology.prices import prices
from viral_engine.topology.regions import all_regions
from viral_engine.topology.sizes import guest_of

PRICES = prices()
DEFAULT = default_deployment()
QUIET = Assumptions().assume(["requests_per_second=0"])
CENT = Decimal("0.01")


def bill(deployment: Deployment, *assumed: str) -> Estimate:
    return estimate(deployment, PRICES, Assumptions().assume(assumed))


def sums(made: Estimate) -> dict[tuple[str, str], str]:
    return {(line.region, line.part): f"{line.usd}" for line in made.lines}


def test_the_default_deployment_by_hand() -> None:
    # A shared CPU with 256 MB is 2.194128 in iad, each GB more 6.003072; lhr × 1.134615385,
    # yyz × 1.115384615. App and database machines have 1 GB: 2.194128 + 0.75 × 6.003072 = 6.696432.
    # 5 requests a second are 12,960,000 a month, and 129.6 GB of answers of 10 kB. Half of the users
    # are near lhr, and 85 % of their requests are answered there: 55.08 GB; the rest, 74.52, in iad.
    # A tenth of the requests write, and send 8 kB each to lhr: 10.368 GB.
    assert sums(bill(DEFAULT)) == {
        ("iad", "app"): "13.39",  # 2 × 6.696432
        ("iad", "database"): "6.70",
        ("iad", "cache"): "2.19",
        ("lhr", "app"): "22.79",  # 3 × 6.696432 × 1.134615385
        ("lhr", "database"): "7.60",
        ("lhr", "cache"): "2.49",
        ("yyz", "witness"): "2.45",  # 2.194128 × 1.115384615
        ("iad", "volumes"): "1.50",  # 10 GB × 0.15
        ("lhr", "volumes"): "1.50",
        ("yyz", "volumes"): "0.15",
        ("iad", "egress"): "1.49",  # 74.52 × 0.02
        ("lhr", "egress"): "1.10",  # 55.08 × 0.02
        ("iad", "replication"): "0.06",  # 10.368 × 0.006
        ("", "snapshots"): "0.00",
        ("", "certificates"): "0.00",
        ("", "addresses"): "0.00",
    }
    assert bill(DEFAULT).total == Decimal("63.41")


def test_what_leaves_a_dear_region_by_hand() -> None:
    deployment = parse("[regions.iad]\n[regions.jnb]\n[regions.syd]")
    made = bill(
        deployment, "requests_per_second=10", "response_kb=100", "users.iad=1", "users.jnb=3",
        "writes=0.2", "strong_reads=0.05", "wal_kb=4",
    )  # fmt: skip
    # 25.92 million requests are 2592 GB. Of those of jnb, 1944 GB, a quarter are answered by iad.
    assert made.of("jnb", "egress") == (Decimal(1458) * Decimal("0.12")).quantize(CENT)
    assert made.of("iad", "egress") == (Decimal(2592 - 1458) * Decimal("0.02")).quantize(CENT)
    assert made.of("syd", "egress") == 0
    # 5.184 million writes of 4 kB to two regions: 41.472 GB.
    assert made.of("iad", "replication") == Decimal("0.25")


def test_only_the_serving_region_answers_where_the_others_stand_by() -> None:
    passive = parse('strategy = "active-passive"')
    made = bill(passive)
    assert made.of("lhr", "egress") == 0
    assert made.of("iad", "egress") == Decimal("2.59")  # 129.6 × 0.02
    assert made.of("lhr", "app") == Decimal("22.79")
    stopped = bill(replace(passive, standby=type(passive.standby)("stopped")), "root_gb=2")
    assert stopped.of("lhr", "app") == Decimal("0.90")  # 3 × 2 GB × 0.15


def test_load_is_between_what_is_kept_and_what_is_allowed() -> None:
    counts = [sum(count for one, count in declared(DEFAULT, Decimal(load)).machines.items()
                  if one.role == "app") for load in ("0", "0.5", "1")]  # fmt: skip
    assert counts == [5, 2 + 4 + 3 + 1, 15]


def test_what_belongs_to_no_region_costs_beyond_what_is_free() -> None:
    names = ", ".join(f'"{number}.example.com"' for number in range(12))
    named = parse(f"[service]\nhostnames = [{names}]")
    made = bill(named, "dedicated_ipv4=2", "database_gb=20")
    assert sums(made)["", "certificates"] == "0.20"
    assert sums(made)["", "addresses"] == "4.00"
    assert sums(made)["", "snapshots"] == "2.40"  # (2 × 20 - 10) × 0.08


PLANS = st.lists(
    st.builds(
        lambda code, low, more, size: RegionPlan(
            code=code, min=low, max=low + more, guest=guest_of(size)
        ),
        st.sampled_from(sorted(all_regions())),
        st.integers(1, 4),
        st.integers(0, 3),
        st.sampled_from(["shared-cpu-1x", "shared-cpu-2x:2gb", "performance-1x"]),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda plan: plan.code,
)
OWN = ("app", "database", "cache", "volumes")


def deployment_of(plans: list[RegionPlan]) -> Deployment:
    codes = [plan.code for plan in plans]
    made = with_overrides(DEFAULT, regions=codes, primary=codes[0])
    return replace(made, regions=tuple(plans))


@settings(deadline=None)
@given(PLANS)
def test_a_bill_is_the_sum_of_its_regions_and_of_its_parts(plans: list[RegionPlan]) -> None:
    made = bill(deployment_of(plans))
    assert sum(made.by_region.values()) == sum(made.by_part.values()) == made.total


@settings(deadline=None)
@given(PLANS)
def test_a_regions_machines_cost_the_same_whichever_other_regions_there_are(
    plans: list[RegionPlan],
) -> None:
    together = bill(deployment_of(plans))
    for plan in plans:
        alone = bill(deployment_of([plan]))
        assert alone.of(plan.code, *OWN) == together.of(plan.code, *OWN)


@settings(deadline=None)
@given(PLANS, st.data())
def test_one_more_machine_costs_exactly_itself(
    plans: list[RegionPlan], data: st.DataObject
) -> None:
    chosen = data.draw(st.sampled_from(plans))
    more = replace(chosen, min=chosen.min + 1, max=chosen.max + 1)
    bigger = [more if plan is chosen else plan for plan in plans]
    before, after = bill(deployment_of(plans)), bill(deployment_of(bigger))
    price = PRICES.machine_month(chosen.guest, chosen.code)
    assert abs(after.total - before.total - price) <= CENT
    assert after.total > before.total


# as it would be


def test_a_region_more_a_region_less_another_count_another_size() -> None:
    changed = what_if(DEFAULT, with_=["syd=1..5"], sizes=["shared-cpu-1x"])
    assert changed.region_codes == ("iad", "lhr", "syd")
    assert changed.witness is None  # three regions have their majority by themselves
    assert changed.plan("syd") == RegionPlan(code="syd", min=1, max=5, guest=Guest(memory_mb=256))
    assert {plan.guest for plan in changed.regions} == {guest_of("shared-cpu-1x")}
    assert what_if(DEFAULT, without=["lhr"]).region_codes == ("iad",)
    one = what_if(DEFAULT, with_=["lhr=1"], sizes=["lhr=performance-1x"])
    assert one.witness == DEFAULT.witness
    assert (one.plan("lhr").min, one.plan("lhr").guest) == (1, guest_of("performance-1x"))
    assert one.plan("iad") == DEFAULT.plan("iad")
    assert what_if(DEFAULT) == DEFAULT


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"with_": ["syd"]}, "no count"),
        ({"with_": ["syd=-1"]}, "no count"),
        ({"with_": ["syd=1.5"]}, "no count"),
        ({"with_": ["syd=5..1"]}, "above max"),
        ({"with_": ["iad=0"]}, "at least 1 machine"),
        ({"with_": ["syd=1,syd=2"]}, "twice"),
        ({"with_": ["lhr=1"], "without": ["lhr"]}, "twice"),
        ({"without": ["iad"]}, "primary region"),
        ({"without": ["syd"]}, "not among the regions"),
        ({"sizes": ["huge"]}, "no size"),
        ({"sizes": ["syd=shared-cpu-1x"]}, "not among the regions"),
        ({"sizes": ["shared-cpu-1x:3gb"]}, "256 to 2048 MB"),
    ],
)
def test_what_cannot_be_is_misuse_with_a_remedy(changes: dict[str, list[str]], said: str) -> None:
    with pytest.raises(MisuseError, match=said) as caught:
        what_if(DEFAULT, **changes)
    assert caught.value.suggestion


def test_a_region_that_is_none_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownRegionError, match="did you mean"):
        what_if(DEFAULT, with_=["sid=1"])


# assumptions


def test_every_assumption_can_be_changed_and_is_described() -> None:
    for name, (default, words) in describe().items():
        said = name.replace("REGION", "lhr")
        changed = Assumptions().assume([f"{said}=1", "writes=0", "strong_reads=0"])
        assert words
        assert default >= 0
        assert changed.users.get("lhr", Decimal(1)) == 1
    assert Assumptions().assume([]) == Assumptions()


@pytest.mark.parametrize(
    "change", ["writes", "writes=", "writes=-1", "writes=1.1", "writes=nan", "load=2", "many=1",
               "users=1", "users.xyz=1", "response_kb=1e99", "writes=0.99"],
)  # fmt: skip
def test_what_cannot_be_assumed_is_misuse_with_a_remedy(change: str) -> None:
    with pytest.raises(MisuseError) as caught:
        Assumptions().assume([change])
    assert caught.value.suggestion


# suggestions

DEAR = """
[regions.iad]
min = 2
[regions.lhr]
min = 3
guest = { cpu_kind = "performance", cpus = 2, memory_mb = 8192 }
"""


def test_each_suggestion_says_its_risk_and_saves_what_it_says() -> None:
    deployment = parse(DEAR)
    assumed = Assumptions().assume(["dedicated_ipv4=1"])
    made = suggestions(deployment, PRICES, assumed)
    assert {one.kind for one in made} == {
        "auto-stop", "asymmetric-regions", "shared-cpu", "less-memory", "cheaper-region",
        "fewer-addresses", "paid-in-advance",
    }  # fmt: skip
    assert [one.saves for one in made] == sorted((one.saves for one in made), reverse=True)
    assert all(one.saves > 0 and one.risk and one.how for one in made)
    by_kind = {one.kind: one for one in made}
    assert by_kind["fewer-addresses"].saves == 2
    now = estimate(deployment, PRICES, assumed).total
    shared = what_if(deployment, sizes=["lhr=shared-cpu-2x:4gb"])
    assert by_kind["shared-cpu"].saves == now - estimate(shared, PRICES, assumed).total
    fewer = what_if(deployment, with_=["lhr=1..3"])
    assert by_kind["asymmetric-regions"].saves == now - estimate(fewer, PRICES, assumed).total
    assert "ams" in by_kind["cheaper-region"].what


def test_a_year_in_advance_saves_three_tenths_of_whole_blocks() -> None:
    (one,) = (s for s in suggestions(parse("[regions.iad]\nmin = 3"), PRICES, QUIET)
              if s.kind == "paid-in-advance")  # fmt: skip
    # 3 × 6.696432 + 6.696432 + 2.194128 = 28.98: five blocks of 5 dollars, at 3.50 each
    assert one.saves == Decimal("7.50")
    assert "210 dollars" in one.risk


def test_what_saves_nothing_is_not_suggested() -> None:
    smallest = parse("[regions.iad.guest]\nmemory_mb = 256")
    assert {one.kind for one in suggestions(smallest, PRICES, QUIET)} == {"paid-in-advance"}
    passive = parse('strategy = "active-passive"\nstandby = "stopped"')
    assert "auto-stop" not in {one.kind for one in suggestions(passive, PRICES, QUIET)}


# as it really is: the globe's own API, in this process, with machines that are never started


class Nowhere:
    """A network that carries nothing."""

    plan = AddressPlan(NetworkMode.WAN, ("iad", "lhr"))

    def namespace(self, place: str) -> int | None:
        raise AssertionError(place)

    def open_socket_in(self, place: str) -> Callable[[], Awaitable[socket.socket]]:
        raise AssertionError(place)

    async def add_address(self, place: str, address: str) -> None:
        assert self.plan.owner(address) == place


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[FlyClient]:
    logs = LogBook(tmp_path / "logs")
    platform = Platform(tmp_path, Nowhere(), logs, {}, isolate=False)
    routes = [*AppCalls(platform).routes(), *MachineCalls(platform).routes()]
    made = FlyClient("http://api", "secret")
    await made.http.aclose()
    made.http = httpx.AsyncClient(
        transport=httpx.ASGITransport(app=make_app(routes, "secret")),
        base_url="http://api/v1", headers={"authorization": "Bearer secret"},
    )  # fmt: skip
    async with made:
        yield made
    await platform.close()
    logs.close()


async def test_what_there_is_is_counted_by_the_platform(client: FlyClient) -> None:
    await client.create_app(DEFAULT.app)
    await client.create_app(f"{DEFAULT.app}-db")
    for number in (1, 2):
        await client.create_machine(
            DEFAULT.app, name=f"app-{number}", region="lhr", launch=False,
            config=MachineConfig(image="x", guest=WireGuest(memory_mb=512),
                                 metadata={"fly_process_group": "app"}),
        )  # fmt: skip
    await client.create_volume(f"{DEFAULT.app}-db", name="data", region="iad", size_gb=40)
    there = await found(client, DEFAULT)
    assert there.machines == Counter({Kept("lhr", "app", Guest(memory_mb=512), running=False): 2})
    assert there.volumes == Counter({Stored("iad", 40): 1})
    made = estimate(DEFAULT, PRICES, QUIET, there)
    assert made.of("iad", "volumes") == Decimal("6.00")
    assert made.of("lhr", "app") == Decimal("0.30")
    assert made.total == Decimal("6.30")


async def test_an_app_that_the_platform_does_not_have_is_not_free(client: FlyClient) -> None:
    with pytest.raises(RefusedError, match="no app"):
        await found(client, DEFAULT)
