"""The DNS records that a hostname needs, as the platform says them: pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from viral_engine.fly.model import Certificate


@dataclass(frozen=True, slots=True)
class Record:
    """One record to set."""

    name: str
    kind: str
    value: str

    @property
    def sentence(self) -> str:
        """The record as a line of a zone."""
        return f"{self.name}. {self.kind} {self.value}"

    def facts(self) -> dict[str, str]:
        """The record for programs."""
        return {"name": self.name, "type": self.kind, "value": self.value}


def records(certificate: Certificate) -> Iterator[Record]:
    """Yield the records of a hostname: its addresses, and the one that proves it beforehand.

    Addresses, not the name of the app: they also stand at the top of a zone, where no CNAME may.
    """
    needs, name = certificate.dns_requirements, certificate.hostname
    for address in needs.a:
        yield Record(name, "A", address)
    for address in needs.aaaa:
        yield Record(name, "AAAA", address)
    if not (needs.a or needs.aaaa) and needs.cname:
        yield Record(name, "CNAME", f"{needs.cname}.")
    if needs.acme_challenge.name:
        challenge = needs.acme_challenge
        yield Record(challenge.name, "CNAME", f"{challenge.target}.")
