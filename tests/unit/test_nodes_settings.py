from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from viral_engine.cluster.etcd import EtcdStatus, Lease
from viral_engine.errors import MisuseError
from viral_engine.nodes.cache import rendered as cache_file
from viral_engine.nodes.etcd import etcd_program
from viral_engine.nodes.machine import CacheSettings, DatabaseSettings, EtcdCluster, Machine, netloc
from viral_engine.nodes.patroni import last_primary, patroni_program, rendered, write_private
from viral_engine.nodes.privileges import reachable_by_all
from viral_engine.nodes.profile import DYNAMIC_CONFIGURATION, differences
from viral_engine.nodes.supervisor import restart_delay
from viral_engine.nodes.witness import should_campaign

ENVIRON = {
    "FLY_REGION": "lhr",
    "FLY_MACHINE_ID": "148e",
    "FLY_PRIVATE_IP": "fdaa::3",
    "PRIMARY_REGION": "iad",
    "VIRAL_DATA": "/data",
    "VIRAL_CLUSTER": "demo",
    "VIRAL_ETCD_MEMBERS": "iad=fdaa::2,lhr=fdaa::3,yyz=10.10.3.10",
    "VIRAL_SUPERUSER_PASSWORD": "super",
    "VIRAL_REPLICATION_PASSWORD": "replication",
    "VIRAL_APP_PASSWORD": "app",
    "VIRAL_CACHE_PASSWORD": 'ca"che\\',
}
CLUSTER = EtcdCluster.from_environ(ENVIRON)
SETTINGS = DatabaseSettings.from_environ(ENVIRON)


def machine(**changes: str) -> Machine:
    return Machine.from_environ(ENVIRON | changes)


def test_every_fault_of_the_environment_is_listed_at_once() -> None:
    with pytest.raises(MisuseError) as caught:
        Machine.from_environ({"FLY_REGION": "L H R", "FLY_PRIVATE_IP": "nowhere"})
    for name in ("FLY_REGION", "FLY_MACHINE_ID", "FLY_PRIVATE_IP", "PRIMARY_REGION"):
        assert name in caught.value.message


def test_an_etcd_member_without_an_address_is_a_fault() -> None:
    with pytest.raises(MisuseError, match="expected region=address"):
        EtcdCluster.from_environ({"VIRAL_ETCD_MEMBERS": "iad"})


def test_an_election_shorter_than_five_heartbeats_is_a_fault() -> None:
    more = {"VIRAL_ETCD_HEARTBEAT_MS": "250", "VIRAL_ETCD_ELECTION_MS": "1000"}
    with pytest.raises(MisuseError, match="VIRAL_ETCD_ELECTION_MS"):
        EtcdCluster.from_environ(ENVIRON | more)


def test_only_an_ipv6_address_gets_brackets() -> None:
    assert netloc("fdaa::3", 5432) == "[fdaa::3]:5432"
    assert netloc("10.10.3.10", 5432) == "10.10.3.10:5432"


def test_secrets_are_not_in_the_text_of_the_settings() -> None:
    assert "super" not in repr(SETTINGS).replace("superuser", "")
    assert "super" not in repr(patroni_program(machine(), SETTINGS, environ=ENVIRON))


def test_only_the_primary_region_knows_how_to_create_the_database() -> None:
    folder = Path("/engines")
    files = {
        region: json.loads(
            rendered(
                machine(FLY_REGION=region),
                SETTINGS,
                CLUSTER,
                postgres_folder=folder,
                guarded=True,
            )
        )
        for region in ("iad", "lhr")
    }
    assert "bootstrap" in files["iad"]
    assert "bootstrap" not in files["lhr"]


def test_patroni_asks_its_own_region_first_and_listens_on_the_private_address_alone() -> None:
    file = json.loads(
        rendered(machine(), SETTINGS, CLUSTER, postgres_folder=Path("/engines"), guarded=True)
    )
    assert file["etcd3"]["hosts"] == ["[fdaa::3]:2379", "[fdaa::2]:2379", "10.10.3.10:2379"]
    assert file["restapi"]["listen"] == "[fdaa::3]:8008"
    assert file["postgresql"]["listen"] == "[fdaa::3]:5432"
    assert all("scram-sha-256" in line for line in file["postgresql"]["pg_hba"])


@pytest.mark.parametrize("guarded", [True, False])
def test_no_replica_is_promoted_without_asking_for_primacy_unless_that_is_off(
    *, guarded: bool
) -> None:
    folder = Path("/engines")
    text = rendered(machine(), SETTINGS, CLUSTER, postgres_folder=folder, guarded=guarded)
    hook = json.loads(text)["postgresql"].get("pre_promote", "")
    assert hook.endswith("promotion.py /data/run") is guarded


