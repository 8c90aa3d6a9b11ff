"""The notes app of ``app.py``, served near its users: ``viral up --app app_viral:served``."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy import String, select
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.requests import Request

from viral_engine.web import Runtime

log = logging.getLogger("notes")
runtime = Runtime.from_environ(os.environ)
engine = runtime.engine()


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(500))


class NewNote(BaseModel):
    text: str = Field(min_length=1, max_length=500)


async def create_tables() -> None:
    """Create the tables, waiting for as long as the database takes to be there."""
    while True:
        try:
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
        except (OperationalError, IntegrityError, ProgrammingError) as error:
            # Not there yet, or another machine is creating the same table right now.
            log.warning("the database is not ready: %s", error.orig)
            await asyncio.sleep(1)
        else:
            return


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    creating = asyncio.create_task(create_tables())
    yield
    creating.cancel()
    await engine.dispose()


async def session() -> AsyncIterator[AsyncSession]:
    async with AsyncSession(engine, expire_on_commit=False) as opened:
        yield opened


Session = Annotated[AsyncSession, Depends(session)]

app = FastAPI(title="Notes", lifespan=lifespan)


@app.get("/")
async def hello() -> dict[str, str]:
    return {"app": "notes", "try": "/notes"}


@app.post("/notes", status_code=201)
async def add_note(new: NewNote, session: Session) -> dict[str, int | str]:
    note = Note(text=new.text)
    session.add(note)
    await session.commit()
    return {"id": note.id, "text": note.text}


@app.get("/notes")
async def list_notes(session: Session) -> list[dict[str, int | str]]:
    notes = await session.scalars(select(Note).order_by(Note.id.desc()).limit(50))
    return [{"id": note.id, "text": note.text} for note in notes]


@app.exception_handler(OperationalError)
async def database_is_away(_request: Request, _error: Exception) -> JSONResponse:
    answer = {"detail": "the database is away"}
    return JSONResponse(answer, status_code=503, headers={"retry-after": "1"})


served = runtime.wrap(app)
