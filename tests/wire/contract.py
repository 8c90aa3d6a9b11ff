"""What the Machines API is documented to ask for and to answer, as JSON Schemas, and who holds to it.

The types stand in machines_api.toml, in a short notation that its first lines explain.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft202012Validator, TypeChecker
from jsonschema.validators import extend

PREFIX = "/v1"
OURS = f"{PREFIX}/globe/"
"""Calls that Fly.io has not; nothing documents them but ourselves."""

_DATA = tomllib.loads((Path(__file__).parent / "machines_api.toml").read_text("utf-8"))
_PLAIN = {
    "string": "text",
    "integer": 3,
    "number": 0.5,
    "boolean": True,
    "object": {},
    "null": None,
}
"""The types that need no name, each with an example."""


def _is_whole(_: TypeChecker, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_Validator = extend(  # type: ignore[no-untyped-call]  # its types leave it out
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole),
)
"""JSON Schema takes 1.0 for an integer; whoever reads the wire with Go's types refuses it."""


class WireError(AssertionError):
    """Something was sent that the documentation has not."""


def _schema(text: str) -> dict[str, Any]:
    """The schema of a type as it is written in the file."""
    text = text.strip()
    whole = re.fullmatch(r"\[(.*)\]", text)
    if whole:
        return {"type": "array", "items": _schema(whole[1])}
    if whole := re.fullmatch(r"\{(.*)\}", text):
        return {"type": "object", "additionalProperties": _schema(whole[1])}
    if "|" in text:
        return {"anyOf": [_schema(part) for part in text.split("|")]}
    if whole := re.fullmatch(r"'(.*)'", text):
        return {"const": whole[1]}
    return {"type": text} if text in _PLAIN else {"$ref": f"#/$defs/{text}"}


def _members(name: str) -> tuple[dict[str, str], list[str]]:
    """The members of a type and those that must be there, with what it takes over."""
    own = dict(_DATA["types"][name])
    taken, required = _members(own.pop("_like")) if "_like" in own else ({}, [])
    return taken | {k: v for k, v in own.items() if k != "_required"}, [
        *required, *own.get("_required", ()),
    ]  # fmt: skip


def _type(name: str) -> dict[str, Any]:
    if "_is" in _DATA["types"][name]:
        return _schema(_DATA["types"][name]["_is"])
    members, required = _members(name)
    return {"type": "object", "required": required, "additionalProperties": False,
            "properties": {key: _schema(text) for key, text in members.items()}}  # fmt: skip


@cache
def definitions() -> dict[str, dict[str, Any]]:
    """Every documented type as a JSON Schema, by its name."""
    texts = {n: {"type": "string", **said} for n, said in _DATA["texts"].items()}
    return texts | {name: _type(name) for name in _DATA["types"]}


@cache
def _validator(type_: str) -> Any:
    return _Validator({**_schema(type_), "$defs": definitions()})


def faults(type_: str, value: Any) -> list[str]:
    """What in a value is not of a type: where, and what is wrong."""
    found = _validator(type_).iter_errors(value)
    return [f"{fault.json_path}: {fault.message}" for fault in found]


@dataclass(frozen=True, slots=True)
class Call:
    """A documented call: the type that it asks for, "" for none, and those of its answers."""

    name: str
    asks: str
    answers: Mapping[int, str]


@cache
def calls() -> tuple[Call, ...]:
    """Every documented call that the globe serves."""
    return tuple(
        Call(name, said.get("asks", ""), {int(k): v for k, v in said.items() if k != "asks"})
        for name, said in _DATA["calls"].items()
    )


def call_of(request: httpx.Request) -> Call | None:
    """The documented call that a request makes; None for a path that nobody documents."""
    summary = "?summary" if request.url.params.get("summary") == "true" else ""
    for name in (f"{request.url.path}{summary}", request.url.path):
        asked = f"{request.method} {name.removeprefix(PREFIX)}"
        for call in calls():
            if re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(call.name)), asked):
                return call
    return None


def wrong_in_request(request: httpx.Request) -> list[str]:
    """What in a request is not as documented."""
    call = call_of(request)
    if call is None:
        return ["nobody documents this call"]
    if not request.content:
        return []
    if not call.asks:
        return ["this call has no body"]
    return faults(call.asks, json.loads(request.content))


def wrong_in_answer(request: httpx.Request, status: int, body: bytes) -> list[str]:
    """What in an answer is not as documented; a refusal is always an Error."""
    call = call_of(request)
    if status >= 400:
        type_: str | None = "Error"
    elif call is None:
        return ["nobody documents this call"]
    else:
        type_ = call.answers.get(status)
    if type_ is None:
        return [f"status {status} is not documented for {call and call.name}"]
    if not type_:
        return [f"a body where none is documented: {body[:80]!r}"] if body else []
    try:
        value = json.loads(body)
    except ValueError:
        return [f"not JSON: {body[:80]!r}"]
    return faults(type_, value)


class Checked(httpx.AsyncBaseTransport):
    """A transport that raises WireError for an answer that is not as documented, ours aside.

    With ``requests`` those are held to it too: for callers who mean what they ask.
    """

    def __init__(self, inner: httpx.AsyncBaseTransport, *, requests: bool = False) -> None:
        self._inner = inner
        self._requests = requests

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith(OURS):
            return await self._inner.handle_async_request(request)
        if self._requests and (found := wrong_in_request(request)):
            raise WireError(f"{request.method} {request.url.path} asks: " + "; ".join(found))
        answer = await self._inner.handle_async_request(request)
        body = await answer.aread()
        await answer.aclose()
        if found := wrong_in_answer(request, answer.status_code, body):
            raise WireError(f"{request.method} {request.url.path}: " + "; ".join(found))
        return httpx.Response(
            answer.status_code, headers=answer.headers, content=body, extensions=answer.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


def examples() -> Iterator[tuple[str, Any]]:
    """An example of every documented type that is an object: each member once, as far as it goes."""
    for name in _DATA["types"]:
        yield name, example(name)


def example(text: str) -> Any:
    """A value of a type: of alternatives the first, of objects every member."""
    return _instance(_schema(text))


def _instance(schema: Mapping[str, Any]) -> Any:
    """A value of a schema."""
    match schema:
        case {"$ref": str(ref)}:
            return _instance(definitions()[ref.rpartition("/")[2]])
        case {"anyOf": [first, *_]}:
            return _instance(first)
        case {"const": value} | {"examples": [value, *_]}:
            return value
        case {"type": "array", "items": items}:
            return [_instance(items)]
        case {"type": "object", "additionalProperties": each}:
            members = schema.get("properties", {"name": each})
            return {key: _instance(member) for key, member in members.items()}
        case _:
            return _PLAIN[str(schema["type"])]
