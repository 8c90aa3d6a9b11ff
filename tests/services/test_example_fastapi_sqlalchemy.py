"""Somebody else's app runs on an app machine as it is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import httpx
from tests.services.app_process import app_machine
from tests.services.postgres_pair import PostgresPair

from viral_engine.clock import wait_until

FOLDER = Path(__file__).parents[2] / "examples" / "fastapi_sqlalchemy"


async def test_the_notes_app_writes_and_reads_through_the_database_it_was_given(
    postgres_pair: PostgresPair, database: str, tmp_path: Path
) -> None:
    settings = {
        "VIRAL_APP": "app:app",
        "VIRAL_APP_DIR": str(FOLDER),
        "DATABASE_URL": postgres_pair.primary.url(database),
    }
    async with (
        app_machine(settings, log=tmp_path / "log", ready_path="/") as machine,
        httpx.AsyncClient(base_url=machine.url, timeout=30) as user,
    ):

        async def has_its_table() -> bool:
            return (await user.get("/notes")).status_code == 200

        await wait_until(
            has_its_table, timeout=timedelta(seconds=20), waiting_for="the notes table"
        )
        created = await user.post("/notes", json={"text": "hi"})
        assert created.status_code == 201
        assert (await user.get("/notes")).json() == [created.json()]
