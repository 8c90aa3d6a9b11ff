"""Two regions and a witness keep one database: it forms, heals, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest

from tests.services.nodes_world import NODES, World, processes_in, world
from viral_engine.clock import wait_until
from viral_engine.nodes import ctl
from viral_engine.nodes.profile import POSTGRES_PARAMETERS

STREAMING = "SELECT FROM pg_stat_replication WHERE application_name = 'lhr' AND state = 'streaming'"
SYNCHRONOUS = "SELECT FROM pg_stat_replication WHERE sync_state = 'sync'"


@pytest.fixture(scope="module")
def trio() -> Iterator[World]:
    with world("iad", "lhr", "yyz") as here:
        # The replica first: whoever comes first, only the primary's region may create the data.
        here.start("lhr", "database")
        here.start("yyz", "witness")
        here.start("iad", "database")
        yield here


async def test_a_cold_start_ends_with_a_primary_in_its_region_and_a_synchronous_replica(
    trio: World, record_property: pytest.RecordProperty
) -> None:
    begun = time.monotonic()
    for step, region, sql in (
        ("writable", "iad", "SELECT WHERE NOT pg_is_in_recovery()"),
        ("streaming", "iad", STREAMING),
        ("synchronous", "iad", SYNCHRONOUS),
    ):
        await trio.until(region, sql)
        record_property(step, round(time.monotonic() - begun, 2))
    await trio.until("lhr", "SELECT WHERE pg_is_in_recovery()", user="viral_app")


async def test_the_application_writes_as_the_owner_of_its_database_and_is_no_superuser(
    trio: World,
) -> None:
    trio.ask("iad", "CREATE TABLE tasks (id int PRIMARY KEY)", user="viral_app")
    trio.ask("iad", "SET synchronous_commit = remote_apply", user="viral_app")
    trio.ask("iad", "INSERT INTO tasks VALUES (1)", user="viral_app")
    await trio.until("lhr", "SELECT FROM tasks", user="viral_app")
    rights = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls"
    assert trio.ask("iad", f"SELECT {rights} FROM pg_roles WHERE rolname = 'viral_app'") == [
        (False,) * 5
    ]
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'viral'"
    assert trio.ask("iad", owner) == [("viral_app",)]


def test_a_wrong_password_is_refused_everywhere(trio: World) -> None:
    for region in ("iad", "lhr"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(
                host=trio.addresses[region], user="postgres", password="no", dbname="viral"
            )


@pytest.mark.parametrize("region", ["iad", "lhr"])
def test_the_settings_in_force_are_those_asked_for(trio: World, region: str) -> None:
    assert trio.ask(region, "SHOW data_checksums") == [("on",)]
    assert trio.ask(region, "SELECT name FROM pg_settings WHERE pending_restart") == []
    for name, wanted in POSTGRES_PARAMETERS.items():
        # Compared by PostgreSQL itself, which knows that 3s and 3000 are the same.
        same = (
            f"SELECT 1 FROM pg_settings WHERE name = '{name.lower()}' AND (setting = '{wanted}' OR "
            f"current_setting(name) = '{wanted}' OR current_setting(name) = '{wanted}ms' "
            f"OR current_setting(name) = '{wanted}s' "
            f"OR setting::numeric = pg_size_bytes('{wanted}') / pg_size_bytes('1' || unit))"
            if str(wanted)[-2:] in {"MB", "GB"}
            else f"SELECT 1 FROM pg_settings WHERE name = lower('{name}') AND "
            f"current_setting(name) IN ('{wanted}', '{wanted}s', '{wanted}ms', "
            f"round('0{wanted}'::text::numeric / 1000, 0)::text || 's')"
            if str(wanted).isdecimal()
            else f"SELECT 1 FROM pg_settings WHERE name = lower('{name}') "
            f"AND current_setting(name) IN ('{wanted}', replace('{wanted}', '60s', '1min'))"
        )
        assert trio.ask(region, same), (name, wanted, trio.ask(region, f"SHOW {name}"))
