"""The page about the commands says what the commands are, and what they print for programs."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import pytest
from click.testing import CliRunner

from viral_engine.cli import fault, regions, status
from viral_engine.cli.down import down
from viral_engine.cli.main import viral
from viral_engine.cli.steps import JsonSteps
from viral_engine.cli.welcome import welcome
from viral_engine.fly.client import FlyClient
from viral_engine.fly.model import App, ExecResult, Machine
from viral_engine.globe.edges import Edges
from viral_engine.globe.faults import Faults
from viral_engine.globe.logbook import LogLine
from viral_engine.globe.network.addresses import AddressPlan, NetworkMode
from viral_engine.globe.network.links import FaultKind, NetworkFault, anycast_routes
from viral_engine.globe.platform import Platform
from viral_engine.globe.world import Globe, GlobeSpec
from viral_engine.operations.observe import TOLD

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "commands.md").read_text("utf-8")
COMMANDS, JSON = PAGE.split("\n## JSON\n")
SECTIONS = dict(
    re.findall(r"^### `(viral[^`]*)`\n(.*?)(?=^##|\Z)", COMMANDS, re.MULTILINE | re.DOTALL)
)
REGIONS = ("iad", "lhr", "yyz")


def tree(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Return every command with its full name, groups included."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from tree(found, f"{name} {child}")


ALL = dict(tree(viral, "viral"))


def said_options(section: str) -> set[str]:
    """Return the options that a section names where options are listed."""
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("|")]
    also = re.findall(r"Also `[^.]*\.", section)
    return set(re.findall(r"`(--?[a-z][a-z0-9-]*)", " ".join([*rows, *also])))


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert sorted(SECTIONS) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_a_section_names_every_option_and_no_other(name: str) -> None:
    options = {
        spelling
        for one in ALL[name].params
        if isinstance(one, click.Option)
        for spelling in [*one.opts, *one.secondary_opts]
    }
    assert said_options(SECTIONS.get(name, "")) == options - {"-h", "--help"}


@pytest.mark.parametrize("name", ALL)
def test_a_section_names_every_argument(name: str) -> None:
    arguments = {
        one.make_metavar(click.Context(ALL[name])).strip("[].")
        for one in ALL[name].params
        if isinstance(one, click.Argument)
    }
    assert {one for one in arguments if f"`{one}`" not in SECTIONS.get(name, "")} == set()


def paths(value: object, at: str = "") -> Iterator[str]:
    """Return the paths of all leaves, as the page writes them."""
    if at in {"addresses.edges", "anycast", "engines"}:  # keyed by names, not by words of ours
        name = {"engines": "<engine>", "anycast": "users:<region>"}.get(at, "<region>")
        yield f"{at}.{name}"
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, f"{at}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        leaves = [leaf for inner in value for leaf in paths(inner, f"{at}[]")]
        yield from leaves or [f"{at}[]"]
    else:
        yield at


class Told:
    """A platform with three machines, of which one database answers, one is silent."""

    def __init__(self, status: dict[str, Any]) -> None:
        self._status = status

    async def list_apps(self) -> list[App]:
        return [App(id="demo", name="demo")]

    async def list_machines(self, _app: str) -> list[Machine]:
        return [machine("database", "iad"), machine("database", "lhr"), machine("app", "lhr")]

    async def exec(self, _app: str, machine: str, *_: object, **__: object) -> ExecResult:
        if machine == "database-lhr":
            return ExecResult(exit_code=1, stderr="silent")
        said: dict[str, Any] = {**dict.fromkeys(TOLD), "etcd": {"leader": "yyz"}}
        return ExecResult(exit_code=0, stdout=json.dumps(said | {"role": "replica"}))

    async def request(self, _method: str, _path: str) -> dict[str, Any]:
        return self._status


def machine(role: str, region: str) -> Machine:
    raw = {
        "id": f"{role}-{region}", "name": role, "state": "started", "region": region,
        "instance_id": "1", "private_ip": "127.0.0.1", "created_at": "", "updated_at": "",
        "config": {"image": "x", "metadata": {"fly_process_group": role}},
    }  # fmt: skip
    return Machine.model_validate(raw)


@pytest.fixture
def globe(tmp_path: Path) -> Globe:
    """A globe that is not entered, and so has no process, but can be asked what it would say."""
    spec = GlobeSpec(
        home=tmp_path, regions=REGIONS, edges=("iad", "lhr"), near="iad", mode=NetworkMode.WAN,
        why_mode="as root", rtt_factor=1.0, port=None, environ={},
        envoy=Path("envoy"),
    )  # fmt: skip
    made = Globe(spec, _ports={"anycast": 1, "iad": 2, "lhr": 3, "api": 4})
    made._edges = cast("Edges", SimpleNamespace(alive=frozenset({"iad"})))
    made._anycast = anycast_routes(REGIONS, frozenset({"iad"}))
    return made


@pytest.fixture
async def facts(globe: Globe) -> dict[str, Any]:
    running = SimpleNamespace(process=SimpleNamespace(pause=lambda: None))
    platform = SimpleNamespace(
        runners={"app-lhr": running},
        network=SimpleNamespace(plan=AddressPlan(NetworkMode.WAN, REGIONS)),
    )

    async def put_in_force(_faults: tuple[NetworkFault, ...]) -> None:
        """There are no packets."""

    edges = cast("Edges", SimpleNamespace(regions=("iad",)))
    faults = Faults(cast("Platform", platform), NetworkMode.WAN, apply=put_in_force, edges=edges)
    await faults.add({"kind": "cut", "regions": ["iad", "lhr"]})
    await faults.add({"kind": "pause", "machine": "app-lhr"})
    told = Told(globe.status() | {"faults": faults.in_force()})
    return await status.gather(cast("FlyClient", told)) | {"engines": {"etcd": "3.5.1"}}


def test_every_key_of_the_status_is_on_the_page_and_no_other(facts: dict[str, Any]) -> None:
    table = JSON.split("### `status --json`")[1].split("###")[0]
    said = [key for line in table.splitlines() for key in re.findall(r"`([^`]+)`", first(line))]
    assert sorted(said) == sorted(set(paths(facts)))


def first(line: str) -> str:
    """Return the first cell of a table's row."""
    return line.split(" | ", maxsplit=1)[0] if line.startswith("| `") else ""


