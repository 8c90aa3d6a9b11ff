"""A blueprint before anything runs: its addresses and secrets are only placeholders."""

from __future__ import annotations

from dataclasses import fields

from viral_engine.operations.blueprint import Addresses, Blueprint, places
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import Deployment

__all__ = ["sketch"]


def sketch(deployment: Deployment, *, secret: str = "secret") -> Blueprint:  # noqa: S107 - none
    """Return a blueprint that knows every machine's size, command and settings, and no address."""
    made = places(deployment)

    def by_region(role: str) -> dict[str, str]:
        return {place.region: place.name for place in made if place.role == role}

    addresses = Addresses(
        by_region("database"), by_region("witness"), by_region("cache"), by_region("database")
    )
    placeholders = Secrets(*(secret for _ in fields(Secrets)))
    return Blueprint(
        deployment, placeholders, addresses, image="image", app_folder="", extra_env={}
    )
