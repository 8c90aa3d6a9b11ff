from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType

__all__ = ["read_statements"]

_NAME = re.compile(r"^-- name: *([a-z][a-z0-9_]*) *$", re.MULTILINE)


def read_statements(package: str, path: str) -> Mapping[str, bytes]:
    """Return the statements of a packaged ``.sql`` file by the name in ``-- name: get_task`` lines.

    Bytes, because psycopg takes these as a literal query. Raises ValueError for a file without
    names, an empty statement, or a name given twice.
    """
    head, *blocks = _NAME.split(files(package).joinpath(path).read_text(encoding="utf-8"))
    statements: dict[str, bytes] = {}
    for name, text in zip(blocks[::2], blocks[1::2], strict=True):
        if name in statements or not text.strip():
            msg = f"{path}: statement {name!r} is {'empty' if not text.strip() else 'named twice'}"
            raise ValueError(msg)
        statements[name] = text.strip().removesuffix(";").encode()
    if not statements or any(line and not line.startswith("--") for line in head.splitlines()):
        msg = f"{path}: every statement needs a line '-- name: ...' before it"
        raise ValueError(msg)
    return MappingProxyType(statements)