def row(name: str) -> set[str]:
    """Return the words that the rest of a row marks as keys."""
    (found,) = re.findall(rf"^\| `{re.escape(name)}` \| (.*)$", JSON, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", found))


def test_the_events_of_up_have_the_keys_of_the_page(
    globe: Globe, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = JsonSteps()
    steps.begun("one")
    steps.seen("one", "two")
    steps.done("one", 1.0)
    welcome(globe, [machine("app", "iad")], steps, primary="iad", declared="iad")
    for event in map(json.loads, capsys.readouterr().out.splitlines()):
        of_machines = set().union(*event.get("machines", ()))
        assert set(event) - {"event"} | of_machines == row(event["event"]), event


def test_the_rows_of_regions_and_logs_have_the_keys_of_the_page(facts: dict[str, Any]) -> None:
    assert set(regions._running(facts)[0]) == row("regions --json")
    assert set(regions._platform("iad")[0]) == row("regions --all --json")
    assert {one.name for one in dataclasses.fields(LogLine)} == row("logs --json")


def printed(command: click.Command, *args: str) -> set[str]:
    done = CliRunner().invoke(command, [*args, "--json"])
    assert done.exit_code == 0, done.output
    return set(json.loads(done.stdout))


def test_what_faults_and_the_end_print_has_the_keys_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fault, "with_client", lambda *_: 1)
    assert printed(fault.fault, "cut", "iad", "lhr") == row("fault … --json")
    assert printed(fault.fault, "kill", "x") == row("fault kill --json")
    assert printed(fault.fault, "clear") == row("fault clear --json")
    (tmp_path / "globe.json").touch()
    assert printed(down, "--purge", "--home", str(tmp_path)) == row("down --json")


def test_the_exit_codes_and_the_kinds_of_fault_are_the_ones_of_the_page() -> None:
    assert re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE) == ["0", "1", "2"]
    kinds = {kind.value for kind in FaultKind} | {"pause", "kill", "outage"}
    assert {name.split()[-1] for name in SECTIONS if name.startswith("viral fault ")} == {
        *kinds,
        "clear",
    }
