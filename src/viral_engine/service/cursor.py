from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

__all__ = ["Cursor"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page: the next page holds what was created after it."""

    created_at: datetime
    id: UUID

    def encode(self) -> str:
        """Return the cursor as clients carry it: opaque, and safe in a query string."""
        text = f"{self.created_at.astimezone(UTC).isoformat()}|{self.id}"
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read what ``encode`` wrote; raise ValueError for anything else."""
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            moment, _, row_id = (
                base64.b64decode(padded, altchars=b"-_", validate=True).decode().partition("|")
            )
            created_at = datetime.fromisoformat(moment)
            cursor = cls(created_at, UUID(row_id))
        except (ValueError, binascii.Error) as error:
            msg = "this is not a cursor of a page that was answered here"
            raise ValueError(msg) from error
        if created_at.tzinfo is None:
            msg = "this cursor has no time zone"
            raise ValueError(msg)
        return cursor
