"""A deployment file: what it means, and the one report of everything wrong with it."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from pathlib import Path

import pytest

from viral_engine.errors import TopologyError
from viral_engine.topology.load import load, load_folder, parse
from viral_engine.topology.model import (
    Consistency,
    CpuKind,
    Guest,
    RegionPlan,
    Strategy,
    default_deployment,
)
from viral_engine.topology.schema import KEYS


def faults(text: str) -> tuple[str, ...]:
    with pytest.raises(TopologyError) as caught:
        parse(textwrap.dedent(text).lstrip("\n"))
    return caught.value.faults


def test_an_empty_file_means_the_default_deployment() -> None:
    assert parse("") == default_deployment()


def test_the_default_is_the_picture_of_the_guide() -> None:
    default = default_deployment()
    assert default.primary_region == "iad"
    assert [(plan.code, plan.min, plan.max) for plan in default.regions] == [
        ("iad", 2, 10),
        ("lhr", 3, 5),
    ]
    assert default.all_codes == ("iad", "lhr", "yyz")
    assert default.consistency["billing"] is Consistency.STRONG
    assert default.consistency["tasks"] is Consistency.EVENTUAL


def test_every_value_of_a_file_arrives() -> None:
    deployment = parse(
        """
        app = "shop"
        primary_region = "fra"
        strategy = "active-passive"
        witness = "arn"
        [regions.fra]
        min = 2
        guest = { cpu_kind = "performance", cpus = 2, memory_mb = 4096 }
        [regions.syd]
        min = 0
        max = 4
        [consistency]
        orders = "strong"
        [database]
        name = "shop"
        volume_gb = 40
        parameters = { work_mem = "8MB", jit = false, random_page_cost = 1.1 }
        [cache]
        maxmemory = "1gb"
        [service]
        app = "shop.main:api"
        internal_port = 9000
        soft_limit = 20
        hard_limit = 20
        kill_timeout = "2m"
        [service.check]
        path = "/healthz"
        interval = "500ms"
        timeout = "500ms"
        grace_period = "0s"
        [service.env]
        MODE = "live"
        """
    )
    assert deployment.app == "shop"
    assert deployment.strategy is Strategy.ACTIVE_PASSIVE
    assert deployment.witness == "arn"
    large = Guest(cpu_kind=CpuKind.PERFORMANCE, cpus=2, memory_mb=4096)
    assert deployment.plan("fra") == RegionPlan(code="fra", min=2, max=2, guest=large)
    assert deployment.plan("syd") == RegionPlan(code="syd", min=0, max=4)
    assert deployment.consistency == {"orders": Consistency.STRONG}
    assert deployment.database.parameters == {
        "work_mem": "8MB",
        "jit": "off",
        "random_page_cost": "1.1",
    }
    assert deployment.cache.maxmemory == 1024**3
    assert deployment.service.kill_timeout == timedelta(minutes=2)
    assert deployment.service.check.interval == timedelta(milliseconds=500)
    assert deployment.service.env == {"MODE": "live"}


def test_what_is_left_out_follows_from_what_is_there() -> None:
    deployment = parse("[regions.nrt]\nmin = 3\n[regions.sin]")
    assert deployment.primary_region == "nrt"
    assert deployment.plan("nrt").max == 3
    assert deployment.plan("sin") == RegionPlan(code="sin", min=1, max=1)
    assert deployment.witness == "syd"


def test_no_witness_can_be_asked_for() -> None:
    assert parse('witness = "none"').witness is None


def test_the_bundled_resources_keep_their_promise_when_one_is_changed() -> None:
    consistency = parse('[consistency]\ntasks = "strong"').consistency
    assert consistency["tasks"] is Consistency.STRONG
    assert consistency["billing"] is Consistency.STRONG


def test_one_report_lists_every_fault_in_the_order_of_the_lines() -> None:
    assert faults(
        """
        app = "Shop"
        primary_region = "sin"
        witness = "lhr"

        [regions.iad]
        min = 5
        max = 2
        [regions.lhr]
        min = "two"
        [regions.hkg]
        min = -1
        [consistency]
        orders = "stron"
        [service]
        app = "shop.main"
        soft_limit = 300
        hard_limit = 200
        """
    ) == (
        (
            "line 1, app: expected 1 to 63 lower-case letters, digits and dashes, without a dash at"
            ' either end, got "Shop"'
        ),
        'line 2, primary_region: the primary region "sin" is not among the regions (iad, lhr)',
        (
            'line 3, witness: the witness "lhr" is also a data region, and its vote would be lost'
            " together with the data: it must be in a region of its own"
        ),
        "line 6, regions.iad.min: min 5 is above max 2",
        'line 9, regions.lhr.min: expected a whole number from 0 to 1000, got "two"',
        (
            'line 10, regions.hkg: region "hkg" (Hong Kong) is retired; the nearest one now is "sin"'
            " (Singapore)"
        ),
        'line 13, consistency.orders: expected "eventual" or "strong" or "strict", got "stron"',
        'line 15, service.app: expected an importable "module:attribute", got "shop.main"',
        "line 17, service.hard_limit: hard_limit 200 is below soft_limit 300",
    )


def test_the_error_says_how_many_faults_and_where_to_read_on() -> None:
    with pytest.raises(TopologyError) as caught:
        parse("a = 1\nb = 2", source="shop/viral.toml")
    assert caught.value.message.startswith("shop/viral.toml has 2 faults:\n  - line 1, a: ")
    assert caught.value.exit_code == 2
    assert "viral.toml.md" in caught.value.suggestion


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("stategy = 1", 'line 1, stategy: unknown key; did you mean "strategy"?'),
        ("[regions.iad]\nmni = 1", 'line 2, regions.iad.mni: unknown key; did you mean "min"?'),
        (
            "[cache]\nsize = 1",
            "line 2, cache.size: unknown key; the keys here are maxmemory, provider",
        ),
        ("regions = 3", "line 1, regions: expected a table, got 3"),
        ("[regions]", 'line 1, regions: name at least one region, such as "regions.iad"'),
        ("regions.iad = []", "line 1, regions.iad: expected a table, got an array"),
        ("[[regions.iad]]", "line 1, regions.iad: expected a table, got an array"),
        (
            "[regions.iad]\nmin = true",
            "line 2, regions.iad.min: expected a whole number from 0 to 1000, got true",
        ),
        (
            "[regions.iad]\nmin = 0",
            "line 2, regions.iad.min: the primary region needs at least 1 machine",
        ),
        (
            "[app]",
            "line 1, app: expected 1 to 63 lower-case letters, digits and dashes, without a dash at either end, got a table",
        ),
        (
            'primary_region = "eu"',
            'line 1, primary_region: "eu" stands for several regions: name one of them, such as "iad"',
        ),
        ("[database]\nversion = 12", "line 2, database.version: expected 18, got 12"),
        (
            '[database.parameters]\nsynchronous_commit = "off"',
            "line 2, database.parameters.synchronous_commit: synchronous_commit is set by Viral Engine, whose guarantees stand on it",
        ),
        (
            '[service.env]\nPORT = "1"',
            "line 2, service.env.PORT: PORT is set by the platform or by Viral Engine: leave it out",
        ),
        (
            '[service.env]\n"A B" = "1"',
            'line 2, service.env.A B: expected a name of letters, digits and underscores, not beginning with a digit, got "A B"',
        ),
        ("[service.env]\nA = 1", "line 2, service.env.A: expected text, got 1"),
        (
            '[cache]\nmaxmemory = "64"',
            'line 2, cache.maxmemory: expected a size of at least 1 MB, such as "64mb" or "1gb", got "64"',
        ),
        (
            '[service.check]\ntimeout = "10s"',
            "line 2, service.check.timeout: a check's timeout must not be above its interval",
        ),
        (
            "[regions.iad.guest]\ncpus = 3\nmemory_mb = 1",
            "line 2, regions.iad.guest.cpus: a shared machine has 1, 2, 4, 6, 8 CPUs, got 3",
        ),
        (
            "[regions.iad.guest]\nmemory_mb = 4096",
            "line 2, regions.iad.guest.memory_mb: a shared machine with 1 CPUs has 256 to 2048 MB in steps of 256, got 4096",
        ),
        (
            "# one\n[regions.iad\n",
            "line 2: not valid TOML: Expected ']' at the end of a table declaration (column 13)",
        ),
        (
            "[regions.iad]\n[regions.iad]",
            "line 2: not valid TOML: Cannot declare ('regions', 'iad') twice (column 13)",
        ),
        ("app =", "line 1: not valid TOML: Invalid value (at the end of the file)"),
    ],
)
def test_a_fault_names_its_place_and_what_is_allowed(text: str, fault: str) -> None:
    assert fault in faults(text)


def test_no_rule_is_held_against_a_default_that_stands_in_for_a_wrong_value() -> None:
    assert faults("[service]\nsoft_limit = 900\nhard_limit = 'many'") == (
        'line 3, service.hard_limit: expected a whole number from 1 to 100000, got "many"',
    )
    (only,) = faults('primary_region = "nrt"\n[regions.hkg]')
    assert "regions.hkg" in only


def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    missing = tmp_path / "none.toml"
    with pytest.raises(TopologyError, match="cannot be read: No such file"):
        load(missing)
    with pytest.raises(TopologyError, match="cannot be read: Is a directory"):
        load(tmp_path)
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(TopologyError, match="not UTF-8"):
        load(binary)


def test_a_folder_without_a_file_gets_the_default(tmp_path: Path) -> None:
    assert load_folder(tmp_path) == default_deployment()
    (tmp_path / "viral.toml").write_text('app = "shop"\n', encoding="utf-8")
    assert load_folder(tmp_path).app == "shop"


ODD = ["0", "-1", "99999999999999999999", "1.5", "nan", "true", '""', '"\\u0000"', '"none"']
ODDER = ["[]", "[[1]]", "{}", "{ a = { b = 1 } }", "1979-05-27", "07:32:00", '"eu"', '"iad"']


@pytest.mark.parametrize("path", [".".join(path).replace("*", "iad") for path in KEYS])
def test_an_odd_value_is_either_taken_or_reported_with_its_line(path: str) -> None:
    for value in [*ODD, *ODDER]:
        try:
            parse(f"{path} = {value}")
        except TopologyError as error:
            assert all(fault.startswith("line 1, ") for fault in error.faults), value  # noqa: PT017  # taken is right too
