"""The wide area network: forwards packets between namespaces with delay, jitter, loss, or not.

A program of its own (``python -m viral_engine.globe.network.hub``), so that its timing does not
share an interpreter with anything. It is handed one AF_PACKET socket a place, opened by its parent
on the hub's end of that place's veth pair, and a control socket with one JSON message a datagram.

All far ends carry the same MAC address and do no ARP, so that a frame is forwarded as it is: only
the IPv4 destination is read. Order within a pair is kept, as on a real path.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

BATCH = 64
"""Frames read from one socket before the clock is looked at again."""

_ETHERTYPE = slice(12, 14)
_IPV4 = b"\x08\x00"
_IP_HEADER, _PROTOCOL = 14, 23
_DESTINATION = slice(30, 34)
_ICMP, _TCP = 1, 6


@dataclass(slots=True)
class Direction:
    """One direction of one pair; ``free_at`` keeps the order of its packets."""

    delay_s: float = 0.0
    jitter: float = 0.0
    loss: float = 0.0
    cut: bool = True
    free_at: float = 0.0
    forwarded: int = 0
    lost: int = 0
    dropped: int = 0

    def due(self, now: float, chance: random.Random) -> float | None:
        """When a packet that is sent now arrives; None when it never does."""
        if self.cut:
            self.dropped += 1
            return None
        if self.loss and chance.random() < self.loss:
            self.lost += 1
            return None
        delay = self.delay_s
        if self.jitter:
            delay *= chance.lognormvariate(0, self.jitter)
        self.free_at = max(now + delay, self.free_at)
        self.forwarded += 1
        return self.free_at


@dataclass(slots=True)
class Hub:
    """Which place an address belongs to, and the packets that are under way."""

    places: list[str]
    ports: list[socket.socket]
    nets: dict[bytes, int]
    anycast: bytes
    chance: random.Random
    public: frozenset[bytes] = frozenset()
    public_port: bytes = b""
    outside: frozenset[int] = frozenset()
    directions: list[list[Direction]] = field(default_factory=list)
    anycast_to: dict[int, int] = field(default_factory=dict)
    under_way: list[tuple[float, int, int, bytes]] = field(default_factory=list)
    serial: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.directions = [[Direction() for _ in self.places] for _ in self.places]

    def accept(self, origin: int, frame: bytes, now: float) -> None:
        """Take one frame from a place and schedule its arrival, or drop it."""
        if frame[_ETHERTYPE] != _IPV4:
            return
        address = frame[_DESTINATION]
        if address == self.anycast:
            target = self.anycast_to.get(origin)
        else:
            target = self.nets.get(address[:3])
        if target is None or target == origin:
            return
        if origin in self.outside and not self._is_public(frame):
            self.directions[origin][target].dropped += 1
            return
        due = self.directions[origin][target].due(now, self.chance)
        if due is not None:
            heapq.heappush(self.under_way, (due, next(self.serial), target, frame))

    def _is_public(self, frame: bytes) -> bool:
        """Whether users may send it: to an edge's port for users, or a ping of an edge."""
        if frame[_DESTINATION] not in self.public:
            return False
        if frame[_PROTOCOL] != _TCP:
            return frame[_PROTOCOL] == _ICMP
        transport = _IP_HEADER + (frame[_IP_HEADER] & 0x0F) * 4
        return frame[transport + 2 : transport + 4] == self.public_port

    def deliver(self, now: float) -> None:
        """Hand over every packet that is due; a full receiver drops it, as a real link would."""
        while self.under_way and self.under_way[0][0] <= now:
            _, _, target, frame = heapq.heappop(self.under_way)
            with contextlib.suppress(BlockingIOError, OSError):
                self.ports[target].send(frame)

    def patience(self, now: float) -> float | None:
        """Seconds until the next packet is due; None when nothing is under way."""
        return max(0.0, self.under_way[0][0] - now) if self.under_way else None

    def obey(self, message: dict[str, object]) -> dict[str, object]:
        """Carry out one control message and return the answer."""
        number = {place: index for index, place in enumerate(self.places)}
        match message:
            case {"links": list(links)}:
                for a, b, delay_ms, jitter, loss, cut in links:
                    direction = self.directions[number[a]][number[b]]
                    direction.delay_s, direction.jitter = delay_ms / 1000, jitter
                    direction.loss, direction.cut = loss, cut
            case {"anycast": dict(routes)}:
                self.anycast_to = {number[a]: number[b] for a, b in routes.items()}
            case {"stats": _}:
                return {"stats": self._stats()}
            case _:
                return {"error": f"unknown message {sorted(message)}"}
        return {"ok": True}

    def _stats(self) -> list[list[object]]:
        rows: list[list[object]] = []
        for a, origin in enumerate(self.places):
            for b, target in enumerate(self.places):
                seen = self.directions[a][b]
                if seen.forwarded or seen.lost or seen.dropped:
                    rows.append([origin, target, seen.forwarded, seen.lost, seen.dropped])
        return rows


def run(hub: Hub, control: socket.socket) -> None:
    """Forward until the parent closes the control socket."""
    by_socket = {port: index for index, port in enumerate(hub.ports)}
    readers = [*hub.ports, control]
    while True:
        readable, _, _ = select.select(readers, [], [], hub.patience(time.monotonic()))
        for ready in readable:
            if ready is control:
                message = control.recv(1 << 20)
                if not message:
                    return
                control.send(json.dumps(hub.obey(json.loads(message))).encode())
                continue
            origin = by_socket[ready]
            now = time.monotonic()
            for _ in range(BATCH):
                try:
                    frame = ready.recv(65536)
                except BlockingIOError:
                    break
                except OSError:
                    break
                hub.accept(origin, frame, now)
        hub.deliver(time.monotonic())


def main() -> None:
    """Read the start-up description from the command line and forward packets."""
    spec = json.loads(sys.argv[1])
    ports = [socket.socket(fileno=fd) for fd in spec["ports"]]
    for port in ports:
        port.setblocking(False)
    control = socket.socket(fileno=spec["control"])
    hub = Hub(
        places=spec["places"],
        ports=ports,
        nets={bytes(net): index for net, index in spec["nets"]},
        anycast=socket.inet_aton(spec["anycast"]),
        public=frozenset(map(socket.inet_aton, spec["public"])),
        public_port=int(spec["public_port"]).to_bytes(2, "big"),
        outside=frozenset(spec["outside"]),
        chance=random.Random(spec["seed"]),  # noqa: S311 - a reproducible WAN, not a secret
    )
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)
    with contextlib.suppress(KeyboardInterrupt):
        run(hub, control)


if __name__ == "__main__":
    main()
