from __future__ import annotations

import importlib
import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import cast

from viral_engine.errors import MisuseError
from viral_engine.nodes.admission import App

__all__ = ["check_import", "import_app"]

CHECK_LIMIT_S = 60
_TRACEBACK_LINES = 12


def import_app(app: str, folder: Path) -> App:
    """Import ``module:attribute`` with ``folder`` first on the path and return the app.

    Raises MisuseError, with the remedy, when the module or the attribute is missing, when the
    module fails while it is imported, or when what is there cannot be called.
    """
    module_name, _, path = app.partition(":")
    if not module_name or not path:
        raise MisuseError(
            f"{app!r} does not name an app.",
            suggestion="Write it as module:attribute, for example shop.main:app.",
        )
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    target: object = _module(app, module_name, folder)
    for part in path.split("."):
        try:
            target = getattr(target, part)
        except AttributeError as error:
            raise MisuseError(
                f"The module {module_name} has no {path!r}.",
                suggestion=f"Name the attribute that holds the ASGI app: {module_name}:NAME.",
            ) from error
        except Exception as error:
            raise _failed(app, error) from error
    if not callable(target):
        raise MisuseError(
            f"{app} is a {type(target).__name__}, not an ASGI app.",
            suggestion="An ASGI app is called with scope, receive and send.",
        )
    return cast("App", target)


def check_import(app: str, folder: Path) -> None:
    """Import the app in a process of its own; raise MisuseError where a machine would fail to.

    At most 60 s. What the app prints while it is imported is dropped.
    """
    command = [sys.executable, "-m", __name__, app, str(folder)]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=CHECK_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MisuseError(
            f"Importing {app} did not end within {CHECK_LIMIT_S} s.",
            suggestion="Move what waits out of the import and into the app's startup.",
        ) from error
    except OSError as error:
        raise MisuseError(
            f"The folder of the app cannot be used: {error}",
            suggestion="Run the command in the folder that the module is in.",
        ) from error
    if done.returncode == 0:
        return
    last = done.stdout.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        verdict = json.loads(last)
        raise MisuseError(verdict["message"], suggestion=verdict["suggestion"])
    except (ValueError, KeyError, TypeError):
        tail = _tail(done.stderr.decode(errors="replace").splitlines())
        raise MisuseError(
            f"Importing {app} ended its process (exit code {done.returncode}).\n{tail}",
            suggestion="An import must define the app and do nothing else.",
        ) from None


def _module(app: str, name: str, folder: Path) -> object:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise MisuseError(
                f"There is no module {missing!r} in {folder} or among the installed packages.",
                suggestion="Run the command in the folder that the module is in.",
            ) from error
        raise MisuseError(
            f"{app} imports {missing!r}, which is not installed.",
            suggestion=f"Install {missing} into the environment that viral runs in.",
        ) from error
    except (Exception, SystemExit) as error:
        raise _failed(app, error) from error


def _failed(app: str, error: BaseException) -> MisuseError:
    tail = _tail("".join(traceback.format_exception(error)).splitlines())
    return MisuseError(
        f"Importing {app} failed with {type(error).__name__}: {error}\n{tail}",
        suggestion="Fix the error above; it is raised while the module is imported.",
    )


def _tail(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines[-_TRACEBACK_LINES:])


def _main(app: str, folder: str) -> int:
    try:
        import_app(app, Path(folder))
    except MisuseError as error:
        verdict = {"message": error.message, "suggestion": error.suggestion}
        sys.stdout.write(f"\n{json.dumps(verdict)}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:3]))
