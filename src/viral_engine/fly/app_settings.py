"""What belongs to an app as a whole: its secrets, its addresses and its certificates."""

from __future__ import annotations

from collections.abc import Mapping

from viral_engine.errors import NotFoundError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Address, Certificate, Secret

_CERTIFICATES_AT_ONCE = 500
"""The most that one answer holds; without asking it would be 25."""


class AppSettings:
    """These calls of the API, over the connection of a client."""

    def __init__(self, client: FlyClient) -> None:
        self._client = client

    async def secrets(self, app: str) -> list[Secret]:
        """The secrets of an app, with their values where the token may see them."""
        found = await self._client.request(
            "GET", f"/apps/{app}/secrets", params={"show_secrets": "true"}
        )
        return [Secret.model_validate(item) for item in found["secrets"] or ()]

    async def set_secrets(self, app: str, values: Mapping[str, str | None]) -> None:
        """Set (None: remove) secrets in one batch; machines see them at their next start."""
        await self._client.request("POST", f"/apps/{app}/secrets", json={"values": dict(values)})

    async def addresses(self, app: str) -> list[Address]:
        """The addresses of an app."""
        found = await self._client.request("GET", f"/apps/{app}/ip_assignments")
        return [Address.model_validate(item) for item in found["ips"] or ()]

    async def add_address(self, app: str, kind: str) -> None:
        """Give an app one more address: ``v4``, ``v6``, ``shared_v4`` or ``private_v6``."""
        await self._client.request("POST", f"/apps/{app}/ip_assignments", json={"type": kind})

    async def certificates(self, app: str) -> list[str]:
        """The hostnames for which an app has or awaits a certificate."""
        names: list[str] = []
        query = {"limit": _CERTIFICATES_AT_ONCE}
        while True:
            found = await self._client.request("GET", f"/apps/{app}/certificates", params=query)
            names += [str(item["hostname"]) for item in found["certificates"] or ()]
            if not found.get("next_cursor"):
                return names
            query = query | {"cursor": found["next_cursor"]}

    async def add_certificate(self, app: str, hostname: str) -> None:
        """Ask for a certificate; it is issued once the records of its DNS are there."""
        await self._client.request(
            "POST", f"/apps/{app}/certificates/acme", json={"hostname": hostname}
        )

    async def certificate(self, app: str, hostname: str) -> Certificate | None:
        """How a certificate stands and which DNS records it needs; None where there is none."""
        try:
            found = await self._client.request("GET", f"/apps/{app}/certificates/{hostname}")
        except NotFoundError:
            return None
        return Certificate.model_validate(found)