@pytest.mark.parametrize(("said", "kept"), [("on", True), ("off", False), ("", True)])
def test_primacy_is_kept_unless_the_machine_is_told_not_to(said: str, *, kept: bool) -> None:
    assert DatabaseSettings.from_environ(ENVIRON | {"VIRAL_PRIMACY": said}).keeps_primacy is kept


def test_any_other_word_about_primacy_is_a_fault() -> None:
    with pytest.raises(MisuseError, match="VIRAL_PRIMACY is 'maybe', expected on or off"):
        DatabaseSettings.from_environ(ENVIRON | {"VIRAL_PRIMACY": "maybe"})


def test_settings_of_the_outside_do_not_reach_patroni() -> None:
    program = patroni_program(
        machine(),
        SETTINGS,
        environ={"PGHOST": "elsewhere", "PATRONI_SCOPE": "other", "PATH": "/bin"},
    )
    assert not {"PGHOST", "PATRONI_SCOPE"} & set(program.environ)
    assert program.environ["PATH"] == "/bin"


@pytest.mark.parametrize(
    ("version", "flag"),
    [
        ((3, 5, 1), "--experimental-initial-corrupt-check=true"),
        ((3, 7, 0), "--feature-gates=InitialCorruptCheck=true"),
    ],
)
def test_etcd_checks_its_data_first_by_the_flag_of_its_version(
    version: tuple[int, ...], flag: str
) -> None:
    program = etcd_program(
        machine(), CLUSTER, binary=Path("/engines/etcd"), version=version, environ={}
    )
    assert flag in program.command
    assert "--initial-cluster=iad=http://[fdaa::2]:2380,lhr=http://[fdaa::3]:2380,yyz=http://10.10.3.10:2380" in program.command  # fmt: skip
    assert not any("fsync" in argument for argument in program.command)


def test_the_password_of_the_cache_is_quoted() -> None:
    text = cache_file(machine(), CacheSettings.from_environ(ENVIRON))
    assert 'requirepass "ca\\"che\\\\"' in text.splitlines()


def test_a_private_file_is_its_owners_alone_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "patroni.yml"
    path.write_text("old")
    write_private(path, "new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_what_patroni_clamped_is_named() -> None:
    found = json.loads(json.dumps(DYNAMIC_CONFIGURATION))
    assert list(differences(DYNAMIC_CONFIGURATION, found)) == []
    found |= {"ttl": 30, "unasked": 1}
    found["postgresql"]["parameters"]["jit"] = "on"
    assert list(differences(DYNAMIC_CONFIGURATION, found)) == [
        "ttl is 30, asked for 20",
        "postgresql.parameters.jit is on, asked for off",
    ]


def test_an_engine_is_started_again_ever_later_and_given_up_after_five_exits_in_a_minute() -> None:
    exits = [100.0 + second for second in range(6)]
    delays = [restart_delay(exits[:count], 106.0) for count in range(1, 7)]
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, None]
    assert restart_delay(exits, 200.0) == 0.2


LEADER = EtcdStatus(member=1, leader=1, term=4, index=1000, version="3.5.1")
FOLLOWER = EtcdStatus(member=2, leader=1, term=4, index=998, version="3.5.1")


@pytest.mark.parametrize(
    ("own", "leader", "lease", "asked"),
    [
        (FOLLOWER, LEADER, None, True),
        (FOLLOWER, LEADER, Lease(granted_s=20, remaining_s=18), True),
        (FOLLOWER, LEADER, Lease(granted_s=20, remaining_s=12), False),
        (LEADER, LEADER, None, False),
        (FOLLOWER, FOLLOWER, None, False),
        (EtcdStatus(2, 1, 3, 998, "3.5.1"), LEADER, None, False),
        (EtcdStatus(2, 1, 4, 10, "3.5.1"), LEADER, None, False),
    ],
    ids=["no-lock", "lock-renewed", "lock-runs-out", "leads", "no-leader", "old-term", "behind"],
)
def test_the_witness_never_asks_for_the_lead_while_a_lock_is_running_out(
    own: EtcdStatus, leader: EtcdStatus, lease: Lease | None, *, asked: bool
) -> None:
    assert should_campaign(own, leader, lease) is asked


def test_a_place_behind_one_private_folder_is_not_reachable_by_all() -> None:
    modes = {Path("/"): 0o755, Path("/srv"): 0o755, Path("/srv/private"): 0o700}
    assert reachable_by_all([Path("/srv/python")], modes.__getitem__)
    assert not reachable_by_all([Path("/srv/private/python")], modes.__getitem__)


def test_the_last_primary_is_read_from_the_note_on_synchronous_standbys() -> None:
    assert last_primary('{"leader":"iad","sync_standby":"lhr"}') == "iad"
    assert last_primary('{"leader":null,"sync_standby":null}') is None
    assert last_primary(None) is None
