"""How every operation on a running deployment goes: observe, plan, show, confirm, apply, tell."""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import click

from viral_engine.cli.output import console, print_json
from viral_engine.cli.site import Site
from viral_engine.cli.steps import JsonSteps, steps_for
from viral_engine.errors import MisuseError, OperationError
from viral_engine.fly.client import FlyClient
from viral_engine.operations.formation import Formation, observe_formation
from viral_engine.operations.operator_lock import Operator, operating, refuse_other
from viral_engine.operations.progress import Progress

yes_option = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show what would be done, and do nothing."
)


class Plan(Protocol):
    """What an operation will do, decided before anything is done."""

    @property
    def steps(self) -> tuple[str, ...]:
        """Its steps, a sentence each."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has to be known before saying yes."""

    def facts(self) -> dict[str, Any]:
        """The same for programs."""


class Outcome(Protocol):
    """What is true afterwards."""

    def facts(self) -> dict[str, Any]:
        """For programs."""

    def sentence(self) -> str:
        """For people."""


P = TypeVar("P", bound=Plan)


@dataclass(frozen=True, slots=True)
class Operation(Generic[P]):
    """One operation of the command line: its words, its plan and what carries it out."""

    words: str
    plan: Callable[[Formation], P]
    apply: Callable[[FlyClient, Formation, P, Progress], Awaitable[Outcome]]
    ask: Callable[[P], None]
    """Asks whoever sits there; raises to go no further."""


def who() -> str:
    """Name the person and the machine, for whoever comes second."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} (pid {os.getpid()})"


def refuse_unasked(*, yes: bool, as_json: bool) -> None:
    """Raise MisuseError where somebody would have to be asked and nobody is there."""
    if not yes and (as_json or not sys.stdin.isatty()):
        raise MisuseError("Nobody is there to be asked.", suggestion="Confirm it with --yes.")


def carry_out(
    operation: Operation[P], site: Site, *, yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Carry an operation out on a deployment."""
    refuse_unasked(yes=yes or dry_run, as_json=as_json)
    plan = site.run(lambda client: _planned(client, operation, dry_run=dry_run))
    if dry_run:
        _show(plan, as_json=as_json, alone=True)
        return
    _show(plan, as_json=as_json, alone=False)
    if not yes:
        operation.ask(plan)
    steps = steps_for(as_json=as_json)
    with closing(steps):
        try:
            outcome = site.run(lambda client: _done(client, operation, steps))
        except KeyboardInterrupt as error:
            raise OperationError(
                "It was interrupted; what was done stays done.",
                suggestion=f"Typed again, it finishes what is left: viral {operation.words}{site.words}",
            ) from error
    if isinstance(steps, JsonSteps):
        steps.write({"event": "now", **outcome.facts()})
    else:
        console(err=False).print(f"Now: {outcome.sentence()}.", markup=False)


async def _planned(client: FlyClient, operation: Operation[P], *, dry_run: bool) -> P:
    formation = await observe_formation(client)
    if not dry_run:
        refuse_other(formation)
    return operation.plan(formation)


async def _done(client: FlyClient, operation: Operation[P], steps: Progress) -> Outcome:
    """Plan once more under the lock: much may have happened while somebody was asked."""
    formation = await observe_formation(client)
    async with operating(client, formation, Operator(who(), f"viral {operation.words}"), steps):
        plan = operation.plan(formation)
        return await operation.apply(client, formation, plan, steps)


def _show(plan: Plan, *, as_json: bool, alone: bool) -> None:
    if as_json:
        if alone:
            print_json(plan.facts())
        else:
            JsonSteps().write({"event": "plan", **plan.facts()})
        return
    screen = console(err=False)
    for sentence in plan.warnings:
        screen.print("[yellow]![/] ", end="")
        screen.print(sentence, markup=False)
    for number, sentence in enumerate(plan.steps, start=1):
        screen.print(f"{number}. {sentence}", markup=False)
