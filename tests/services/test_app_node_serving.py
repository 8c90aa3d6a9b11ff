"""An app machine serves any ASGI app, stops when asked, and says why when it cannot start."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta
from pathlib import Path
from time import monotonic

import httpx
import pytest
from tests.services.app_process import app_machine, run_to_its_end

from viral_engine.clock import wait_until
from viral_engine.errors import MisuseError, UnsupportedError
from viral_engine.nodes.app import EXIT_MISCONFIGURED
from viral_engine.nodes.app_import import check_import
from viral_engine.nodes.tally import ask_tally

SLOW_APP = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            await send({"type": kind + ".complete"})
            if kind == "lifespan.shutdown":
                return
    if scope["path"] == "/broken":
        raise RuntimeError("broken on purpose")
    if scope["path"] == "/slow":
        await asyncio.sleep(4)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""


def _settings(folder: Path) -> dict[str, str]:
    (folder / "slow_app.py").write_text(SLOW_APP)
    return {"VIRAL_APP": "slow_app:app", "VIRAL_APP_DIR": str(folder), "VIRAL_HARD_LIMIT": "1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_lets_the_request_under_way_end_and_exits_well(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with (
        app_machine(_settings(tmp_path), log=tmp_path / "log") as machine,
        httpx.AsyncClient(base_url=machine.url) as user,
    ):
        slow = asyncio.create_task(user.get("/slow"))

        async def is_turned_away() -> bool:
            # The limit is 1: a second request is refused only while the first is inside.
            refused = await user.get("/")
            return bool(refused.headers.get("fly-replay") == "elsewhere=true")

        await wait_until(
            is_turned_away,
            timeout=timedelta(seconds=5),
            waiting_for="the slow request to be inside",
        )
        code = await asyncio.to_thread(machine.stop, number)
        assert (await slow).text == "done"
    assert code == 0


async def test_who_is_led_there_just_after_it_was_told_to_stop_is_served(tmp_path: Path) -> None:
    async with (
        app_machine(_settings(tmp_path), log=tmp_path / "log") as machine,
        httpx.AsyncClient(base_url=machine.url, headers={"connection": "close"}) as user,
    ):
        machine.process.send_signal(signal.SIGTERM)
        told = monotonic()
        while monotonic() - told < 0.3:
            assert (await user.get("/")).text == "done"

        async def is_closed() -> bool:
            try:
                await user.get("/")
            except httpx.ConnectError:
                return True
            return False

        await wait_until(is_closed, timeout=timedelta(seconds=10), waiting_for="its port to close")
        assert await asyncio.to_thread(machine.process.wait, 20) == 0


async def test_an_error_of_the_app_is_one_line_of_json_that_names_the_machine(
    tmp_path: Path,
) -> None:
    async with app_machine(_settings(tmp_path), log=tmp_path / "log") as machine:
        async with httpx.AsyncClient(base_url=machine.url) as user:
            assert (await user.get("/broken")).status_code == 500
        machine.stop()
    lines = [json.loads(line) for line in machine.log.read_text().splitlines()]
    errors = [line for line in lines if line["level"] == "error"]
    assert len(errors) == 1
    assert errors[0]["error"] == "RuntimeError: broken on purpose"
    assert (errors[0]["region"], errors[0]["machine"]) == ("lhr", "m1")


@pytest.mark.parametrize(
    ("app", "text", "said"),
    [
        ("nothing_here:app", None, "no module 'nothing_here'"),
        ("bad_app:application", "app = 1", "has no 'application'"),
        ("bad_app:app", "app = 1", "not an ASGI app"),
        ("bad_app:app", "import nothing_there", "'nothing_there', which is not installed"),
        ("bad_app:app", "1 / 0", "ZeroDivisionError"),
        ("bad_app:app", "import sys; sys.exit(3)", "SystemExit"),
        ("bad_app", None, "does not name an app"),
    ],
)
def test_an_app_that_cannot_be_imported_is_said_before_a_machine_starts(
    tmp_path: Path, app: str, text: str | None, said: str
) -> None:
    if text is not None:
        (tmp_path / "bad_app.py").write_text(f"print('noise')\n{text}\n")
    with pytest.raises(MisuseError) as refused:
        check_import(app, tmp_path)
    assert said in refused.value.message
    assert refused.value.suggestion


def test_a_process_that_dies_in_the_import_is_said_too(tmp_path: Path) -> None:
    (tmp_path / "bad_app.py").write_text("import os; os._exit(9)")
    with pytest.raises(MisuseError, match="exit code 9"):
        check_import("bad_app:app", tmp_path)


def test_a_machine_whose_app_is_missing_exits_so_that_it_is_not_started_again() -> None:
    code, said = run_to_its_end({"VIRAL_APP": "nothing_here:app"})
    assert code == EXIT_MISCONFIGURED
    assert "no module 'nothing_here'" in said
    assert "Traceback" not in said


def test_limits_that_are_no_numbers_are_refused_with_their_name() -> None:
    code, said = run_to_its_end({"VIRAL_HARD_LIMIT": "many"})
    assert code == EXIT_MISCONFIGURED
    assert "VIRAL_HARD_LIMIT is 'many'" in said


async def test_the_bundled_service_is_served_without_any_database(tmp_path: Path) -> None:
    async with app_machine({}, log=tmp_path / "log") as machine:
        async with httpx.AsyncClient(base_url=machine.url) as user:
            health = (await user.get("/api/health")).json()
            assert (health["status"], health["region"], health["machine"]) == ("ok", "lhr", "m1")
        assert machine.stop() == 0


async def test_a_machine_tells_its_own_operators_what_it_answered(
    tmp_path: Path,
) -> None:
    async with (
        app_machine(_settings(tmp_path), log=tmp_path / "log") as machine,
        httpx.AsyncClient(base_url=machine.url) as user,
    ):
        for path in ("/", "/broken", "/"):
            await user.get(path)
        at = httpx.URL(machine.url)
        there = {"FLY_PRIVATE_IP": at.host, "PORT": str(at.port)}
        told = await ask_tally(there, failed=1, within=30)
        assert (told["answered"], told["failed"], told["inside"]) == (3, 1, 0)
    with pytest.raises(UnsupportedError, match="does not answer"):
        await ask_tally({"PORT": "1"})
