from __future__ import annotations

import logging
from collections.abc import Mapping

import psycopg
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from viral_engine.data.writes import first_line
from viral_engine.errors import DatabaseError
from viral_engine.web.problem import PROBLEM_TYPE, database_problem, problem_body

__all__ = ["RefusedError", "answer_with_problems"]

RETRY = {"retry-after": "1"}

_log = logging.getLogger("viral_engine")


class RefusedError(HTTPException):
    """A request that is refused for what is stored: answered with its own code and members."""

    def __init__(
        self,
        status: int,
        *,
        code: str,
        detail: str,
        extra: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.code = code
        self.extra = extra


def answer_with_problems(app: FastAPI) -> None:
    """Let every error of this app be answered as problem+json (RFC 9457)."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RefusedError, _refused)
    app.add_exception_handler(DatabaseError, _database)
    app.add_exception_handler(psycopg.errors.UndefinedTable, _not_migrated)
    app.add_exception_handler(psycopg.OperationalError, _rejected)
    app.add_exception_handler(Exception, _unexpected)


async def _invalid(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RequestValidationError):
        raise error
    faults = [
        {"where": ".".join(str(part) for part in fault["loc"]), "what": fault["msg"]}
        for fault in error.errors()
    ]
    detail = "; ".join(f"{fault['where']}: {fault['what']}" for fault in faults)
    return _problem(422, "invalid-request", detail, extra={"errors": faults})


async def _http(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    code = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "refused")
    return _problem(error.status_code, code, str(error.detail), headers=error.headers)


async def _refused(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, RefusedError):
        raise error
    status, detail = error.status_code, error.detail
    return _problem(status, error.code, detail, headers=error.headers, extra=error.extra)


async def _database(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, DatabaseError):
        raise error
    said = database_problem(error)
    return _problem(said.status, said.code, said.detail, headers=dict(said.headers))


async def _not_migrated(_request: Request, _error: Exception) -> JSONResponse:
    detail = "The database has no tables yet: its migrations have not run, or not arrived here."
    return _problem(503, "not-migrated", detail, headers=RETRY)


async def _rejected(_request: Request, error: Exception) -> JSONResponse:
    # Deadlocks, conflicts with recovery, cancelled statements: nothing was done, a retry may do it.
    if isinstance(error, psycopg.Error):
        _log.warning("given up by the database (%s): %s", error.sqlstate, first_line(error))
    detail = "The database gave this up in favour of other work; nothing was changed."
    return _problem(503, "database-conflict", detail, headers=RETRY)


async def _unexpected(_request: Request, _error: Exception) -> JSONResponse:
    return _problem(500, "unexpected", "An error that was not foreseen; the machine logged it.")


def _problem(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> JSONResponse:
    return JSONResponse(
        problem_body(status, code, detail, extra),
        status_code=status,
        headers=dict(headers or {}),
        media_type=PROBLEM_TYPE,
    )
