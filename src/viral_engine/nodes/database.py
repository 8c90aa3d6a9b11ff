from __future__ import annotations

from collections.abc import Mapping

from viral_engine.clock import BOOT_CLOCK
from viral_engine.nodes.binaries import Engines
from viral_engine.nodes.etcd import etcd_program
from viral_engine.nodes.machine import DatabaseSettings, EtcdCluster, Machine
from viral_engine.nodes.patroni import (
    config_path,
    patroni_program,
    rendered,
    write_private,
)
from viral_engine.nodes.primacy import PrimacyKeeper, primacy_path
from viral_engine.nodes.primacy_desk import primacy_desk
from viral_engine.nodes.successor import Successor
from viral_engine.nodes.supervisor import Supervisor

__all__ = ["run"]


async def run(environ: Mapping[str, str]) -> int:
    """Run a database machine until SIGTERM or SIGINT; return 0 after a clean stop.

    It is this region's etcd member, where the region has one, and Patroni, which runs PostgreSQL.
    On the stop PostgreSQL goes first and gives the lock back, then primacy is given back, then etcd
    goes, which both need. Raises
    MisuseError for a faulty environment, BinaryMissingError, and MachineFailedError once an engine
    cannot be kept running.
    """
    machine = Machine.from_environ(environ)
    settings = DatabaseSettings.from_environ(environ)
    cluster = EtcdCluster.from_environ(environ)
    engines = Engines(environ)
    engines.patroni()
    postgres_folder = engines.postgres_folder()
    member = cluster.member_of(machine.region)
    etcd = engines.etcd() if member is not None else None
    for name in ("run", "tmp", "etcd"):
        (machine.data / name).mkdir(mode=0o700, exist_ok=True)
    # Of an earlier boot, it would vouch for a deadline on another clock.
    primacy_path(machine).unlink(missing_ok=True)
    guarded = settings.keeps_primacy and BOOT_CLOCK.is_there()
    write_private(
        config_path(machine),
        rendered(machine, settings, cluster, postgres_folder=postgres_folder, guarded=guarded),
    )
    async with Supervisor() as supervisor:
        if etcd is not None:
            binary, version = etcd
            supervisor.start(
                etcd_program(machine, cluster, binary=binary, version=version, environ=environ)
            )
        if guarded:
            supervisor.attend(_keep_primacy(machine, cluster, supervisor))
        else:
            why = "there is no /proc/uptime" if settings.keeps_primacy else "VIRAL_PRIMACY is off"
            supervisor.say(f"keeps no primacy, as {why}: two nodes could acknowledge at once")
        if machine.ends_locks_early and guarded and len(cluster.members) > 1 and member is not None:
            # With a third data region in place of a witness, that one is the third site.
            supervisor.attend(Successor(machine, cluster, say=supervisor.say).run())
        supervisor.start(patroni_program(machine, settings, environ=environ))
        return await supervisor.until_stopped()


async def _keep_primacy(machine: Machine, cluster: EtcdCluster, supervisor: Supervisor) -> None:
    keeper = PrimacyKeeper(machine, cluster, say=supervisor.say)
    async with primacy_desk(keeper, machine.data / "run"):
        await keeper.run()
