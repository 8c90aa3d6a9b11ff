from __future__ import annotations

import os
import threading
from queue import Full, Queue
from types import TracebackType
from typing import Self

__all__ = ["LogLines"]

LINES_WAITING = 10_000
LAST_WORDS_S = 2.0


class LogLines:
    """Writes lines to a descriptor in a thread of its own, so that nobody waits for who reads them.

    A machine whose log is not taken goes on: 10,000 lines wait, what comes beyond is dropped, and
    how much is said once there is room. Left, it waits at most 2 s for what is still to be written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._waiting: Queue[bytes | None] = Queue(LINES_WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write_all, name="log lines", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._waiting.put(None, timeout=LAST_WORDS_S)
        except Full:
            return  # nobody reads: the thread ends with its process
        self._thread.join(LAST_WORDS_S)

    def add(self, line: bytes) -> None:
        """Have a line written, without its end; drop it where too many wait."""
        try:
            if self._dropped:
                self._waiting.put_nowait(
                    b"viral | %d lines were not read and are lost" % self._dropped
                )
                self._dropped = 0
            self._waiting.put_nowait(line)
        except Full:
            self._dropped += 1

    def _write_all(self) -> None:
        while (line := self._waiting.get()) is not None:
            rest = line + b"\n"
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except OSError:
                continue  # nobody can read it any more; who runs us sees that we go on
