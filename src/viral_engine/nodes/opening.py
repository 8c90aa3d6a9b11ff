from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping

# Patroni loads these only when it starts: here, so that the second this takes is not lost while
# etcd elects its leader.
import patroni.dcs.etcd3  # type: ignore[import-untyped] # Patroni ships no types
import patroni.ha  # type: ignore[import-untyped] # noqa: F401 - for its loading alone
from patroni.__main__ import main as patroni_main  # type: ignore[import-untyped] # as above

from viral_engine.nodes.etcd import EtcdGateway
from viral_engine.nodes.machine import EtcdCluster, Machine
from viral_engine.nodes.patroni import config_key
from viral_engine.nodes.profile import DYNAMIC_CONFIGURATION
from viral_engine.nodes.wire import UnreachableError

__all__ = ["open_store_then_patroni"]

ASK_EVERY_S = 0.1
SAY_EVERY = 50


def open_store_then_patroni(environ: Mapping[str, str]) -> None:
    """Wait for a store that has a leader and the settings, then be Patroni until it ends."""
    asyncio.run(_wait_for_store(environ))
    patroni_main()


async def _wait_for_store(environ: Mapping[str, str]) -> None:
    """Return once etcd has a leader and holds what all nodes are told.

    Both before Patroni starts: without a leader it would sleep five seconds at a time, and without
    the settings its first rounds would take ten. There is no deadline: a machine that waits for
    the others is not broken, and one that gave up would not be there when they come.
    """
    machine = Machine.from_environ(environ)
    cluster = EtcdCluster.from_environ(environ)
    gateway = EtcdGateway(cluster.nearest_first(machine.region))
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
            sys.stdout.write(f"waits for a majority of etcd: {seen}\n")
            sys.stdout.flush()
        await asyncio.sleep(ASK_EVERY_S)
