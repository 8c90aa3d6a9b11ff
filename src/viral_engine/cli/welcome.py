"""What people see when the globe is ready: where it is and what to try next."""

from __future__ import annotations

import os
import shutil
import sys

from viral_engine.cli.output import console
from viral_engine.cli.steps import JsonSteps, Steps
from viral_engine.fly.model import Machine
from viral_engine.globe.network.addresses import NetworkMode
from viral_engine.globe.world import Globe
from viral_engine.operations.observe import health
from viral_engine.operations.protection import fails_over_by_hand


def welcome(
    globe: Globe, machines: list[Machine], steps: Steps, *, primary: str, declared: str
) -> None:
    """Tell that everything is healthy, and the addresses."""
    all_roles = [machine.role for machine in machines]
    by_hand = fails_over_by_hand(all_roles.count("database"), all_roles.count("witness"))
    if isinstance(steps, JsonSteps):
        steps.write({"event": "ready", "network": globe.spec.mode, "addresses": globe.addresses,
                     "primary": primary, "failover": "by-hand" if by_hand else "automatic",
                     "machines": [_row(machine) for machine in machines]})  # fmt: skip
        return
    screen = console()
    spec, addresses = globe.spec, globe.addresses
    screen.print()
    running = sum(health(machine) == "passing" for machine in machines)
    waiting = f"; {len(machines) - running} stand by, stopped" if running < len(machines) else ""
    screen.print(f"[bold green]Ready:[/] {running} machines, every one healthy{waiting}.")
    screen.print(f"Network: [bold]{spec.mode}[/] ({spec.why_mode})"
                 + (f", round trips × {spec.rtt_factor:g}" if spec.mode is NetworkMode.WAN else
                    ": the regions share this machine's loopback, without delays or cuts"))  # fmt: skip
    for region in spec.regions:
        here = [m for m in machines if m.region == region]
        roles = ", ".join(_counted(here))
        screen.print(f"  [bold]{region}[/]  {roles}")
    if primary != declared:
        screen.print(f"[yellow]The primary is in {primary}, not in {declared} as declared:[/] "
                     "a failover moved it, and writes go there.")  # fmt: skip
    if by_hand:
        screen.print("[yellow]Failover is by hand:[/] without a witness there is no third vote. When "
                     "the primary's region is lost: viral promote REGION --force")  # fmt: skip
    screen.print()
    screen.print(f"  anycast    {addresses['anycast']}   (nearest to {spec.near})")
    for region, url in addresses["edges"].items():
        screen.print(f"  edge {region}   {url}")
    screen.print(f"  API        {addresses['api']}")
    screen.print()
    screen.print("Try, in another terminal:")
    far = next((r for r in spec.edges if r != spec.near), spec.near)
    for line in _tries(far, addresses["anycast"], flat=spec.mode is NetworkMode.FLAT,
                       edge=addresses["edges"][far]):  # fmt: skip
        screen.print(f"  {line.replace('viral', _command(), 1)}", markup=False)
    screen.print("Stop it with Ctrl-C, or: viral down. The data stays.")


def _command() -> str:
    """What to type for this command: its name, or its path where the shell does not find it."""
    return "viral" if shutil.which("viral") else os.path.relpath(sys.argv[0])


def _tries(far: str, anycast: str, *, flat: bool, edge: str) -> list[str]:
    task = '-H content-type:application/json -d \'{"title":"hello"}\''
    if flat:
        return [f"curl -i {edge}/api/tasks {task}", f"curl -i {edge}/api/tasks", "viral status"]
    return [
        f"viral exec {far} -- curl -s -i {anycast}/api/tasks {task}",
        f"viral exec {far} -- curl -s -i {anycast}/api/tasks",
        f"viral fault blackout {far}    then: viral status, viral fault clear",
        "viral status",
    ]


def _counted(machines: list[Machine]) -> list[str]:
    roles = [machine.role for machine in machines]
    return [f"{roles.count(r)} {r}" if roles.count(r) > 1 else r for r in dict.fromkeys(roles)]


def _row(machine: Machine) -> dict[str, object]:
    return {"id": machine.id, "name": machine.name, "region": machine.region,
            "role": machine.role, "health": health(machine)}  # fmt: skip
