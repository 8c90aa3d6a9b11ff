from __future__ import annotations

from pathlib import Path

from viral_engine.cluster.primacy import VALID_S, deadline_of, is_expired

__all__ = ["PrimacyDeadline"]


class PrimacyDeadline:
    """Until when this node may acknowledge: kept in a file that its database reads.

    It follows from the attempts that were sent and of which it is known that they were written.
    ``draft`` must lie on the same file system as ``path``.
    """

    def __init__(self, path: Path, *, draft: Path) -> None:
        self._path = path
        self._draft = draft
        self._sent: dict[int, float] = {}
        self._at: float | None = None
        self.withdraw()

    @property
    def at(self) -> float | None:
        """The deadline by the boot clock, also once it has passed; None after a withdrawal."""
        return self._at

    def is_ahead(self, now: float) -> bool:
        """Tell whether this node may acknowledge."""
        return self._at is not None and not is_expired(self._at, now)

    def sends(self, attempt: int, now: float) -> None:
        """Note that an attempt leaves: should it be written, it counts from here."""
        self._sent[attempt] = now

    def was_written(self, attempt: int, now: float) -> bool:
        """Extend the deadline by an attempt that is in the store; tell whether that changed it.

        One that was sent before the last withdrawal, or too long ago, changes nothing. Raises
        OSError where the file cannot be written; the deadline is then what it was.
        """
        sent = self._sent.get(attempt)
        self._sent = {one: at for one, at in self._sent.items() if at > now - 2 * VALID_S}
        if sent is None or is_expired(deadline_of(sent), now):
            return False
        if self._at is not None and deadline_of(sent) <= self._at:
            return False
        self._draft.unlink(missing_ok=True)
        self._draft.touch(mode=0o600)
        self._draft.write_text(f"{deadline_of(sent):.2f}\n", encoding="ascii")
        self._draft.replace(self._path)
        self._at = deadline_of(sent)
        return True

    def withdraw(self) -> None:
        """Acknowledge nothing from now on, whatever is answered to what was sent before."""
        self._sent.clear()
        self._at = None
        self._path.unlink(missing_ok=True)
