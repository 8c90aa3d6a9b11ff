from __future__ import annotations

import asyncio
import gc
import logging
import secrets
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from viral_engine.errors import MisuseError
from viral_engine.nodes.admission import Admission, App
from viral_engine.nodes.app_import import import_app
from viral_engine.nodes.tally import Tally
from viral_engine.observe.log import write_lines_to
from viral_engine.topology.here import Here
from viral_engine.topology.model import BUNDLED_APP

__all__ = ["EXIT_MISCONFIGURED", "AppSettings", "run"]

EXIT_MISCONFIGURED = 78
"""EX_CONFIG of sysexits: starting again cannot help, so the platform should not try."""

DEFAULT_HEALTH_PATH = "/api/health"
# A proxy keeps idle connections for about a minute; the server must not close them first.
KEEP_ALIVE_S = 65
SHUTDOWN_LIMIT_S = 10
# A proxy hears a moment later that a machine goes, and what it sends until then is served.
FAREWELL_S = 0.5


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What an app machine is told: which app, from where, and how much of it at once."""

    app: str
    folder: Path
    host: str
    port: int
    hard_limit: int | None
    health_path: str

    @classmethod
    def from_environ(cls, environ: Mapping[str, str], here: Here) -> AppSettings:
        """Read VIRAL_APP, VIRAL_APP_DIR, VIRAL_HARD_LIMIT, VIRAL_SOFT_LIMIT, VIRAL_HEALTH_PATH.

        Raises MisuseError for limits that are no positive numbers, or a soft one above the hard.
        """
        hard = _limit(environ, "VIRAL_HARD_LIMIT")
        soft = _limit(environ, "VIRAL_SOFT_LIMIT")
        if hard is not None and soft is not None and soft > hard:
            raise MisuseError(f"VIRAL_SOFT_LIMIT is {soft}, above VIRAL_HARD_LIMIT, {hard}.")
        return cls(
            app=environ.get("VIRAL_APP") or BUNDLED_APP,
            folder=Path(environ.get("VIRAL_APP_DIR") or Path.cwd()),
            host=_host(environ.get("FLY_PRIVATE_IP") or ""),
            port=here.port,
            hard_limit=hard,
            health_path=environ.get("VIRAL_HEALTH_PATH") or DEFAULT_HEALTH_PATH,
        )


def run(environ: Mapping[str, str]) -> int:
    """Serve the app until 0.5 s after SIGTERM or SIGINT; requests under way then get 10 s to end.

    Returns the process's exit code: 0 after a signal, 1 when serving failed, and 78 with one
    message on stderr when the app or its settings are wrong.
    """
    try:
        here = Here.from_environ(environ)
        settings = AppSettings.from_environ(environ, here)
        app = import_app(settings.app, settings.folder)
    except MisuseError as error:
        remedy = f"\n{error.suggestion}" if error.suggestion else ""
        sys.stderr.write(f"viral node app: {error.message}{remedy}\n")
        return EXIT_MISCONFIGURED
    write_lines_to(region=here.region, machine=here.machine_id)
    if settings.hard_limit is not None:
        app = Admission(
            app,
            hard_limit=settings.hard_limit,
            region=here.region,
            health_path=settings.health_path,
        )
    tally = Tally(app, health_path=settings.health_path, run=secrets.token_hex(8))
    return _serve(tally, settings)


class _Server(uvicorn.Server):
    """Goes on for a moment once it was told to stop: users may still be led here."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await asyncio.sleep(FAREWELL_S)
        await super().shutdown(sockets)


def _serve(app: App, settings: AppSettings) -> int:
    server = _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            interface="asgi3",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=SHUTDOWN_LIMIT_S,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            log_config=None,
        )
    )
    # uvicorn raises the signal again once it has shut down; without this that kills the process,
    # and a clean stop could not be told from a crash.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    # What was imported lives as long as the process: keep the collector from walking it again.
    gc.freeze()
    try:
        server.run()
    except SystemExit as error:
        logging.getLogger("viral_engine").critical("the server stopped: exit %s", error.code)
        return 1
    return 0 if server.started else 1


def _host(private_ip: str) -> str:
    # Fly's own private address is IPv6, and its proxy comes by IPv4; machines that share a kernel
    # have an IPv4 address each and must not take the port from one another.
    return private_ip if "." in private_ip else "0.0.0.0"  # noqa: S104 - a machine of its own


def _limit(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name) or ""
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise MisuseError(f"{name} is {text!r}; it must be a whole number above 0.")
    return int(text)
