"""The ``flat`` network: every region on this machine's loopback, without delays or cuts."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from viral_engine.errors import NetworkUnavailableError
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.network.links import Links

BLOCKS = range(64, 255)
"""Second bytes of 127.x that globes choose from; lower ones are left to others."""

CLAIM_PORT = 4279
"""A block is claimed by binding this port on its first address for as long as the globe runs."""


@dataclass(slots=True)
class Flat:
    """A block of loopback addresses that no other globe uses, ready when entered.

    A plan that names a block keeps it: what is stored in a data folder remembers its addresses.
    """

    plan: AddressPlan
    chance: random.Random = field(default_factory=random.SystemRandom)
    mode: NetworkMode = NetworkMode.FLAT
    _stack: ExitStack = field(default_factory=ExitStack)

    async def __aenter__(self) -> Self:
        kept = self.plan.block
        for block in (kept,) if kept else self.chance.sample(BLOCKS, len(BLOCKS)):
            claim = self._claim(f"127.{block}.0.254")
            if claim is not None:
                self._stack.enter_context(claim)
                self.plan = AddressPlan(NetworkMode.FLAT, self.plan.regions, block)
                return self
        if kept:
            raise NetworkUnavailableError(
                f"The addresses 127.{kept}.x of this data folder are in use by another globe.",
                suggestion="Stop that one, or use another data folder.",
            )
        raise NetworkUnavailableError(
            "The flat network needs addresses of 127.0.0.0/8, and none can be used here.",
            suggestion="On macOS add them first: sudo ifconfig lo0 alias 127.64.1.1 up (and so on).",
        )

    async def __aexit__(self, *_: object) -> None:
        self._stack.close()

    def _claim(self, address: str) -> socket.socket | None:
        claim = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            claim.bind((address, CLAIM_PORT))
            claim.listen()
        except OSError:
            claim.close()
            return None
        return claim

    async def watch(self) -> None:
        """Run until cancelled: loopback does not end."""
        await asyncio.Event().wait()

    def namespace(self, place: str) -> int | None:  # noqa: ARG002 - the shape of a network
        """Everything shares the machine's own network."""
        return None

    def open_socket_in(self, place: str) -> Callable[[], Awaitable[socket.socket]]:  # noqa: ARG002
        """Makes TCP sockets; every place is this machine."""

        async def open_socket() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
            made.setblocking(False)
            return made

        return open_socket

    async def add_address(self, place: str, address: str) -> None:
        """Nothing to do: loopback answers all of its addresses."""

    async def apply(self, links: Links, anycast: Mapping[str, str]) -> None:
        """Nothing to do: loopback has no links; the doors follow the anycast routes themselves."""

    async def stats(self) -> list[list[object]]:
        """Nothing is counted here."""
        return []
