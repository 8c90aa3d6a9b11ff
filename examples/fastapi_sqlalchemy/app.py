"""A small notes app that knows nothing of Viral Engine.

It reads DATABASE_URL, as any app does. Run it in five regions with ``viral up --app app:app``.
"""

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
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.requests import Request

log = logging.getLogger("notes")
url = os.environ.get("DATABASE_URL", "postgresql://localhost/postgres")
scheme, _, rest = url.partition("://")
engine = create_async_engine(f"postgresql+psycopg://{rest}", pool_pre_ping=True)


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
