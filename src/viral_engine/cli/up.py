"""``viral up``: a whole deployment on this machine, from one command."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import asdict, replace
from pathlib import Path

import click

from viral_engine.cli.detach import BACKGROUND, run_detached
from viral_engine.cli.logs import readable
from viral_engine.cli.operate import who
from viral_engine.cli.output import command_errors, json_option, print_json, print_table
from viral_engine.cli.place import home_option
from viral_engine.cli.steps import Steps, steps_for
from viral_engine.cli.target import Origin, globe_blueprint
from viral_engine.cli.welcome import welcome
from viral_engine.errors import GlobeError, MachineFailedError, MisuseError
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import Machine
from viral_engine.globe.home import LAYOUT, Manifest, claim, locked
from viral_engine.globe.network.addresses import NetworkMode
from viral_engine.globe.network.choose import prepare
from viral_engine.globe.world import Globe, GlobeSpec
from viral_engine.nodes.app_import import check_import
from viral_engine.nodes.binaries import Engines
from viral_engine.operations.blueprint import needed_from_outside, places
from viral_engine.operations.bring_up import BringUp
from viral_engine.operations.operator_lock import Operator
from viral_engine.operations.progress import step
from viral_engine.operations.take_down import take_down
from viral_engine.topology.model import BUNDLED_APP, Deployment
from viral_engine.topology.names import (
    DATABASE_URL,
    PGBOUNCER_URL,
    REDIS_URL,
    redis_url_variable,
    replica_url_variable,
)
from viral_engine.topology.regions import region

LAST_LINES = 15


@click.command()
@click.option("--app", help="Your ASGI app as module:attribute; else the bundled task service.")
@click.option("--regions", help="Data regions, as in iad,lhr,nrt.")
@click.option("--primary", help="The region of the primary database.")
@click.option("--near", help="The region that this machine's browser counts as near.")
@click.option("--users", help="More places that users come from, without machines: syd,gru.")
@click.option("--network", type=click.Choice(["wan", "flat"]), help="Default: wan where possible.")
@click.option("--rtt-factor", type=click.FloatRange(0, 10), default=1.0, show_default=True,
              help="Multiplies every round trip.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), help="Default: 8080 or the next free one.")
@click.option("--file", "-f", type=click.Path(path_type=Path, dir_okay=False),
              help="Default: viral.toml of this folder, else two regions.")  # fmt: skip
@click.option("--detach", "-d", is_flag=True, help="Return when it is ready and leave it running.")
@click.option("--dry-run", is_flag=True, help="Show what would run, and start nothing.")
@home_option
@json_option
@command_errors
def up(
    app: str | None, regions: str | None, primary: str | None, near: str | None, users: str | None,
    network: str | None, rtt_factor: float, port: int | None, file: Path | None,
    detach: bool, dry_run: bool, home: Path, as_json: bool,
) -> None:  # fmt: skip
    """Run the deployment on this machine: real engines, real distances, until Ctrl-C."""
    origin = Origin(
        folder=str(Path.cwd()), file=str(file.absolute()) if file else None, app=app,
        regions=tuple(regions.split(",")) if regions is not None else None, primary=primary,
        environ=_handed_on(),
    )  # fmt: skip
    deployment = origin.deployment()
    origin = replace(origin, external=_external(deployment))
    near = _near(deployment, near)
    places_of_users = _extra_places(deployment, users)
    if dry_run:
        _show_plan(deployment, as_json=as_json)
        return
    home = home.absolute()
    if deployment.service.app != BUNDLED_APP:
        check_import(deployment.service.app, Path.cwd())
    Engines(os.environ).versions()  # raises when one is missing, before anything is started
    claim(home, _manifest(deployment))
    if detach and BACKGROUND not in os.environ:
        run_detached(home, as_json=as_json)
        return
    with locked(home):
        mode, why = prepare(NetworkMode(network) if network else None)
        spec = GlobeSpec(
            home=home, regions=(*deployment.all_codes, *places_of_users), edges=deployment.region_codes, near=near,
            mode=mode, why_mode=why, rtt_factor=rtt_factor, port=port, environ=dict(os.environ),
            envoy=Engines(os.environ).envoy(), origin=asdict(origin),
        )  # fmt: skip
        steps = steps_for(as_json=as_json)
        with contextlib.closing(steps):
            asyncio.run(_run(spec, deployment, steps))


def _near(deployment: Deployment, near: str | None) -> str:
    if near is None:
        return deployment.primary_region
    if near not in deployment.region_codes:
        listed = ", ".join(deployment.region_codes)
        raise MisuseError(
            f'near is "{near}", which is not one of the regions.', suggestion=f"They are: {listed}."
        )
    return near


def _external(deployment: Deployment) -> dict[str, str]:
    """Where somebody else's databases and caches are, as it is said where this command is called."""
    needed, names = needed_from_outside(deployment), list[str]()
    if DATABASE_URL in needed:
        names += [DATABASE_URL, PGBOUNCER_URL, *map(replica_url_variable, deployment.region_codes)]
    if REDIS_URL in needed:
        names += [REDIS_URL, *map(redis_url_variable, deployment.region_codes)]
    for variable in needed:
        if variable not in os.environ:
            raise MisuseError(
                f"Somebody else runs what {variable} leads to, and it is not set here.",
                suggestion=f"Call it with: {variable}=... viral up",
            )
    return {name: os.environ[name] for name in names if name in os.environ}


