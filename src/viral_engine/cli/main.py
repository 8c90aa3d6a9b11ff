"""The command's entry: subcommands are imported only when they are used, since nodes start often."""

from __future__ import annotations

import importlib

import click

from viral_engine import __version__

COMMANDS = {
    "up": "viral_engine.cli.up:up",
    "down": "viral_engine.cli.down:down",
    "status": "viral_engine.cli.status:status",
    "machines": "viral_engine.cli.machines:machines",
    "regions": "viral_engine.cli.regions:regions",
    "logs": "viral_engine.cli.logs:logs",
    "exec": "viral_engine.cli.exec:exec_",
    "fault": "viral_engine.cli.fault:fault",
    "plan": "viral_engine.cli.plan:plan",
    "deploy": "viral_engine.cli.deploy:deploy",
    "verify": "viral_engine.cli.verify:verify",
    "scale": "viral_engine.cli.scale:scale",
    "autoscale": "viral_engine.cli.autoscale:autoscale",
    "rollout": "viral_engine.cli.rollout:rollout",
    "failover": "viral_engine.cli.failover:failover",
    "failback": "viral_engine.cli.failover:failback",
    "promote": "viral_engine.cli.promote:promote",
    "drill": "viral_engine.cli.drill:drill",
    "cordon": "viral_engine.cli.duty:cordon",
    "uncordon": "viral_engine.cli.duty:uncordon",
    "drain": "viral_engine.cli.duty:drain",
    "stop": "viral_engine.cli.duty:stop",
    "start": "viral_engine.cli.duty:start",
    "render": "viral_engine.cli.render:render",
    "lint": "viral_engine.cli.lint:lint_",
    "cost": "viral_engine.cli.cost:cost",
    "node": "viral_engine.cli.node:node",
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's shape
        """Name the commands in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command; None when there is none by that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="viral")
def viral() -> None:
    """Run one Python service in many regions, and prove that it does."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 misuse."""
    viral.main(prog_name="viral")


if __name__ == "__main__":
    main()
