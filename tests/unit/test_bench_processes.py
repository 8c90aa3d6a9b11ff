from __future__ import annotations

import pytest
from bench.processes import idle_between, part_of, pss_in, waits_in

PYTHON = ("python", "-m", "viral_engine.cli.main")


@pytest.mark.parametrize(
    ("command", "part"),
    [
        (("/somewhere/bin/postgres", "-D", "/data/postgres"), "postgres"),
        (("postgres: viral-engine: walsender viral_replication 10.10.2.1(47458)",), "postgres"),
        (("/somewhere/etcd", "--name=iad"), "etcd"),
        (("/somewhere/envoy", "--config-path", "b.json"), "envoy"),
        (("/somewhere/valkey-server 10.10.1.11:6379",), "valkey"),
        (("python", "-m", "viral_engine.nodes.patroni_start", "patroni.yml"), "patroni"),
        (("python", "-m", "viral_engine.globe.network.hub", '{"places": []}'), "hub"),
        (
            ("python", "-I", "-S", "/src/globe/machines/init.py", '{"argv": ["viral node app"]}'),
            "inits",
        ),
        ((*PYTHON, "node", "app"), "app"),
        ((*PYTHON, "node", "database"), "supervisors"),
        ((*PYTHON, "up", "--json", "--regions", "iad,lhr"), "globe"),
        (("sleep", "1"), "other"),
        ((), "other"),
    ],
)
def test_every_process_of_a_globe_belongs_to_a_part(command: tuple[str, ...], part: str) -> None:
    assert part_of(command) == part


def test_memory_is_the_proportional_share_and_not_its_components() -> None:
    text = "00400000-7fff r--p 00 00:00 0 [rollup]\nRss: 9 kB\nPss: 12 kB\nPss_Anon: 5 kB\n"
    assert pss_in(text) == 12 * 1024
    assert pss_in("Rss: 9 kB\n") is None


def test_waits_of_all_threads_are_added() -> None:
    assert waits_in(["500 1500000000 10\n", "7 500000000 5\n"]) == (2.0, 15)
    assert waits_in([]) is None
    assert waits_in([""]) is None


def test_a_machine_that_waits_for_its_disk_has_cpus_left_and_guests_count_once() -> None:
    before = {"user": 10.0, "guest": 5.0, "idle": 50.0, "iowait": 1.0}
    after = {"user": 13.0, "guest": 8.0, "idle": 55.0, "iowait": 3.0}
    assert idle_between(before, after) == 0.7
    assert idle_between(before, before) == 0
