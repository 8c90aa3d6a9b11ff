"""The data folder: whose it is, who uses it now, and what is kept in it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from viral_engine.errors import (
    AlreadyRunningError,
    DataFolderError,
    MisuseError,
    NoSpaceError,
    NotRunningError,
)
from viral_engine.globe.network.addresses import AddressPlan

LAYOUT = 1
"""Version of the data folder; raised when an older one cannot be read any more."""

SPACE_NEEDED = 1024**3
"""Bytes that must be free: two clusters, their logs, and room to work."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a data folder was made for; another deployment's data is never touched."""

    layout: int
    app: str
    primary_region: str
    regions: tuple[str, ...]


def claim(home: Path, manifest: Manifest) -> None:
    """Make the folder ours, or raise DataFolderError when it is somebody else's."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as exc:
        raise DataFolderError(f"The data folder {home} cannot be made: {exc.strerror}.") from exc
    if not os.access(home, os.W_OK | os.X_OK):
        raise DataFolderError(f"The data folder {home} cannot be written to.")
    path = home / "globe.json"
    if not path.exists():
        strangers = sorted(p.name for p in home.iterdir() if p.name not in ("lock", "up.jsonl"))
        if strangers:
            raise DataFolderError(
                f"{home} is not empty and not a data folder: it has {strangers[0]}.",
                suggestion="Choose another with --home or VIRAL_HOME.",
            )
        free = shutil.disk_usage(home).free
        if free < SPACE_NEEDED:
            raise NoSpaceError(
                f"{home} has {free // 2**20} MiB free, and a globe needs {SPACE_NEEDED // 2**20}.",
                suggestion="Free some, or choose another folder with --home or VIRAL_HOME.",
            )
        home.chmod(0o700)
        path.write_text(json.dumps(asdict(manifest)), encoding="utf-8")
        return
    _compare(home, _read(path), manifest)


def _read(path: Path) -> Manifest:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["layout"] != LAYOUT:  # told before the fields, which may be others there
            raise DataFolderError(
                f"{path.parent} was made by another version "
                f"(layout {stored['layout']}, this is {LAYOUT}).",
                suggestion=_REMEDY,
            )
        return Manifest(**(stored | {"regions": tuple(stored["regions"])}))
    except (ValueError, TypeError, KeyError) as exc:
        raise DataFolderError(
            f"{path.parent} holds a data folder that cannot be read.", suggestion=_REMEDY
        ) from exc


_REMEDY = (
    "Choose another with --home or VIRAL_HOME. Only if nobody needs this data: viral down --purge."
)


def _compare(home: Path, found: Manifest, wanted: Manifest) -> None:
    for field in ("app", "primary_region", "regions"):
        theirs, ours = getattr(found, field), getattr(wanted, field)
        if theirs != ours:
            raise DataFolderError(
                f"{home} holds another deployment: {field} {_shown(theirs)}; "
                f"asked for was {_shown(ours)}.",
                suggestion=_REMEDY,
            )


def _shown(value: object) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def kept_block(home: Path) -> int:
    """The block of loopback addresses that the machines of this folder know; 0 for none yet."""
    path = home / "network.json"
    return int(_kept_network(path)["block"]) if path.exists() else 0


def _kept_network(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {"mode": str(kept["mode"]), "block": int(kept["block"])}
    except (ValueError, TypeError, KeyError) as exc:
        raise DataFolderError(f"{path} cannot be read.", suggestion=_REMEDY) from exc


def keep_network(home: Path, plan: AddressPlan) -> None:
    """Remember the network of this folder's machines; raises DataFolderError for another mode.

    Databases keep each other's addresses in their data, so that they cannot move.
    """
    path = home / "network.json"
    kept = {"mode": plan.mode.value, "block": plan.block}
    if path.exists():
        before = _kept_network(path)
        if before["mode"] != plan.mode.value:
            raise DataFolderError(
                f"The machines in {home} live in the {before['mode']} network, not in {plan.mode}.",
                suggestion=f"Start it with --network {before['mode']}, or use another --home.",
            )
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(kept), encoding="utf-8")
    draft.replace(path)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the folder for one globe; raises AlreadyRunningError when another holds it."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunningError(f"A globe already runs from {home}.") from exc
        (home / "run.json").unlink(missing_ok=True)
        yield


def write_run_file(home: Path, facts: dict[str, Any]) -> None:
    """Tell other commands where the running globe is; readable by its owner only."""
    path = home / "run.json"
    draft = path.with_suffix(".new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(facts), encoding="utf-8")
    draft.replace(path)


def read_run_file(home: Path) -> dict[str, Any]:
    """Where the running globe is; raises NotRunningError when none runs from this folder."""
    path = home / "run.json"
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not _is_held(home):  # what a killed globe left; its pid may be somebody else's by now
            raise NotRunningError(f"No globe runs from {home}.")
    except (OSError, ValueError) as exc:
        raise NotRunningError(f"No globe runs from {home}.") from exc
    return facts


def _is_held(home: Path) -> bool:
    with (home / "lock").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def purge(home: Path) -> None:
    """Delete a data folder; raises MisuseError for a folder that is none.

    Raises AlreadyRunningError, and deletes nothing, while a globe holds it.
    """
    if not (home / "globe.json").exists():
        raise MisuseError(f"{home} is not a data folder; nothing was deleted.")
    with locked(home):
        shutil.rmtree(home)
