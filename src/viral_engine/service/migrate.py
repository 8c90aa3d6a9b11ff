from __future__ import annotations

from importlib.resources import as_file, files
from typing import TYPE_CHECKING

import psycopg

from viral_engine.cluster.addresses import LINK_OPTIONS
from viral_engine.errors import MisuseError, NoPrimaryError

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["HEAD", "migrate"]

HEAD = "0004"
"""The newest revision of the migrations that are shipped here."""

# Two machines that migrate at once: the second waits for the first, and then has nothing to do.
_LOCK = 0x5649_5241_4C01
_LOCK_LIMIT = "60s"

_MAY_CREATE_SCHEMAS = "select has_database_privilege(current_database(), 'create')"
_MAY_CREATE_TABLES = "select has_schema_privilege(current_schema(), 'create')"


def migrate(url: str) -> str:
    """Bring the database to the newest revision and return it; safe to run twice, or two at once.

    Raises NoPrimaryError when ``url`` leads to no database that takes writes, MisuseError when its
    role may not create what is missing, and psycopg.errors.LockNotAvailable when another migration
    holds the lock for more than 60 s.
    """
    try:
        connection = psycopg.connect(
            url, autocommit=True, application_name="viral-migrate", **LINK_OPTIONS
        )
    except psycopg.OperationalError as error:
        raise NoPrimaryError(
            f"The primary cannot be reached for its migrations: {error}"
        ) from error
    with connection:
        if _one(connection, "select pg_is_in_recovery()"):
            raise NoPrimaryError("The address for migrations leads to a replica.")
        connection.execute(f"set lock_timeout = '{_LOCK_LIMIT}'")
        connection.execute("select pg_advisory_lock(%s)", [_LOCK])
        if _one(connection, "select to_regclass('viral.first_answers')") is None:
            # Where Viral Engine made the database, its tables are there from the beginning.
            _check_rights(connection, _MAY_CREATE_SCHEMAS, f"database {connection.info.dbname}")
            connection.execute(files("viral_engine.data").joinpath("schema.sql").read_bytes())
        # Alembic and SQLAlchemy take a second to import, and almost every start finds all done.
        if _revision(connection) != HEAD:
            _check_rights(connection, _MAY_CREATE_TABLES, "schema public")
            _upgrade(connection)
        return HEAD


def _check_rights(
    connection: psycopg.Connection[tuple[object, ...]], question: str, where: str
) -> None:
    if not _one(connection, question):
        role = connection.info.user
        raise MisuseError(
            f"The role {role} may not create what the migrations need.",
            suggestion=f"As the owner of the database: grant create on {where} to {role};",
        )


def _upgrade(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    from alembic import command  # noqa: PLC0415 - costs a second, needed once in a deployment
    from alembic.config import Config  # noqa: PLC0415 - the same
    from sqlalchemy import StaticPool, create_engine  # noqa: PLC0415 - the same

    connection.autocommit = False
    # The lock belongs to this connection, so the migrations run on it and no other.
    engine = create_engine(
        "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
    )
    with as_file(files("viral_engine.service")) as folder:
        config: Config = Config()
        config.set_main_option("script_location", str(folder / "migrations"))
        with engine.connect() as bound:
            config.attributes["connection"] = bound
            command.upgrade(config, "head")
            bound.commit()


def _revision(connection: psycopg.Connection[tuple[object, ...]]) -> object:
    if _one(connection, "select to_regclass('alembic_version')") is None:
        return None
    return _one(connection, "select max(version_num) from alembic_version")


def _one(connection: psycopg.Connection[tuple[object, ...]], query: str) -> object:
    row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]
