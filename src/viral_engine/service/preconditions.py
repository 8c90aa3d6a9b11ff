from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Depends, Header, HTTPException, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel

from viral_engine.data.versions import (
    Judgement,
    TagList,
    is_unchanged,
    parse_tags,
    version_tag,
)
from viral_engine.service.changes import Conflicting, Versioned
from viral_engine.service.problems import RefusedError

__all__ = ["IfMatch", "IfNoneMatch", "answered", "unless_unchanged"]

R = TypeVar("R", bound=Versioned)


def _if_match(
    if_match: Annotated[
        list[str] | None, Header(description='Change only this version: `"7"`, a list, or `*`')
    ] = None,
) -> TagList | None:
    return _tags("if-match", if_match)


def _if_none_match(
    if_none_match: Annotated[
        list[str] | None, Header(description="Answer 304 where this version is still the current")
    ] = None,
) -> TagList | None:
    return _tags("if-none-match", if_none_match)


IfMatch = Annotated[TagList | None, Depends(_if_match)]
IfNoneMatch = Annotated[TagList | None, Depends(_if_none_match)]


def answered(
    outcome: R | Conflicting[R] | None, response: Response, *, shape: type[BaseModel], missing: str
) -> R:
    """Return the row and set its ``etag``; a missing row is a 404, a conflict a 409 or 412.

    A conflict's problem holds the row as it is under ``current``, and its ``etag``.
    """
    if outcome is None:
        raise HTTPException(404, missing)
    if isinstance(outcome, Conflicting):
        raise _refused(outcome, shape)
    response.headers["etag"] = version_tag(outcome.version)
    return outcome


def unless_unchanged(row: R, if_none_match: TagList | None) -> R | Response:
    """Return the row, or a 304 to a reader who has this version already."""
    if if_none_match is not None and is_unchanged(if_none_match, row.version):
        return Response(status_code=304, headers={"etag": version_tag(row.version)})
    return row


def _refused(conflict: Conflicting[R], shape: type[BaseModel]) -> RefusedError:
    current = shape.model_validate(conflict.current).model_dump(mode="json")
    headers = {"etag": version_tag(conflict.current.version)}
    at = f"it is at version {conflict.current.version}"
    if conflict.judgement is Judgement.PRECONDITION_FAILED:
        return RefusedError(
            412,
            code="precondition-failed",
            detail=f"Nothing was changed: no tag of If-Match is this row's, {at}.",
            extra={"current": current},
            headers=headers,
        )
    return RefusedError(
        409,
        code="version-conflict",
        detail=f"Nothing was changed: the change is based on another version of this row, {at}.",
        extra={"current": current},
        headers=headers,
    )


def _tags(name: str, values: list[str] | None) -> TagList | None:
    if values is None:
        return None
    try:
        return parse_tags(",".join(values))
    except ValueError as error:
        fault = {"loc": ("header", name), "msg": str(error), "type": "entity-tags"}
        raise RequestValidationError([fault]) from error
