"""The secrets of one deployment: made once, kept with its data, never shown."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import ClassVar, Self


@dataclass(frozen=True, slots=True)
class Secrets:
    """What the parts of a deployment sign in and sign with."""

    superuser_password: str = field(repr=False)
    replication_password: str = field(repr=False)
    app_password: str = field(repr=False)
    cache_password: str = field(repr=False)
    signing_key: str = field(repr=False)

    NAMES: ClassVar[Mapping[str, str]] = {
        "VIRAL_SUPERUSER_PASSWORD": "superuser_password",
        "VIRAL_REPLICATION_PASSWORD": "replication_password",
        "VIRAL_APP_PASSWORD": "app_password",
        "VIRAL_CACHE_PASSWORD": "cache_password",
        "VIRAL_SECRET": "signing_key",
    }
    """What each is called among the secrets of the platform."""

    @classmethod
    def taken_from(cls, kept: Mapping[str, str]) -> Self:
        """The secrets that are kept under these names, and new ones for those that are not."""
        had = {field: kept[name] for name, field in cls.NAMES.items() if kept.get(name)}
        return replace(cls.make(), **had)

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
