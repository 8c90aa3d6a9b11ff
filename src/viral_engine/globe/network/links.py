"""The links between places and what faults make of them: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import permutations

from viral_engine.errors import MisuseError
from viral_engine.globe.network.addresses import users
from viral_engine.topology.rtt import round_trip

JITTER = 0.02
"""Spread of a one-way delay as the sigma of a log-normal factor; Fly's own pairs vary more between
days than within a minute, so that a small value is the honest one for one run."""


@dataclass(frozen=True, slots=True)
class Link:
    """One direction between two places; delay in milliseconds, loss as a fraction of packets."""

    delay_ms: float
    jitter: float = JITTER
    loss: float = 0.0
    cut: bool = False


Links = Mapping[tuple[str, str], Link]


class FaultKind(StrEnum):
    """The faults that the network itself can show."""

    CUT = "cut"
    ONE_WAY = "one-way"
    BLACKOUT = "blackout"
    DELAY = "delay"
    LOSS = "loss"


@dataclass(frozen=True, slots=True)
class NetworkFault:
    """One fault; ``regions`` are one for a blackout, two for a pair, none for everywhere."""

    kind: FaultKind
    regions: tuple[str, ...] = ()
    amount: float = 0.0

    def check(self, known: tuple[str, ...]) -> NetworkFault:
        """Return itself; raises MisuseError when it makes no sense for the ``known`` regions."""
        wanted = {
            FaultKind.CUT: (2,),
            FaultKind.ONE_WAY: (2,),
            FaultKind.BLACKOUT: (1,),
            FaultKind.DELAY: (0, 2),
            FaultKind.LOSS: (0, 2),
        }[self.kind]
        if len(self.regions) not in wanted or len(set(self.regions)) != len(self.regions):
            count = " or ".join(str(n) for n in wanted)
            raise MisuseError(f"The fault {self.kind} takes {count} different regions.")
        for region in self.regions:
            if region not in known:
                raise MisuseError(
                    f"This globe has no region {region}.",
                    suggestion=f"It has: {', '.join(known)}.",
                )
        if self.kind is FaultKind.DELAY and not 0 < self.amount <= 100:
            raise MisuseError("A delay factor is above 0 and at most 100.")
        if self.kind is FaultKind.LOSS and not 0 < self.amount <= 1:
            raise MisuseError("Loss is a fraction of packets: above 0, at most 1.")
        return self


def healthy(regions: Iterable[str], *, rtt_factor: float) -> dict[tuple[str, str], Link]:
    """All links of a globe without faults; users reach every region, never each other."""
    names = tuple(regions)
    links: dict[tuple[str, str], Link] = {}
    for a, b in permutations(names, 2):
        links[a, b] = Link(delay_ms=_one_way(a, b, rtt_factor))
    for near in names:
        for far in names:
            link = Link(delay_ms=_one_way(near, far, rtt_factor))
            links[users(near), far] = links[far, users(near)] = link
    return links


def _one_way(a: str, b: str, rtt_factor: float) -> float:
    return round_trip(a, b).total_seconds() * 1000 / 2 * rtt_factor


def with_faults(links: Links, faults: Iterable[NetworkFault]) -> dict[tuple[str, str], Link]:
    """The links as they are while ``faults`` hold; later faults add to earlier ones."""
    result = dict(links)
    for fault in faults:
        result = {pair: _under(fault, pair, link) for pair, link in result.items()}
    return result


def _under(fault: NetworkFault, pair: tuple[str, str], link: Link) -> Link:
    match fault.kind:
        case FaultKind.CUT:
            return replace(link, cut=True) if set(pair) == set(fault.regions) else link
        case FaultKind.ONE_WAY:
            return replace(link, cut=True) if pair == fault.regions else link
        case FaultKind.BLACKOUT:
            return replace(link, cut=True) if fault.regions[0] in pair else link
        case FaultKind.DELAY:
            hit = not fault.regions or set(pair) == set(fault.regions)
            return replace(link, delay_ms=link.delay_ms * fault.amount) if hit else link
        case FaultKind.LOSS:
            hit = not fault.regions or set(pair) == set(fault.regions)
            return replace(link, loss=1 - (1 - link.loss) * (1 - fault.amount)) if hit else link


def anycast_routes(regions: tuple[str, ...], alive: frozenset[str]) -> dict[str, str]:
    """Where each region's users are led: the nearest edge that is alive; absent if none is."""
    routes: dict[str, str] = {}
    for region in regions:
        nearest = sorted(alive, key=lambda edge: (round_trip(region, edge), edge))
        if nearest:
            routes[users(region)] = nearest[0]
    return routes
