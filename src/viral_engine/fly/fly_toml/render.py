"""A fly.toml from the machines that it should make: the same text for the same machines, always."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from viral_engine.fly.durations import format_duration
from viral_engine.fly.model import Check, MachineConfig, Restart, RestartPolicy, Service
from viral_engine.topology.model import CpuKind, Guest
from viral_engine.topology.sizes import preset_of

__all__ = ["AppFile", "render"]

SHORTEST, LONGEST = timedelta(seconds=1), timedelta(seconds=60)
"""What the platform keeps the times of a service's check within."""

COLUMNS = 92
_POLICIES = {RestartPolicy.NO: "never", RestartPolicy.ON_FAILURE: "on-failure",
             RestartPolicy.ALWAYS: "always"}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFile:
    """What a file says of one app of the platform.

    ``groups`` are its process groups, none of which has a volume; ``notes`` are paragraphs for its head; ``env`` is what may be read by everybody; ``metrics_path`` is
    where Prometheus finds metrics at the port of the service.
    """

    app: str
    primary_region: str
    groups: Mapping[str, MachineConfig]
    env: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    release_command: str | None = None
    metrics_path: str | None = None
    notes: tuple[str, ...] = ()


def render(file: AppFile) -> str:
    """Return the text of the file, with a comment wherever a reader would ask why."""
    blocks = [
        "\n#\n".join(map(_comment, file.notes)),
        _head(file, list(file.groups.values())),
        f"[build]\n  image = {_text(file.image)}" if file.image else "",
        _deploy(file),
        _table("env", file.env),
        _table("processes", {name: " ".join(c.init.cmd or ()) for name, c in file.groups.items()}),
        *(_service(name, one) for name, config in file.groups.items() for one in config.services),
        *(_restart(name, config.restart) for name, config in file.groups.items()),
        *(_vm(name, config) for name, config in file.groups.items()),
        *_metrics(file),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _comment(paragraph: str) -> str:
    wrap = textwrap.TextWrapper(COLUMNS, initial_indent="# ", subsequent_indent="# ",
                                break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return wrap.fill(paragraph)


def _head(file: AppFile, configs: list[MachineConfig]) -> str:
    """The top of the file; its two keys about stopping hold for all groups at once."""
    longest = max(configs, key=lambda config: config.stop_config.timeout).stop_config
    return "\n".join((
        f"app = {_text(file.app)}",
        f"primary_region = {_text(file.primary_region)}",
        f"kill_signal = {_text(longest.signal)}",
        (f"kill_timeout = {_text(format_duration(longest.timeout))}"
        "  # to end requests under way; the default is 5 s"),
    ))  # fmt: skip


def _deploy(file: AppFile) -> str:
    lines = [
        "[deploy]",
        '  strategy = "rolling"',
        "  max_unavailable = 1  # the default, a third of all, can be a whole region",
    ]
    if file.release_command:
        lines.append(f"  release_command = {_text(file.release_command)}")
    return "\n".join(lines)


def _service(group: str, service: Service) -> str:
    """The one service; flyctl reads a check that only connects in its long form alone."""
    (check,) = service.checks
    short = check.type == "http"
    name = "http_service" if short else "services"
    lines = ["# The only service: with a second one for the same port, one of the two is lost."]
    lines += [f"[{name}]" if short else f"[[{name}]]"]
    lines += [] if short else ['  protocol = "tcp"']
    lines += [f"  internal_port = {service.internal_port}", f"  processes = [{_text(group)}]"]
    lines += ["  force_https = true"] if short else []
    lines += [
        (
            f"  auto_stop_machines = {_text(_autostop(service))}"
            "  # a stopped machine is no spare: its host may be full when it is needed"
        ),
        f"  auto_start_machines = {'false' if service.autostart is False else 'true'}",
    ]
    parts = ["\n".join(lines)]
    parts += [] if short else [_port(port.port or 0, port.handlers, https=port.force_https)
                               for port in service.ports]  # fmt: skip
    return "\n\n".join([*parts, _limits(name, service), _check(name, check)])


def _port(port: int, handlers: Iterable[str], *, https: bool) -> str:
    listed = ", ".join(map(_text, handlers))
    lines = ["  [[services.ports]]", f"    port = {port}", f"    handlers = [{listed}]"]
    return "\n".join([*lines, *(["    force_https = true"] if https else [])])


def _limits(name: str, service: Service) -> str:
    limits = service.concurrency
    assert limits is not None, "a service has limits, or nothing overflows to other regions"
    return "\n".join((
        f"  [{name}.concurrency]",
        f"    type = {_text(limits.type)}",
        f"    soft_limit = {limits.soft_limit}",
        f"    hard_limit = {limits.hard_limit}  # what is over goes to the next region; without it nothing does",
    ))  # fmt: skip


def _check(name: str, check: Check) -> str:
    """The check: of this machine alone, so that a lost database takes no region out of service."""
    asks = check.type == "http"
    lines = ["  # It depends on nothing outside its machine: a lost database takes no region down."]
    lines += [f"  [[{name}.{'checks' if asks else 'tcp_checks'}]]"]
    lines += ['    method = "GET"', f"    path = {_text(check.path)}"] if asks else []
    lines += [
        f"    interval = {_text(format_duration(_kept(check.interval)))}",
        f"    timeout = {_text(format_duration(_kept(check.timeout)))}",
        f"    grace_period = {_text(format_duration(_kept(check.grace_period)))}",
    ]
    if asks:
        lines += [
            f"    [{name}.checks.headers]",
            '      X-Forwarded-Proto = "https"  # a redirect to https would fail the check',
        ]
    return "\n".join(lines)


def _restart(name: str, restart: Restart) -> str:
    lines = ["[[restart]]  # when the process ends; a failing check restarts nothing"]
    lines += [f'  policy = "{_POLICIES[restart.policy]}"', f"  retries = {restart.max_retries}"]
    return "\n".join([*lines, f"  processes = [{_text(name)}]"])


def _vm(name: str, config: MachineConfig) -> str:
    guest = config.guest
    size = preset_of(Guest(cpu_kind=CpuKind(guest.cpu_kind), cpus=guest.cpus))
    return "\n".join((
        "[[vm]]",
        f"  size = {_text(size)}",
        f'  memory = "{guest.memory_mb}mb"',
        f"  processes = [{_text(name)}]",
    ))  # fmt: skip


def _metrics(file: AppFile) -> Iterable[str]:
    for name, config in file.groups.items():
        for service in config.services if file.metrics_path else ():
            yield "\n".join((
                "[[metrics]]",
                f"  port = {service.internal_port}",
                f"  path = {_text(file.metrics_path)}",
                f"  processes = [{_text(name)}]",
            ))  # fmt: skip


def _table(name: str, values: Mapping[str, str]) -> str:
    rows = "\n".join(f"  {key} = {_text(value)}" for key, value in sorted(values.items()))
    return f"[{name}]\n{rows}" if rows else ""


def _autostop(service: Service) -> str:
    return str(service.autostop) if isinstance(service.autostop, str) else "off"


def _kept(duration: timedelta) -> timedelta:
    return min(max(duration, SHORTEST), LONGEST)


def _text(value: str | None) -> str:
    """Return a TOML string; JSON's are such, but for the one control character that it leaves be."""
    return json.dumps(value or "", ensure_ascii=False).replace("\x7f", "\\u007f")
