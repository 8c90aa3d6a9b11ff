"""What the platform keeps for an app as a whole: secrets, addresses, certificates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from viral_engine.errors import NotFoundError, PlatformError
from viral_engine.globe.machines.record import timestamp

SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
HOSTNAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(\.[a-z0-9-]{1,63})+")

_ADDRESSES = {"v4": "203.0.113.{}", "shared_v4": "198.51.100.{}", "v6": "2001:db8::{}",
              "private_v6": "fdaa:0:1::{}"}  # fmt: skip
"""Addresses of documentation: nothing listens there, people enter by the globe's doors."""

UNISSUED = "pending_validation"


@dataclass(eq=False, slots=True)
class AppSettings:
    """The settings of one app; whoever changes them tells the platform that it changed."""

    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    version: int = 0
    addresses: list[dict[str, Any]] = field(default_factory=list)
    certificates: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """The secrets as a machine that starts now sees them."""
        return {name: kept["value"] for name, kept in self.secrets.items()}

    def set_secrets(self, values: Mapping[str, object]) -> None:
        """Set or, by None, remove secrets, all or none; raises PlatformError (422)."""
        for name, value in values.items():
            if not SECRET_NAME.fullmatch(name) or not isinstance(value, str | None):
                raise PlatformError(f"invalid secret {name!r}", status=422)
        now = timestamp()
        for name, value in values.items():
            if value is None:
                self.secrets.pop(name, None)
                continue
            created = self.secrets.get(name, {}).get("created_at", now)
            self.secrets[name] = {"value": str(value), "created_at": created, "updated_at": now}
        self.version += 1

    def shown_secret(self, name: str, *, value: bool) -> dict[str, Any]:
        """A secret as the API shows it; raises NotFoundError."""
        if name not in self.secrets:
            raise NotFoundError(f"secret {name} not found", status=404)
        kept = self.secrets[name]
        digest = hashlib.sha256(kept["value"].encode()).hexdigest()[:16]
        shown = {"name": name, "digest": digest, **kept}
        return shown if value else {key: one for key, one in shown.items() if key != "value"}

    def add_address(self, kind: str) -> dict[str, Any]:
        """Give the app an address; there is one shared one, which asking again returns."""
        if kind not in _ADDRESSES:
            raise PlatformError(f"type must be one of {', '.join(_ADDRESSES)}", status=422)
        shared = kind == "shared_v4"
        for had in self.addresses:
            if shared and had["shared"]:
                return had
        number = 1 + max((had["number"] for had in self.addresses), default=0)
        made = {"ip": _ADDRESSES[kind].format(number), "region": "global", "service_name": "",
                "shared": shared, "egress": False, "created_at": timestamp(), "number": number}  # fmt: skip
        self.addresses.append(made)
        return made

    def remove_address(self, ip: str) -> None:
        """Take an address away; raises NotFoundError."""
        left = [had for had in self.addresses if had["ip"] != ip]
        if len(left) == len(self.addresses):
            raise NotFoundError(f"ip {ip} not found", status=404)
        self.addresses = left

    def add_certificate(self, hostname: str) -> None:
        """Note that a hostname wants a certificate; raises PlatformError (422)."""
        if not HOSTNAME.fullmatch(hostname):
            raise PlatformError(f"invalid hostname {hostname!r}", status=422)
        if hostname in self.certificates:
            raise PlatformError("Hostname already exists on app", status=422)
        self.certificates[hostname] = timestamp()

    def shown_certificate(self, app: str, hostname: str) -> dict[str, Any]:
        """A certificate as the API shows it, never issued here; raises NotFoundError."""
        if hostname not in self.certificates:
            raise NotFoundError(f"certificate for {hostname} not found", status=404)
        ips = [had["ip"] for had in self.addresses]
        dns = {
            "a": [ip for ip in ips if ":" not in ip],
            "aaaa": [ip for ip in ips if ":" in ip and not ip.startswith("fdaa:")],
            "cname": f"{app}.fly.dev",
            "acme_challenge": {
                "name": f"_acme-challenge.{hostname}", "target": f"{hostname}.flydns.net"
            },
        }  # fmt: skip
        return {"hostname": hostname, "configured": False, "acme_requested": True,
                "status": UNISSUED, "certificates": [], "validation_errors": [],
                "validation": {f"{way}_configured": False for way in ("alpn", "dns", "http")},
                "dns_requirements": dns}  # fmt: skip

    def listed_certificates(self) -> list[dict[str, Any]]:
        """The hostnames as a list of the API has them."""
        rest = {"configured": False, "acme_requested": True, "status": UNISSUED,
                "has_custom_certificate": False, "has_fly_certificate": False}  # fmt: skip
        return [
            {"hostname": one, "created_at": at, **rest} for one, at in self.certificates.items()
        ]

    def to_store(self) -> dict[str, Any]:
        """What must survive the platform's own end."""
        return asdict(self)

    @classmethod
    def from_store(cls, stored: dict[str, Any]) -> Self:
        """Read what ``to_store`` wrote."""
        return cls(**stored)
