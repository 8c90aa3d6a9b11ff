"""``viral node``: what runs inside a machine; the platform calls these, people seldom do."""

from __future__ import annotations

import os
import sys

import click


@click.group()
def node() -> None:
    """Be a machine: read its environment and run until stopped."""


@node.command()
def database() -> None:
    """Run etcd, Patroni and PostgreSQL."""
    from viral_engine.nodes.entry import main  # noqa: PLC0415 - each node imports only its own

    sys.exit(main("database", os.environ))


@node.command()
def witness() -> None:
    """Run the third vote, without data."""
    from viral_engine.nodes.entry import main  # noqa: PLC0415 - as above

    sys.exit(main("witness", os.environ))


@node.command()
def cache() -> None:
    """Run the region's Valkey."""
    from viral_engine.nodes.entry import main  # noqa: PLC0415 - as above

    sys.exit(main("cache", os.environ))


@node.command()
def app() -> None:
    """Serve the ASGI app of VIRAL_APP."""
    from viral_engine.nodes.app import run  # noqa: PLC0415 - as above

    sys.exit(run(os.environ))


@node.command()
def migrate() -> None:
    """Bring the bundled service's tables to the newest revision."""
    from viral_engine.service.migrate import migrate as bring_up_to_date  # noqa: PLC0415 - as above

    click.echo(bring_up_to_date(os.environ["DATABASE_URL"]))
