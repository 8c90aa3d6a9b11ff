"""Where a process finds itself."""

from __future__ import annotations

import pytest

from viral_engine.errors import MisuseError
from viral_engine.topology.here import Here

ON_THE_PLATFORM = {
    "FLY_REGION": "lhr",
    "PRIMARY_REGION": "iad",
    "FLY_MACHINE_ID": "148ed21f",
    "FLY_PRIVATE_IP": "fdaa:0:1::3",
    "FLY_APP_NAME": "shop",
    "PORT": "9000",
}


def test_the_platform_says_where_a_machine_is() -> None:
    here = Here.from_environ(ON_THE_PLATFORM)
    assert here == Here(
        region="lhr",
        primary_region="iad",
        machine_id="148ed21f",
        private_ip="fdaa:0:1::3",
        app_name="shop",
        port=9000,
    )
    assert not here.in_primary_region


def test_a_process_on_its_own_machine_is_in_its_primary_region() -> None:
    here = Here.from_environ({})
    assert here.in_primary_region
    assert (here.private_ip, here.port, here.machine_id) == ("127.0.0.1", 8080, "local")


def test_one_region_alone_is_also_the_primary_one() -> None:
    assert Here.from_environ({"FLY_REGION": "syd"}).primary_region == "syd"
    assert Here.from_environ({"PRIMARY_REGION": "syd"}).region == "syd"


def test_an_empty_variable_counts_as_absent() -> None:
    assert Here.from_environ(dict.fromkeys(ON_THE_PLATFORM, "")) == Here.from_environ({})


def test_a_region_newer_than_our_list_is_accepted() -> None:
    assert Here.from_environ({"FLY_REGION": "zzz"}).region == "zzz"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLY_REGION", "London"),
        ("PRIMARY_REGION", "iad\n"),
        ("PORT", "http"),
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "-1"),
        ("PORT", "²"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(variable: str, value: str) -> None:
    with pytest.raises(MisuseError, match=f"^{variable} is "):
        Here.from_environ(ON_THE_PLATFORM | {variable: value})