def _handed_on() -> dict[str, str]:
    """What machines take from this command: their engines, and whether a drill leaves the fence off."""
    names = ("VIRAL_ENGINES", "VIRAL_PRIMACY", "VIRAL_FAST_FAILOVER")
    return {name: os.environ[name] for name in names if name in os.environ}


def _extra_places(deployment: Deployment, users: str | None) -> tuple[str, ...]:
    codes = [region(code).code for code in users.split(",")] if users else []
    return tuple(code for code in dict.fromkeys(codes) if code not in deployment.all_codes)


def _manifest(deployment: Deployment) -> Manifest:
    return Manifest(LAYOUT, deployment.app, deployment.primary_region, deployment.all_codes)


def _show_plan(deployment: Deployment, *, as_json: bool) -> None:
    wanted = places(deployment)
    if as_json:
        print_json({"machines": [{"name": p.name, "region": p.region, "role": p.role, "app": p.app}
                                 for p in wanted]})  # fmt: skip
        return
    print_table(("REGION", "ROLE", "MACHINE"), [(p.region, p.role, p.name) for p in wanted])


async def _run(spec: GlobeSpec, deployment: Deployment, steps: Steps) -> None:
    """Hold the globe until somebody wants it to end; what was started is always stopped."""
    loop = asyncio.get_running_loop()
    globe = Globe(spec)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, globe.stopping.set)
    with step(steps, f"Make the {spec.mode} network"):
        await globe.__aenter__()
    try:
        async with FlyClient(globe.api_url, globe.token) as client:
            try:
                await _serve(globe, client, deployment, steps)
            finally:
                with step(steps, "Stop every machine"):
                    await take_down(client, steps)
    finally:
        await globe.__aexit__(None, None, None)


async def _serve(globe: Globe, client: FlyClient, deployment: Deployment, steps: Steps) -> None:
    bringing = asyncio.create_task(_bring_up(globe, client, deployment, steps))
    stopping = asyncio.create_task(globe.stopping.wait())
    await asyncio.wait({bringing, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not bringing.done():
        bringing.cancel()
        await asyncio.gather(bringing, return_exceptions=True)
        if globe.failure is None:
            raise GlobeError("It was stopped before it was ready.")
    else:
        machines, primary = await bringing
        welcome(globe, machines, steps, primary=primary, declared=deployment.primary_region)
        await stopping
    if globe.failure is not None:
        raise GlobeError(f"A part of the globe failed: {globe.failure}") from globe.failure


async def _bring_up(
    globe: Globe, client: FlyClient, deployment: Deployment, steps: Steps
) -> tuple[list[Machine], str]:
    spec = globe.spec
    bring_up = BringUp(
        client=client,
        blueprint=globe_blueprint(
            deployment, spec.home, Origin(**spec.origin), globe.private_edges
        ),
        operator=Operator(who(), "viral up"),
        progress=steps,
        edges=globe.addresses["edges"],
    )
    try:
        return await bring_up.run(), bring_up.primary_region
    except MachineFailedError as error:
        if error.machine:
            words = readable(globe.last_lines(error.machine, LAST_LINES))
            lines = "".join(f"\n  | {line}" for line in words[-LAST_LINES:])
            raise replace_message(error, f"{error.message} Its last words:{lines}") from error
        raise


def replace_message(error: MachineFailedError, message: str) -> MachineFailedError:
    """The same error with more in its message."""
    return MachineFailedError(message, suggestion=error.suggestion, machine=error.machine)
