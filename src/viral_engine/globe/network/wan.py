"""The ``wan`` network: one namespace a region, one for its users, and the hub between them."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

from pyroute2 import IPRoute

from viral_engine.errors import GlobeError
from viral_engine.globe.network import linux
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode, users
from viral_engine.globe.network.links import Link, Links

MAC = "02:56:45:00:00:01"
"""The MAC address of every far end: all the same, see the hub."""

MTU = 9000
"""Fewer, larger packets: the hub's cost is per packet."""

_LOG = logging.getLogger(__name__)

CONGESTION_CONTROL = ("cubic", "reno")
"""Linux's own, else the one that every host allows, so that a globe is the same on every host. BBR, which
some have set, sends no more than 4 packets at once for 0.2 s every 10 s, to measure the way anew."""

CONTROL_TIMEOUT = 10.0
_IFF_UP, _IFF_NOARP = 0x1, 0x80
_SCOPE_LINK = 253


@dataclass(slots=True)
class _Place:
    """A namespace, the thread that lives in it, and the hub's end of its cable."""

    name: str
    fd: int
    addresses: tuple[str, ...]
    worker: ThreadPoolExecutor


@dataclass(slots=True)
class Wan:
    """Namespaces joined by the hub, ready when entered; all of it vanishes on exit.

    Namespaces are held by descriptors only, and the hub ends when its control socket closes: when
    the owner is killed, nothing is left. Users reach the edges' ``public_port`` and nothing else:
    what is private on the platform is private here.
    """

    plan: AddressPlan
    public_port: int
    seed: int = 0
    mode: NetworkMode = NetworkMode.WAN
    _places: dict[str, _Place] = field(default_factory=dict)
    _control: socket.socket | None = None
    _hub: asyncio.subprocess.Process | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        try:
            self._make_places()
            await self._start_hub()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def watch(self) -> None:
        """Run until cancelled; raises GlobeError when the hub ends, since no packet moves then."""
        assert self._hub is not None
        code = await self._hub.wait()
        raise GlobeError(f"The network's hub ended with {code}: nothing reaches another region.")

    def namespace(self, place: str) -> int | None:
        """The descriptor of the network namespace of a region or of its users."""
        return self._places[place].fd

    def open_socket_in(self, place: str) -> Callable[[], Awaitable[socket.socket]]:
        """Makes TCP sockets that belong to a place, wherever they are used afterwards."""
        worker = self._places[place].worker

        async def open_socket() -> socket.socket:
            made = await asyncio.get_running_loop().run_in_executor(
                worker,
                socket.socket,
                socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,  # named, or asyncio leaves Nagle on: 40 ms an answer
            )
            made.setblocking(False)
            return made

        return open_socket

    async def add_address(self, place: str, address: str) -> None:
        """Let a place answer one more address; harmless when it does already."""
        await asyncio.get_running_loop().run_in_executor(
            self._places[place].worker, _add_address, address
        )

    async def apply(self, links: Links, anycast: Mapping[str, str]) -> None:
        """Put links and anycast routes in force; they hold when this returns."""
        rows = [_row(pair, link) for pair, link in links.items()]
        await self._ask({"links": rows})
        await self._ask({"anycast": dict(anycast)})

    async def stats(self) -> list[list[object]]:
        """Per pair that saw packets: from, to, forwarded, lost, and dropped by a cut."""
        answer = await self._ask({"stats": True})
        stats = answer["stats"]
        assert isinstance(stats, list)
        return stats

    def _make_places(self) -> None:
        for region in self.plan.regions:
            self._make_place(region, (self.plan.edge(region), self.plan.anycast))
            self._make_place(users(region), (self.plan.user(region),))

    def _make_place(self, name: str, addresses: tuple[str, ...]) -> None:
        fd = linux.new_network_namespace()
        self._stack.callback(os.close, fd)
        worker = ThreadPoolExecutor(1, f"in-{name}", linux.setns, (fd, linux.CLONE_NEWNET))
        self._stack.callback(worker.shutdown, wait=False)
        self._places[name] = _Place(name, fd, addresses, worker)

    async def _start_hub(self) -> None:
        hub = linux.new_network_namespace()
        self._stack.callback(os.close, hub)
        places = list(self._places.values())
        ports = linux.in_namespace(hub, lambda: [_plug(n, place) for n, place in enumerate(places)])
        for place in places:
            linux.in_namespace(place.fd, functools.partial(_far_end, place))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        ours.setblocking(False)
        self._stack.callback(ours.close)
        passed = [port.fileno() for port in ports]
        spec: dict[str, object] = {
            "places": [place.name for place in places],
            "ports": passed,
            "nets": [[_net(place), index] for index, place in enumerate(places)],
            "anycast": self.plan.anycast,
            "public": [self.plan.anycast, *map(self.plan.edge, self.plan.regions)],
            "public_port": self.public_port,
            "outside": [n for n, place in enumerate(places) if place.name.startswith("users:")],
            "control": theirs.fileno(),
            "seed": self.seed,
        }
        self._hub = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "viral_engine.globe.network.hub", json.dumps(spec),
            pass_fds=[*passed, theirs.fileno()], stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        self._stack.push_async_callback(self._stop_hub)
        for end in (*ports, theirs):
            end.close()

    async def _stop_hub(self) -> None:
        assert self._hub is not None
        assert self._control is not None
        self._control.close()
        try:
            await asyncio.wait_for(self._hub.wait(), CONTROL_TIMEOUT)
        except TimeoutError:
            self._hub.kill()
            await self._hub.wait()

    async def _ask(self, message: dict[str, object]) -> dict[str, object]:
        # A question that was sent is always answered: who gives up must not leave it to the next.
        return await asyncio.shield(self._exchange(message))

    async def _exchange(self, message: dict[str, object]) -> dict[str, object]:
        assert self._control is not None
        loop = asyncio.get_running_loop()
        async with self._lock, asyncio.timeout(CONTROL_TIMEOUT):
            await loop.sock_sendall(self._control, json.dumps(message).encode())
            answer = await loop.sock_recv(self._control, 1 << 20)
        if not answer:
            raise GlobeError("The network's hub has stopped.")
        decoded: dict[str, object] = json.loads(answer)
        if "error" in decoded:
            raise GlobeError(f"The network's hub refused: {decoded['error']}")
        return decoded


