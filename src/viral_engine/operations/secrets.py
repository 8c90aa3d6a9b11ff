"""The secrets of one deployment: made once, kept with its data, never shown."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the parts of a deployment sign in and sign with."""

    superuser_password: str = field(repr=False)
    replication_password: str = field(repr=False)
    app_password: str = field(repr=False)
    cache_password: str = field(repr=False)
    signing_key: str = field(repr=False)

    @classmethod
    def make(cls) -> Self:
        """New secrets of 192 random bits each; safe in URLs."""
        return cls(*(secrets.token_urlsafe(24) for _ in fields(cls)))

    @classmethod
    def kept_in(cls, path: Path) -> Self:
        """The secrets of a file, made and kept there (readable by its owner only) at first."""
        if path.exists():
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        made = cls.make()
        draft = path.with_suffix(".new")  # a crash in between must not leave half of them
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(made)), encoding="utf-8")
        draft.replace(path)
        return made
