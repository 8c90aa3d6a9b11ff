from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from viral_engine.cluster import ClusterView
from viral_engine.errors import MisuseError
from viral_engine.topology.model import Sticky

__all__ = ["HOME", "STICKY", "Home", "Homes", "SentHome", "home_elsewhere", "sticky_of"]

HOME = b"viral-home"
STICKY = "sticky"

_FORM = re.compile(r"([a-z]{3})(?:\.([A-Za-z0-9_-]{1,64}))?")


@dataclass(frozen=True, slots=True)
class Home:
    """Where a session was served last: a region, and a machine of it where that counts."""

    region: str
    machine: str | None = None

    @classmethod
    def parse(cls, text: str) -> Home | None:
        """Return the home that ``text`` names, None where it names none."""
        match = _FORM.fullmatch(text)
        return cls(match[1], match[2]) if match else None

    def __str__(self) -> str:
        return self.region if self.machine is None else f"{self.region}.{self.machine}"


@dataclass(frozen=True, slots=True)
class SentHome:
    """What a request says of its session's home; a client that says it by header needs no cookie."""

    home: Home | None = None
    by_header: bool = False


_UNSAID = SentHome()


def home_elsewhere(home: Home | None, *, here: Home, view: ClusterView) -> Home | None:
    """Return the place that a session is handed to, None where it is served ``here``.

    Nobody vouches for ``home``: a region that is none of this cluster's counts as none, and one whose
    database does not answer is gone. It names a machine only where ``here`` does.
    """
    node = None if home is None else view.node(home.region)
    if home is None or node is None or not (node.reachable or home.region == here.region):
        return None
    if here.machine is None or home.machine is None:
        return None if home.region == here.region else Home(home.region)
    return None if home == here else home


class Homes:
    """Keeps a session where it was served last: ``viral-home``, header and cookie.

    Only a request that no proxy has handed on yet is handed over, so no home, true or made up,
    sends anything round. Whoever serves it is its home from then on.
    """

    def __init__(self, sticky: Sticky, *, region: str, machine: str) -> None:
        self.is_on = sticky is not Sticky.OFF
        self._here = Home(region, machine if sticky is Sticky.MACHINE else None)

    def sent(self, headers: Iterable[tuple[bytes, bytes]]) -> SentHome:
        """Return what a request says; its header counts before its cookie."""
        if not self.is_on:
            return _UNSAID
        home = None
        for name, value in headers:
            if name.lower() == HOME:
                return SentHome(Home.parse(value.decode("latin-1").strip()), by_header=True)
            if name.lower() == b"cookie" and HOME in value:
                home = home or _home_of_cookies(value.decode("latin-1"))
        return SentHome(home)

    def elsewhere(self, sent: SentHome, view: ClusterView) -> Home | None:
        """Return the place that a request is handed to, None where it is served here."""
        return home_elsewhere(sent.home, here=self._here, view=view)

    def directions(self, home: Home) -> str:
        """Return the way there, for the proxy, which comes back here where all of it is gone."""
        regions = ",".join(dict.fromkeys((home.region, self._here.region)))
        machine = f";prefer_instance={home.machine}" if home.machine else ""
        return f'region="{regions}"{machine}'

    def headers(self, sent: SentHome, cookie_flags: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return what the answer of a request that was served here says: nothing known already."""
        if not self.is_on or sent.home == self._here:
            return []
        here = str(self._here).encode()
        if sent.by_header or cookie_flags is None:
            return [(HOME, here)]
        return [(HOME, here), (b"set-cookie", b"%b=%b%b" % (HOME, here, cookie_flags))]


def sticky_of(environ: Mapping[str, str]) -> Sticky:
    """Read VIRAL_STICKY, ``off`` where it is absent; raise MisuseError for what there is not."""
    text = environ.get("VIRAL_STICKY") or Sticky.OFF
    try:
        return Sticky(text)
    except ValueError as error:
        raise MisuseError(
            f"VIRAL_STICKY is {text!r}.", suggestion=f"It is one of {', '.join(Sticky)}."
        ) from error


def _home_of_cookies(value: str) -> Home | None:
    for part in value.split(";"):
        name, _, text = part.strip().partition("=")
        if name == HOME.decode() and (home := Home.parse(text)):
            return home
    return None
