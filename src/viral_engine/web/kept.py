from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from viral_engine.data import FirstAnswer, RequestKey
from viral_engine.web.asgi import Message, Send

__all__ = ["KeptAnswer", "send_first_answer"]

LONGEST_ANSWER = 1024 * 1024

_LATER = frozenset({408, 425, 429})
_REPLAYED = (b"idempotency-replayed", b"true")


@dataclass
class KeptAnswer:
    """An answer that is held back until what it says is committed; at most 1 MiB of body."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False
    is_cut: bool = False

    async def send(self, message: Message) -> None:
        """Take one message of the answer; what is longer than the limit is cut, and never whole."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = list(message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            if len(self.body) > LONGEST_ANSWER:
                # What was cut stays cut, although its last message may be short enough.
                self.is_cut = True
                del self.body[LONGEST_ANSWER:]
            self.is_whole = not (message.get("more_body", False) or self.is_cut)

    @property
    def is_worth_keeping(self) -> bool:
        """Whether a repetition should get it: what says "later" should be tried again instead."""
        return self.is_whole and 0 < self.status < 500 and self.status not in _LATER

    def as_first(self, key: RequestKey) -> FirstAnswer:
        """Return it as what is stored."""
        return FirstAnswer(self.status, _text(self.headers), bytes(self.body), key.fingerprint)

    async def send_to(self, send: Send) -> None:
        """Give the answer out."""
        await _send(send, self.status, self.headers, bytes(self.body))


async def send_first_answer(first: FirstAnswer, send: Send) -> None:
    """Give the first answer once more, marked as a repetition."""
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in first.headers]
    await _send(send, first.status, [*headers, _REPLAYED], first.body)


async def _send(
    send: Send, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def _text(headers: Sequence[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
