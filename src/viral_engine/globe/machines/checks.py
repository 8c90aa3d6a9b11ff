"""The checks of a machine, made from its own region as the platform's host would."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from viral_engine.fly.model import Check, MachineConfig

OpenSocket = Callable[[], Awaitable[socket.socket]]

EAGER_INTERVAL = 0.25
"""Seconds between attempts until a check has passed once."""

SHORTEST_INTERVAL = 0.1
"""Seconds; a check that asks for less would occupy the platform."""

LONGEST_STATUS_LINE = 8192

PASSING, WARNING, CRITICAL = "passing", "warning", "critical"


@dataclass(frozen=True, slots=True)
class NamedCheck:
    """A check with the name and the port that the platform gives it."""

    name: str
    port: int
    check: Check


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one attempt found."""

    status: str
    output: str


def checks_of(config: MachineConfig) -> tuple[NamedCheck, ...]:
    """All checks of a machine, services' first, named as Fly.io names them."""
    found: list[NamedCheck] = []
    for service in config.services:
        for check in service.checks:
            port = check.port or service.internal_port
            name = f"servicecheck-{len(found):02d}-{check.type}-{port}"
            found.append(NamedCheck(name, port, check))
    for name, check in config.checks.items():
        found.append(NamedCheck(name, check.port or 0, check))
    return tuple(found)


async def attempt(named: NamedCheck, address: str, open_socket: OpenSocket) -> CheckResult:
    """Make one attempt within the check's timeout; never raises."""
    check = named.check
    try:
        async with asyncio.timeout(check.timeout.total_seconds()):
            connection = await open_socket()
            with connection:
                await asyncio.get_running_loop().sock_connect(connection, (address, named.port))
                if check.type == "tcp":
                    return CheckResult(PASSING, "connected")
                return await _http(connection, check, f"{address}:{named.port}")
    except TimeoutError:
        return CheckResult(CRITICAL, f"no answer within {check.timeout.total_seconds():g} s")
    except OSError as exc:
        return CheckResult(CRITICAL, exc.strerror or str(exc))
    except (OverflowError, ValueError) as exc:  # a port or a header that cannot be
        return CheckResult(CRITICAL, str(exc))


async def _http(connection: socket.socket, check: Check, host: str) -> CheckResult:
    """Send the request and judge it by its status line; redirects fail, as on Fly.io."""
    loop = asyncio.get_running_loop()
    headers = "".join(f"{h.name}: {', '.join(h.values)}\r\n" for h in check.headers)
    request = f"{check.method} {check.path} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n"
    await loop.sock_sendall(connection, request.encode())
    head = b""
    while b"\r\n" not in head and len(head) < LONGEST_STATUS_LINE:
        if not (chunk := await loop.sock_recv(connection, 4096)):
            break
        head += chunk
    parts = head.split(b"\r\n", 1)[0].decode(errors="replace").split(" ", 2)
    code = parts[1] if len(parts) > 1 else "nothing"
    return CheckResult(PASSING if code.startswith("2") else CRITICAL, f"HTTP {code}")


async def watch(
    named: NamedCheck,
    address: str,
    open_socket: OpenSocket,
    tell: Callable[[str, CheckResult], None],
) -> None:
    """Attempt for ever at the check's interval, eagerly until the first pass; tell every result."""
    grace = named.check.grace_period.total_seconds()
    started = asyncio.get_running_loop().time()
    passed = False
    while True:
        result = await attempt(named, address, open_socket)
        passed = passed or result.status == PASSING
        in_grace = asyncio.get_running_loop().time() - started < grace
        if not passed and in_grace:
            result = CheckResult(WARNING, result.output)
        tell(named.name, result)
        interval = max(named.check.interval.total_seconds(), SHORTEST_INTERVAL)
        await asyncio.sleep(interval if passed else min(EAGER_INTERVAL, interval))
