"""The names of machines in the private network, as files that each machine sees in its /etc."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from viral_engine.fly.model import MachineState
from viral_engine.globe.machines.record import MachineRecord

NO_DNS = "# The wan network has no way out and no DNS: names of machines are in /etc/hosts.\n"
"""Without a name server the C library asks 127.0.0.1, where nobody listens: a lookup fails at once
instead of after ten seconds."""


def hosts(machines: Iterable[MachineRecord]) -> str:
    """The hosts file: every machine that runs, by the names that Fly.io's DNS gives it."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    for machine in machines:
        if machine.state is MachineState.STARTED:
            names = (
                f"{machine.id}.vm.{machine.app}",
                f"{machine.region}.{machine.app}",
                machine.app,
            )
            known = " ".join(f"{name}.internal" for name in names)
            lines.append(f"{machine.private_ip} {known}")
    return "\n".join(lines) + "\n"


def write_names(folder: Path, machines: Iterable[MachineRecord]) -> None:
    """Bring the files up to date in place: machines hold on to the files themselves."""
    folder.mkdir(exist_ok=True)
    for name, text in (("hosts", hosts(machines)), ("resolv.conf", NO_DNS)):
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            path.chmod(0o644)
