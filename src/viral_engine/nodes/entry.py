from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import Literal, TypeAlias, assert_never

from viral_engine.errors import ViralError
from viral_engine.nodes.guard import guarded
from viral_engine.nodes.kernel import keep_windows_open
from viral_engine.nodes.machine import Machine
from viral_engine.nodes.privileges import drop_privileges

__all__ = ["Kind", "main"]

Kind: TypeAlias = Literal["database", "witness", "cache"]


def main(kind: Kind, environ: Mapping[str, str]) -> int:
    """Be a machine of this kind: run it with the least rights, and return its exit code.

    Root is given up first, and a second process is put in charge, so that neither its crash nor a
    SIGKILL leaves an engine behind. A ViralError becomes two lines on stderr and its exit code.
    """
    try:
        machine = Machine.from_environ(environ)
        if kind == "database":
            keep_windows_open()  # while it may: what follows gives up root
        account = drop_privileges(machine.data)
        machine.data.mkdir(parents=True, exist_ok=True)
    except ViralError as error:
        return _report(error)
    own = {**environ, "HOME": str(machine.data), "USER": account.name, "LOGNAME": account.name}
    return guarded(lambda: _run(kind, own))


def _run(kind: Kind, environ: Mapping[str, str]) -> int:
    try:
        return asyncio.run(_dispatch(kind, environ))
    except ViralError as error:
        return _report(error)


async def _dispatch(kind: Kind, environ: Mapping[str, str]) -> int:
    # Imported by kind: a cache has no use for what a database needs, and starts the sooner.
    match kind:
        case "database":
            from viral_engine.nodes import database  # noqa: PLC0415

            return await database.run(environ)
        case "witness":
            from viral_engine.nodes import witness  # noqa: PLC0415

            return await witness.run(environ)
        case "cache":
            from viral_engine.nodes import cache  # noqa: PLC0415

            return await cache.run(environ)
        case _:
            assert_never(kind)


def _report(error: ViralError) -> int:
    lines = [f"error: {error.message}", *([error.suggestion] if error.suggestion else [])]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return error.exit_code
