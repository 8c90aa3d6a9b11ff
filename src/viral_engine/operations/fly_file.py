"""A deployment's fly.toml: what of it fits into such a file, and what it must say instead."""

from __future__ import annotations

from viral_engine.fly.fly_toml.render import AppFile, render
from viral_engine.fly.model import MachineConfig
from viral_engine.operations.blueprint import Blueprint, needed_from_outside, places
from viral_engine.operations.sketch import sketch
from viral_engine.topology.model import BUNDLED_APP, Deployment, Guest, Strategy
from viral_engine.topology.sizes import preset_of

__all__ = ["WRITTEN_BY", "fly_file"]

WRITTEN_BY = "Written from viral.toml by `viral render fly.toml`"
"""Every such file begins with it."""

NOT_WRITTEN = {"PRIMARY_REGION", "VIRAL_APP_DIR"}
"""The platform sets the first from its own key, and the app is in the image's working folder."""


def fly_file(deployment: Deployment, *, image: str | None = None) -> str:
    """Return the fly.toml of the app that users reach, without a secret in it.

    Machines of databases, caches and the witness have settings of their own in each region, which
    no such file can say: they are not in it.
    """
    blueprint = sketch(deployment)
    groups = _groups(deployment, blueprint)
    env = groups["app"].env
    other = _groups(deployment, sketch(deployment, secret="another"))["app"].env  # noqa: S106 - none
    # What changes with the secrets is one: an address with a password in it.
    changing = {name for name in env if env[name] != other[name]}
    outside = needed_from_outside(deployment)
    secret = tuple(sorted({*changing, *outside, *blueprint.app_secrets()[deployment.app]}))
    bundled = deployment.service.app == BUNDLED_APP
    return render(
        AppFile(
            app=deployment.app,
            primary_region=deployment.primary_region,
            groups=groups,
            env={name: env[name] for name in env if name not in {*secret, *NOT_WRITTEN}},
            image=image,
            release_command="viral node migrate" if bundled else None,
            metrics_path="/metrics" if bundled else None,
            notes=_notes(deployment, secret),
        )
    )  # fmt: skip


def _groups(deployment: Deployment, blueprint: Blueprint) -> dict[str, MachineConfig]:
    """One group for each role of the app, as it is in the primary region where it is there."""
    found: dict[str, MachineConfig] = {}
    primary = deployment.primary_region
    for place in sorted(places(deployment), key=lambda place: place.region != primary):
        if place.app == deployment.app and place.role not in found:
            found[place.role] = blueprint.config(place, None)
    return found


def _notes(deployment: Deployment, secret: tuple[str, ...]) -> tuple[str, ...]:
    regions = ", ".join(
        f"{plan.code} {plan.min}" + (f" to {plan.max}" if plan.max > plan.min else "")
        for plan in deployment.regions
    )
    paragraphs = [
        f"{WRITTEN_BY}, for the app {deployment.app} of Fly.io.",
        (
            f"Machines by region: {regions}. A fly.toml cannot say that: `fly deploy` updates the "
            f"machines that there are, and `viral` makes them.{_elsewhere(deployment)}"
        ),
        (
            "Secrets are never in this file. Set all in one call of `fly secrets set`, since each call "
            f"restarts every machine: {', '.join(secret)}."
        ),
    ]
    if deployment.strategy is Strategy.ACTIVE_PASSIVE:
        paragraphs.append(
            f"Only {deployment.primary_region} serves users: the machines of the other regions "
            "stand by, cordoned."
        )
    paragraphs += [
        f"Machines in {plan.code} are of another size, which this file cannot say: "
        f"{_size(plan.guest)}."
        for plan in deployment.regions
        if plan.guest != deployment.plan(deployment.primary_region).guest
    ]
    return tuple(paragraphs)


def _elsewhere(deployment: Deployment) -> str:
    """Where the machines are that differ by region; nothing where somebody else runs all of that."""
    others = sorted({place.app for place in places(deployment)} - {deployment.app})
    if not others:
        return ""
    return (
        f" Databases, caches and the witness, with their volumes, are in apps of their own "
        f"({', '.join(others)}): their machines differ by region."
    )


def _size(guest: Guest) -> str:
    return f"{preset_of(guest)} with {guest.memory_mb} MB"
