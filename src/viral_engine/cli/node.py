"""``viral node``: what runs inside a machine; the platform calls these, people seldom do."""

from __future__ import annotations

import os
import sys
from collections.abc import Coroutine
from datetime import timedelta

import click

MIGRATED_WITHIN = timedelta(seconds=45)


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
    """Bring the bundled service's tables to the newest revision, once the primary answers."""
    import asyncio  # noqa: PLC0415 - as above

    from viral_engine.cli.output import command_errors  # noqa: PLC0415 - as above
    from viral_engine.clock import NotYet, wait_until  # noqa: PLC0415 - as above
    from viral_engine.cluster.addresses import address_in  # noqa: PLC0415 - as above
    from viral_engine.errors import MisuseError, NoPrimaryError  # noqa: PLC0415 - as above
    from viral_engine.service.migrate import migrate as bring_up_to_date  # noqa: PLC0415 - as above

    def migrated() -> str | NotYet:
        if (url := address_in(os.environ, "DATABASE_URL")) is None:
            raise MisuseError("DATABASE_URL is not set.")
        try:
            return bring_up_to_date(url)
        except NoPrimaryError as error:  # the address follows the primary a moment late
            return NotYet(error.message)

    def run() -> None:
        waiting = wait_until(migrated, timeout=MIGRATED_WITHIN, waiting_for="the migrations")
        click.echo(asyncio.run(waiting))

    command_errors(run)()


@node.command()
def healthy() -> None:
    """Exit with 0 where what this machine runs is well, else with 1 and the reason."""
    import asyncio  # noqa: PLC0415 - as above

    from viral_engine.cli.output import command_errors  # noqa: PLC0415 - as above
    from viral_engine.nodes.healthy import ailment  # noqa: PLC0415 - as above

    def run() -> None:
        if wrong := asyncio.run(ailment(os.environ)):
            click.echo(wrong, err=True)
            sys.exit(1)

    command_errors(run)()


@node.group()
def ctl() -> None:
    """Ask and tell Patroni and etcd, from inside a database machine (by the platform's exec)."""


@ctl.command()
def status() -> None:
    """Print as JSON who is primary, how far each replica is, and who leads etcd."""
    from viral_engine.nodes import ctl as control  # noqa: PLC0415 - as above

    _print_answer(control.status(os.environ))


@ctl.command()
@click.option("--to", "region", required=True, metavar="REGION", help="The new primary's region.")
def switchover(region: str) -> None:
    """Hand the primary over, without loss; writes wait for some seconds."""
    from viral_engine.nodes import ctl as control  # noqa: PLC0415 - as above

    _print_answer(control.switch_over(os.environ, region))


@ctl.command()
@click.option("--to", "region", required=True, metavar="REGION", help="The new leader's region.")
def etcd_leader(region: str) -> None:
    """Hand the leadership of etcd over."""
    from viral_engine.nodes import ctl as control  # noqa: PLC0415 - as above

    _print_answer(control.move_etcd_leader(os.environ, region))


@ctl.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def primacy(as_json: bool) -> None:
    """Print who may acknowledge writes, how fresh that is as seen from here, and for how long."""
    from viral_engine.nodes import ctl as control  # noqa: PLC0415 - as above

    if as_json:
        _print_answer(control.primacy(os.environ))
        return

    import asyncio  # noqa: PLC0415 - as above

    from viral_engine.cli.output import command_errors  # noqa: PLC0415 - as above

    command_errors(lambda: click.echo(_primacy_line(asyncio.run(control.primacy(os.environ)))))()


@ctl.command()
def revoke() -> None:
    """Take the primary's lock from it at once; a healthy primary takes it back."""
    from viral_engine.nodes import ctl as control  # noqa: PLC0415 - as above

    _print_answer(control.revoke(os.environ))


@ctl.command()
def standing() -> None:
    """Print as JSON what an operator's decision needs, also where etcd has no majority."""
    from viral_engine.nodes.standing import standing as told  # noqa: PLC0415 - as above

    _print_answer(told(os.environ))


@ctl.command()
@click.option("--failed", default=0, metavar="N", help="Answer as soon as so many have failed,")
@click.option("--within", default=0.0, metavar="SECONDS", help="or when this time is over.")
def requests(failed: int, within: float) -> None:
    """Print as JSON what this machine's app has answered since it started, and how quickly."""
    from viral_engine.nodes.tally import ask_tally  # noqa: PLC0415 - as above

    _print_answer(ask_tally(os.environ, failed=failed, within=within))


@ctl.command()
def connections() -> None:
    """Print how many connections this machine's app has from outside."""
    from viral_engine.cli.output import command_errors, print_json  # noqa: PLC0415 - as above
    from viral_engine.nodes.connections import connections as count  # noqa: PLC0415 - as above

    command_errors(lambda: print_json(count(os.environ)))()


@ctl.command()
def load() -> None:
    """Print as JSON how much this machine's app serves: requests at once, now and summed over time."""
    from viral_engine.nodes.load import load as told  # noqa: PLC0415 - as above

    _print_answer(told(os.environ))


@ctl.command()
def promote() -> None:
    """Make this machine's database the primary in place of one that is stopped."""
    from viral_engine.nodes.promote import promote as take_over  # noqa: PLC0415 - as above

    _print_answer(take_over(os.environ))


@ctl.command()
@click.option("--holder", required=True, metavar="ID", help="The command that holds it.")
@click.option("--who", required=True, metavar="NAME", help="Whose command it is.")
@click.option("--what", required=True, metavar="TEXT", help="What it does.")
def lock(holder: str, who: str, what: str) -> None:
    """Take or prolong the operators' lock, and print whose it is."""
    from viral_engine.nodes import operator_lock  # noqa: PLC0415 - as above

    _print_answer(operator_lock.lock(os.environ, holder=holder, who=who, what=what))


@ctl.command()
@click.option("--holder", required=True, metavar="ID", help="The command that holds it.")
def unlock(holder: str) -> None:
    """Give the operators' lock back."""
    from viral_engine.nodes import operator_lock  # noqa: PLC0415 - as above

    _print_answer(operator_lock.unlock(os.environ, holder=holder))


def _primacy_line(said: dict[str, object]) -> str:
    if said["region"] is None:
        return "Nobody holds primacy."
    line = f"{said['region']} holds primacy (machine {said['machine']})"
    if said["unchanged_seconds"] is not None:
        line += f"; its last renewal was seen {said['unchanged_seconds']} s ago"
    if said["remaining_seconds"] is not None:
        line += f"; it lasts {said['remaining_seconds']} s more"
    return f"{line}."


def _print_answer(question: Coroutine[None, None, dict[str, object]]) -> None:
    import asyncio  # noqa: PLC0415 - as above

    from viral_engine.cli.output import command_errors, print_json  # noqa: PLC0415 - as above

    command_errors(lambda: print_json(asyncio.run(question)))()