def _row(pair: tuple[str, str], link: Link) -> list[object]:
    return [*pair, link.delay_ms, link.jitter, link.loss, link.cut]


def _net(place: _Place) -> list[int]:
    return [int(part) for part in place.addresses[0].split(".")[:3]]


def _plug(number: int, place: _Place) -> socket.socket:
    """Inside the hub: make the cable to a place and open the near end for raw frames."""
    name = f"ve{number}"
    with IPRoute() as ip:
        peer = {"ifname": "wan0", "net_ns_fd": place.fd, "address": MAC}
        ip.link("add", ifname=name, kind="veth", peer=peer)
        index = ip.link_lookup(ifname=name)[0]
        ip.link("set", index=index, mtu=MTU, flags=_IFF_UP, change=_IFF_UP)
    return linux.packet_socket(name)


def _far_end(place: _Place) -> None:
    """Inside a place: bring up loopback and the cable, and send everything else down the cable."""
    with IPRoute() as ip:
        loopback = ip.link_lookup(ifname="lo")[0]
        ip.link("set", index=loopback, flags=_IFF_UP, change=_IFF_UP)
        wan = ip.link_lookup(ifname="wan0")[0]
        flags = _IFF_UP | _IFF_NOARP
        ip.link("set", index=wan, mtu=MTU, flags=flags, change=flags)
        for address in place.addresses:
            ip.addr("add", index=wan, address=address, prefixlen=32)
        ip.route("add", family=socket.AF_INET, dst="0.0.0.0/0", oif=wan, scope=_SCOPE_LINK,
                 prefsrc=place.addresses[0])  # fmt: skip
    linux.offloads_off("wan0")
    if (used := linux.congestion_control(*CONGESTION_CONTROL)) not in CONGESTION_CONTROL:
        _LOG.warning("%s: its connections use %s, which this host does not let us change",
                     place.name, used)  # fmt: skip


def _add_address(address: str) -> None:
    """Inside a place: give it one more address, as a region gets with each machine."""
    with IPRoute() as ip:
        wan = ip.link_lookup(ifname="wan0")[0]
        present = {item.get_attr("IFA_LOCAL") for item in ip.get_addr(index=wan)}
        if address not in present:
            ip.addr("add", index=wan, address=address, prefixlen=32)
