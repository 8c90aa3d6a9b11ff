from __future__ import annotations

import os
import pwd
import stat
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from viral_engine.errors import UnsupportedError
from viral_engine.nodes import kernel

__all__ = ["Account", "drop_privileges", "reachable_by_all"]

UNPRIVILEGED_ACCOUNT = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """Whose rights the engines run with."""

    uid: int
    gid: int
    name: str


def drop_privileges(data: Path, *, needed: Iterable[Path] = ()) -> Account:
    """Stop being root, for good, and return the account that this process now runs with.

    Where it is not root, nothing changes. Else the folder ``data`` and all in it become the
    unprivileged account's. The right to read everything is kept, here and across exec, only where
    this Python, a path in ``needed`` or ``data`` lies in a folder that others may not enter (an
    environment under /root, say). Call it while the process has one thread. Raises
    UnsupportedError where there is no such account to change to.
    """
    if os.geteuid() != 0:
        return _own_account()
    account = _unprivileged_account()
    data.mkdir(parents=True, exist_ok=True)
    give(data, account)
    places = (Path(sys.executable), Path(sys.base_prefix), Path(__file__), data.parent, *needed)
    capability = None if reachable_by_all(places) else _reading_capability()
    try:
        if capability is not None:
            kernel.keep_capabilities_across_setuid()
        os.setgroups([])
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
    except OSError as error:
        raise UnsupportedError(
            f"root may not become {account.name} here ({error.strerror}), and PostgreSQL refuses root",
            suggestion="Run as an ordinary user, or map more than one user into this namespace.",
        ) from error
    if sys.platform == "linux":
        kernel.keep_only_capability(capability)
    return account


def give(folder: Path, account: Account) -> None:
    """Make a folder and all in it the account's; the folder itself last, as the mark of success."""
    if folder.stat().st_uid == account.uid:
        return
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(Path(parent, name), account.uid, account.gid, follow_symlinks=False)
    os.chown(folder, account.uid, account.gid)


def reachable_by_all(
    paths: Iterable[Path], mode_of: Callable[[Path], int] = lambda path: path.stat().st_mode
) -> bool:
    """Tell whether others may enter every folder on the way to these paths, links followed too."""
    folders = {
        parent
        for path in paths
        for way in (path.absolute(), path.resolve())
        for parent in way.parents
    }
    return all(mode_of(folder) & stat.S_IXOTH for folder in folders)


def _reading_capability() -> int | None:
    # A container without the narrow right (Docker's default) still has the wider one.
    if sys.platform != "linux":
        return None
    held = kernel.capabilities()
    wanted = (kernel.CAP_DAC_READ_SEARCH, kernel.CAP_DAC_OVERRIDE)
    return next((one for one in wanted if one in held), None)


def _unprivileged_account() -> Account:
    # An account with an entry, not a bare number: initdb refuses a user that has no name.
    try:
        entry = pwd.getpwnam(UNPRIVILEGED_ACCOUNT)
    except KeyError:
        raise UnsupportedError(
            f"PostgreSQL refuses root, and there is no account {UNPRIVILEGED_ACCOUNT} to change to",
            suggestion="Run as an ordinary user, or create that account.",
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise UnsupportedError(
            f"user {uid} has no name in /etc/passwd, and PostgreSQL's initdb refuses such users",
            suggestion="Run as a user that has an entry there; in a user namespace, map to one.",
        ) from None
    return Account(uid, os.getegid(), name)
