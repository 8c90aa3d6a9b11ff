"""``viral fault``: break something on purpose, and mend it."""

from __future__ import annotations

from pathlib import Path

import click

from viral_engine.cli.output import command_errors, console, json_option, print_json
from viral_engine.cli.place import home_option, with_client
from viral_engine.fly.extension import GlobeExtension


@click.group()
def fault() -> None:
    """Break something on purpose; it stays broken until cleared."""


def _put(
    home: Path, kind: str, said: str, *, as_json: bool, regions: tuple[str, ...] = (),
    machine: str = "", amount: float = 0.0,
) -> None:  # fmt: skip
    fault_id = with_client(
        home,
        lambda client: GlobeExtension(client).add_fault(
            kind, regions=regions, machine=machine, amount=amount
        ),
    )
    if as_json:
        print_json({"id": fault_id, "kind": kind, "regions": list(regions), "machine": machine,
                    "amount": amount})  # fmt: skip
    else:
        console().print(f"{said} Undo it with: viral fault clear {fault_id}")


@fault.command()
@click.argument("a")
@click.argument("b")
@home_option
@json_option
@command_errors
def cut(a: str, b: str, home: Path, as_json: bool) -> None:
    """Cut the private network between regions A and B, both ways."""
    _put(home, "cut", f"{a} and {b} no longer hear each other.", as_json=as_json, regions=(a, b))


@fault.command("one-way")
@click.argument("source")
@click.argument("target")
@home_option
@json_option
@command_errors
def one_way(source: str, target: str, home: Path, as_json: bool) -> None:
    """Drop every packet from SOURCE to TARGET, but none back."""
    said = f"{target} no longer hears {source}."
    _put(home, "one-way", said, as_json=as_json, regions=(source, target))


@fault.command()
@click.argument("region")
@home_option
@json_option
@command_errors
def blackout(region: str, home: Path, as_json: bool) -> None:
    """Cut REGION off from everybody, its users too; its machines run on."""
    _put(home, "blackout", f"{region} is cut off.", as_json=as_json, regions=(region,))


@fault.command()
@click.argument("factor", type=click.FloatRange(0, 100, min_open=True))
@click.argument("pair", nargs=-1)
@home_option
@json_option
@command_errors
def delay(factor: float, pair: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Multiply round trips by FACTOR, everywhere or between the two regions of PAIR."""
    _put(home, "delay", f"Round trips are × {factor:g}.", as_json=as_json, regions=pair,
         amount=factor)  # fmt: skip


@fault.command()
@click.argument("percent", type=click.FloatRange(0, 100, min_open=True))
@click.argument("pair", nargs=-1)
@home_option
@json_option
@command_errors
def loss(percent: float, pair: tuple[str, ...], home: Path, as_json: bool) -> None:
    """Lose PERCENT of all packets, everywhere or between the two regions of PAIR."""
    _put(home, "loss", f"{percent:g} % of packets are lost.", as_json=as_json, regions=pair,
         amount=percent / 100)  # fmt: skip


@fault.command()
@click.argument("region")
@home_option
@json_option
@command_errors
def outage(region: str, home: Path, as_json: bool) -> None:
    """End every process of REGION at once, its edge too, and start none."""
    _put(home, "outage", f"{region} has lost its hosts.", as_json=as_json, regions=(region,))


@fault.command()
@click.argument("machine")
@home_option
@json_option
@command_errors
def pause(machine: str, home: Path, as_json: bool) -> None:
    """Freeze every process of MACHINE."""
    _put(home, "pause", f"{machine} is frozen.", as_json=as_json, machine=machine)


@fault.command()
@click.argument("machine")
@home_option
@json_option
@command_errors
def kill(machine: str, home: Path, as_json: bool) -> None:
    """End every process of MACHINE, or of an edge, at once; its restart policy decides what follows."""
    with_client(home, lambda client: GlobeExtension(client).add_fault("kill", machine=machine))
    if as_json:
        print_json({"kind": "kill", "machine": machine})
    else:
        console().print(f"{machine} is killed.")


@fault.command()
@click.argument("fault_id", required=False)
@home_option
@json_option
@command_errors
def clear(fault_id: str | None, home: Path, as_json: bool) -> None:
    """Undo one fault, or all of them."""

    async def undo(extension: GlobeExtension) -> int:
        if fault_id is None:
            return await extension.clear_faults()
        await extension.clear_fault(fault_id)
        return 1

    count = with_client(home, lambda client: undo(GlobeExtension(client)))
    if as_json:
        print_json({"cleared": count})
    else:
        console().print(f"{count} fault{'' if count == 1 else 's'} undone.")
