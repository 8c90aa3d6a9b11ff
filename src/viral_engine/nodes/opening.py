from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Mapping

# Patroni loads these only when it starts: here, so that the second this takes is not lost while
# etcd elects its leader.
import patroni.dcs.etcd3  # type: ignore[import-untyped] # Patroni ships no types
import patroni.ha  # type: ignore[import-untyped] # noqa: F401 - for its loading alone
from patroni.__main__ import main as patroni_main  # type: ignore[import-untyped] # as above

from viral_engine.cluster.etcd import EtcdGateway
from viral_engine.cluster.wire import UnreachableError
from viral_engine.nodes.machine import EtcdCluster, Machine
from viral_engine.nodes.patroni import config_key, last_primary, leader_key, sync_key
from viral_engine.nodes.profile import DYNAMIC_CONFIGURATION

__all__ = ["open_store_then_patroni"]

ASK_EVERY_S = 0.1
SAY_EVERY = 50
HEAD_START_S = 4.0


def open_store_then_patroni(environ: Mapping[str, str]) -> None:
    """Wait for a store that has a leader and the settings, then be Patroni until it ends."""
    asyncio.run(_prepare(environ))
    # Patroni's HTTP server asks DNS for its own name, which it never uses: where no DNS answers,
    # as in a network of our own, that costs ten seconds of every start.
    socket.getfqdn = lambda name="": name
    patroni_main()


async def _prepare(environ: Mapping[str, str]) -> None:
    machine = Machine.from_environ(environ)
    cluster = EtcdCluster.from_environ(environ)
    gateway = EtcdGateway(cluster.nearest_first(machine.region))
    await _wait_for_store(gateway, machine)
    try:
        async with asyncio.timeout(HEAD_START_S):
            await _let_the_last_primary_lead(gateway, machine)
    except (TimeoutError, UnreachableError) as reason:
        _say(f"starts without waiting any longer for the last primary ({reason!r})")


async def _wait_for_store(gateway: EtcdGateway, machine: Machine) -> None:
    """Return once etcd has a leader and holds what all nodes are told.

    Both before Patroni starts: without a leader it would sleep five seconds at a time, and without
    the settings its first rounds would take ten. There is no deadline: a machine that waits for
    the others is not broken, and one that gave up would not be there when they come.
    """
    told = json.dumps(DYNAMIC_CONFIGURATION)
    asked = 0
    while True:
        try:
            if (await gateway.status()).leader != 0:
                await gateway.put_if_absent(config_key(machine.cluster), told)
                return
            seen = "it knows no leader"
        except UnreachableError as error:
            seen = str(error)
        asked += 1
        if asked % SAY_EVERY == 0:
            _say(f"waits for a majority of etcd: {seen}")
        await asyncio.sleep(ASK_EVERY_S)


async def _let_the_last_primary_lead(gateway: EtcdGateway, machine: Machine) -> None:
    """Return when there is a primary, or when the last one was here or there was none.

    When all machines start again, whichever came first would become the primary. The last one has
    what it acknowledged alone, so it goes first.
    """
    noted = await gateway.value_of(sync_key(machine.cluster))
    last = last_primary(noted)
    while last not in {None, machine.region}:
        if await gateway.value_of(leader_key(machine.cluster)) is not None:
            return
        await asyncio.sleep(ASK_EVERY_S)


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()
