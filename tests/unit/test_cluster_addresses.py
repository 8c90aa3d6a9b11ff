"""Addresses of databases: what can be known to be wrong is said at the start, with the remedy."""

from __future__ import annotations

import logging

import pytest

from viral_engine.cluster.addresses import DatabaseAddresses, address_in
from viral_engine.errors import MisuseError

PRIMARY = "postgresql://app:secret@db.example.com:5432/app"
REPLICA = "postgresql://app:secret@lhr.example.com/app"
POOLER = "postgresql://app:secret@pool.example.com:6432/app"


def read(environ: dict[str, str], region: str = "iad") -> DatabaseAddresses:
    return DatabaseAddresses.from_environ(environ, region=region)


@pytest.mark.parametrize(
    "text",
    [
        PRIMARY,
        PRIMARY.replace("postgresql:", "postgres:"),
        PRIMARY.replace("postgresql:", "postgresql+psycopg:"),
        PRIMARY.replace("postgresql:", "postgresql+asyncpg:"),
        f"  {PRIMARY}\n",
    ],
)
def test_an_address_in_any_of_its_usual_forms_is_the_one_that_libpq_takes(text: str) -> None:
    assert address_in({"DATABASE_URL": text}, "DATABASE_URL") == PRIMARY


@pytest.mark.parametrize(
    "text",
    [
        "host=db.example.com dbname=app",
        "postgresql:///app?host=/run/postgresql",
        "postgresql://[fdaa::3]:5433/app",
        "postgresql://a:5432,b:5433/app?target_session_attrs=read-write",
        "postgresql://app:p%40ss@db.example.com/app?sslmode=verify-full",
    ],
)
def test_whatever_else_libpq_takes_is_left_as_it_is(text: str) -> None:
    assert address_in({"DATABASE_URL": text}, "DATABASE_URL") == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("mysql://app:secret@db/app", "begins with mysql://"),
        ("https://db.example.com", "begins with https://"),
        ("db.example.com", "is no address"),
        ("postgresql://", "is no address"),
        ("postgresql://app:secret%zz@db/app", "is no address"),
        ("postgresql://app:secret@db/app?nonsense=1", "is no address"),
        ("postgresql://app:secret@db:port/app", "no valid host and port"),
        ("postgresql://app:secret@db:70000/app", "no valid host and port"),
        ("postgresql://app:secret@word@db/app", "no valid host and port"),
        ("postgresql://app:secret/word@db/app", "no valid host and port"),
    ],
)
@pytest.mark.parametrize("variable", ["DATABASE_URL", "PGBOUNCER_URL", "READ_REPLICA_LHR_URL"])
def test_what_is_no_address_is_refused_by_its_variable_and_never_repeated(
    variable: str, text: str, said: str
) -> None:
    with pytest.raises(MisuseError, match=f"{variable} .*{said}") as refused:
        read({"DATABASE_URL": PRIMARY, variable: text})
    assert "secret" not in refused.value.message
    assert "postgresql://USER:PASSWORD@HOST" in refused.value.suggestion
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("name", ["LONDON", "lhr", "L1R", "LHR2"])
def test_a_variable_that_names_no_region_is_refused_and_not_passed_over(name: str) -> None:
    with pytest.raises(MisuseError, match=f"READ_REPLICA_{name}_URL names no region"):
        read({"DATABASE_URL": PRIMARY, f"READ_REPLICA_{name}_URL": REPLICA})


def test_a_code_that_is_no_region_of_the_platform_is_taken_and_the_likely_one_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "viral_engine"):
        found = read({"DATABASE_URL": PRIMARY, "READ_REPLICA_LHX_URL": REPLICA})
    assert found.nodes["lhx"] == REPLICA
    assert "READ_REPLICA_LHX_URL" in caplog.text
    assert '"lhr"' in caplog.text
    assert "secret" not in caplog.text


def test_without_a_variable_of_its_own_the_primary_s_region_has_the_primary_for_its_node() -> None:
    assert dict(read({"DATABASE_URL": PRIMARY}).nodes) == {"iad": PRIMARY}
    found = read({"DATABASE_URL": PRIMARY, "READ_REPLICA_LHR_URL": REPLICA})
    assert dict(found.nodes) == {"iad": PRIMARY, "lhr": REPLICA}


def test_a_variable_for_the_primary_s_region_counts_more_than_the_address_of_the_primary() -> None:
    found = read({"DATABASE_URL": PRIMARY, "READ_REPLICA_IAD_URL": REPLICA})
    assert dict(found.nodes) == {"iad": REPLICA}


def test_empty_variables_count_as_absent_and_no_database_at_all_is_no_mistake() -> None:
    for blank in ("", " "):
        names = ("DATABASE_URL", "PGBOUNCER_URL", "READ_REPLICA_LHR_URL")
        found = read(dict.fromkeys(names, blank))
        assert (found.primary, found.pooler, dict(found.nodes)) == (None, None, {})


def test_the_app_goes_by_the_pooler_and_the_watchers_past_it() -> None:
    found = read({"DATABASE_URL": PRIMARY, "PGBOUNCER_URL": POOLER})
    assert found.way_to_primary == POOLER
    assert (found.primary, dict(found.nodes)) == (PRIMARY, {"iad": PRIMARY})
    assert read({"DATABASE_URL": PRIMARY}).way_to_primary == PRIMARY


def test_a_pooler_alone_is_refused() -> None:
    with pytest.raises(
        MisuseError, match="PGBOUNCER_URL is set and DATABASE_URL is not"
    ) as refused:
        read({"PGBOUNCER_URL": POOLER})
    assert "past the pooler" in refused.value.suggestion
