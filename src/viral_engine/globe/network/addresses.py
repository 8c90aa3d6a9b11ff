"""Who has which address: pure, and the same on every start of one data folder."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FIRST_MACHINE = 10
"""Host number of a region's first machine; lower numbers belong to the platform."""

LAST_MACHINE = 250


class NetworkMode(StrEnum):
    """How the regions are kept apart."""

    WAN = "wan"
    FLAT = "flat"


def users(region: str) -> str:
    """Name the place where the users of a region are: outside it, so that they outlive it."""
    return f"users:{region}"


@dataclass(frozen=True, slots=True)
class AddressPlan:
    """The addresses of a globe; ``regions`` are numbered by their order, from 1.

    ``wan`` uses 10.10.N.0/24 for region N, 10.11.N.2 for its users and one anycast address;
    namespaces hold the whole private space, so that globes never collide. ``flat`` uses
    127.``block``.N.0/24 of the loopback network, one block a globe.
    """

    mode: NetworkMode
    regions: tuple[str, ...]
    block: int = 0

    def _number(self, region: str) -> int:
        return self.regions.index(region) + 1

    def _net(self, region: str) -> str:
        if self.mode is NetworkMode.WAN:
            return f"10.10.{self._number(region)}"
        return f"127.{self.block}.{self._number(region)}"

    @property
    def anycast(self) -> str:
        """The one address that every edge answers."""
        return "10.12.0.1" if self.mode is NetworkMode.WAN else f"127.{self.block}.0.1"

    def edge(self, region: str) -> str:
        """The private address of a region's edge."""
        return f"{self._net(region)}.1"

    def machine(self, region: str, number: int) -> str:
        """The private address of machine ``number`` (from 0) of a region."""
        return f"{self._net(region)}.{FIRST_MACHINE + number}"

    def user(self, region: str) -> str:
        """The address that the users of a region come from."""
        if self.mode is NetworkMode.WAN:
            return f"10.11.{self._number(region)}.2"
        return f"127.{self.block}.{self._number(region)}.2"

    def owner(self, address: str) -> str | None:
        """The region that a private address belongs to; None for anything else."""
        net, _, _ = address.rpartition(".")
        return next((region for region in self.regions if self._net(region) == net), None)
