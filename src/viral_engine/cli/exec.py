"""``viral exec``: any command where the users of a region are."""

from __future__ import annotations

import os
from pathlib import Path

import click

from viral_engine.cli.output import command_errors
from viral_engine.cli.place import home_option
from viral_engine.errors import MisuseError, UnsupportedError
from viral_engine.globe.home import read_run_file
from viral_engine.globe.network import linux
from viral_engine.globe.network.addresses import users


@click.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("region")
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--private", is_flag=True, help="Inside the region's private network instead.")
@home_option
@command_errors
def exec_(region: str, command: tuple[str, ...], private: bool, home: Path) -> None:
    """Run COMMAND with the latencies of REGION: outside it, where its users are.

    The addresses that viral status shows lead to the globe from there as well.
    """
    facts = read_run_file(home)
    place = region if private else users(region)
    if place not in facts["namespaces"]:
        known = ", ".join(name for name in facts["namespaces"] if ":" not in name)
        raise MisuseError(f"This globe has no region {region}.", suggestion=f"It has: {known}.")
    namespace = facts["namespaces"][place]
    if namespace is not None:
        _enter(facts["pid"], namespace)
    environ = os.environ | {"VIRAL_REGION": region, "VIRAL_URL": facts["addresses"]["anycast"],
                            "VIRAL_ANYCAST_URL": facts["anycast_address"]}  # fmt: skip
    try:
        os.execvpe(command[0], list(command), environ)
    except OSError as exc:
        raise MisuseError(f"{command[0]} cannot be run: {exc.strerror}.") from exc


def _enter(pid: int, namespace: int) -> None:
    """Move this process into a network namespace of the globe's."""
    try:
        with (
            Path(f"/proc/{pid}/ns/user").open() as owner,
            Path(f"/proc/{pid}/fd/{namespace}").open() as door,
        ):
            if not os.path.sameopenfile(owner.fileno(), _own_user_namespace()):
                linux.setns(owner.fileno(), linux.CLONE_NEWUSER)
            linux.setns(door.fileno(), linux.CLONE_NEWNET)
    except OSError as exc:
        raise UnsupportedError(
            f"The network of the globe cannot be entered: {exc.strerror or exc}.",
            suggestion="Run this command as the user who started the globe.",
        ) from exc


def _own_user_namespace() -> int:
    return os.open("/proc/self/ns/user", os.O_RDONLY)
