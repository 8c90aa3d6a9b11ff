"""The example's app after adoption: writes at the primary, reads near, and none of them stale."""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
from tests.services.app_process import app_machine
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import NotYet, wait_until

FOLDER = Path(__file__).parents[2] / "examples" / "fastapi_sqlalchemy"
SOON = timedelta(seconds=20)


@asynccontextmanager
async def _both_regions(
    pair: PostgresPair, database: str, logs: Path
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    settings = {
        "VIRAL_APP": "app_viral:served",
        "VIRAL_APP_DIR": str(FOLDER),
        "VIRAL_SECRET": "shared",
        "DATABASE_URL": pair.primary.url(database),
        "READ_REPLICA_IAD_URL": pair.primary.url(database),
        "READ_REPLICA_LHR_URL": pair.replica.url(database),
    }
    async with AsyncExitStack() as stack:
        users = []
        for region in ("iad", "lhr"):
            machine = await stack.enter_async_context(
                app_machine({**settings, "FLY_REGION": region}, log=logs / region, ready_path="/")
            )
            client = httpx.AsyncClient(base_url=machine.url, timeout=30)
            users.append(await stack.enter_async_context(client))
        for region, user in zip(("iad", "lhr"), users, strict=True):

            async def serves(region: str = region, user: httpx.AsyncClient = user) -> bool | NotYet:
                said = await user.get("/notes")
                route = said.headers["viral-route"]
                is_near = route.startswith("local;")
                return (said.status_code == 200 and is_near) or NotYet(f"{region}: {said} {route}")

            await wait_until(serves, timeout=SOON, waiting_for="both regions to serve notes")
        yield users[0], users[1]


async def test_a_write_is_led_to_the_primary_and_read_back_near_and_never_stale(
    postgres_pair: PostgresPair, database: str, tmp_path: Path
) -> None:
    async with _both_regions(postgres_pair, database, tmp_path) as (iad, lhr):
        note = {"text": "hi"}
        led = await lhr.post("/notes", json=note)
        assert led.status_code == 409
        assert led.headers["fly-replay"].startswith("region=iad;")
        async with postgres_pair.replay_paused():
            created = await iad.post("/notes", json=note)
            assert created.status_code == 201, created.text
            assert created.headers["viral-region"] == "iad"
            token = {"viral-session": created.headers["viral-session"]}
            own = await lhr.get("/notes", headers=token)
            assert own.json() == [created.json()]
            assert own.headers["viral-route"] == "primary; reason=replica-behind"
            without = await lhr.get("/notes")
            assert without.json() == []
            assert without.headers["viral-route"] == "local; reason=replica"
        await postgres_pair.wait_until_replayed()
        token = {"viral-session": own.headers["viral-session"]}
        near = await lhr.get("/notes", headers=token)
        assert near.json() == [created.json()]
        assert near.headers["viral-route"].startswith(("local; reason=replica", "wait;"))
        assert near.headers["viral-region"] == "lhr"


def test_adoption_changes_less_than_twenty_lines_of_the_app() -> None:
    before, after = (
        (FOLDER / name).read_text("utf-8").splitlines() for name in ("app.py", "app_viral.py")
    )
    changed = [
        line
        for line in difflib.unified_diff(before, after, n=0, lineterm="")
        if line.startswith(("+", "-")) and not line.startswith(("+++", "---"))
    ]
    assert 0 < len(changed) < 20, "\n".join(changed)
