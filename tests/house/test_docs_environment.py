"""The page about what an app finds around it names all that the code sets, sends and answers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import viral_engine
from viral_engine.cluster import ClusterView, NodeView, Role
from viral_engine.data import (
    Detour,
    Ignored,
    Lost,
    Need,
    Route,
    RouteKind,
    SessionToken,
    decide,
)
from viral_engine.fly.model import MachineConfig, Mount
from viral_engine.globe.logbook import LogBook
from viral_engine.globe.machines.record import MachineRecord
from viral_engine.globe.platform import Network, Platform
from viral_engine.lsn import Lsn
from viral_engine.operations.blueprint import Addresses, Blueprint, places
from viral_engine.operations.secrets import Secrets
from viral_engine.topology.model import default_deployment

SOURCE = Path(viral_engine.__file__).parent
PAGES = Path(__file__).parents[2] / "docs" / "reference"
PAGE = (PAGES / "environment.md").read_text("utf-8")


def source(*rooms: str) -> str:
    """Return the text of all modules and scripts of some rooms."""
    found = (path for room in rooms for path in sorted((SOURCE / room).rglob("*")))
    return "\n".join(p.read_text("utf-8") for p in found if p.suffix in {".py", ".lua"})


def column(section: str, number: int = 0) -> set[str]:
    """Return the marked words in one column of a section's tables."""
    text = PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row[number])}


def environments() -> dict[str, set[str]]:
    """Return the names in the environment of each kind of machine, the region's left open."""
    deployment = default_deployment()
    here = dict.fromkeys((*deployment.region_codes, "yyz"), "10.10.1.10")
    blueprint = Blueprint(
        deployment, Secrets.make(), Addresses(here, here, here, here), "image", "app", {}
    )
    secrets = blueprint.app_secrets()
    return {
        place.role: {
            re.sub(r"^(READ_REPLICA|REDIS)_[A-Z]{3}_URL$", r"\1_<REGION>_URL", name)
            for name in (*blueprint.config(place, "vol_1").env, *secrets[place.app])
        }
        for place in places(deployment)
    }


def set_by_the_platform(tmp_path: Path) -> set[str]:
    platform = Platform(
        tmp_path, cast("Network", SimpleNamespace()), cast("LogBook", None), {}, isolate=False
    )
    config = MachineConfig(image="x", mounts=(Mount(volume="vol_1", path="/data"),))
    record = MachineRecord("1", "demo", "app", "iad", 0, "127.0.0.1", config)
    return set(platform.environment_of(record))


def test_the_environment_of_an_app_machine_is_the_one_of_the_page(tmp_path: Path) -> None:
    given = environments()["app"] | set_by_the_platform(tmp_path) - {"VIRAL_DATA"}
    assert given == column("The environment of an app machine")


def test_the_environment_of_the_other_machines_is_on_the_page(tmp_path: Path) -> None:
    apps = column("The environment of an app machine")
    given = set_by_the_platform(tmp_path).union(*environments().values())
    said = column("The environment of the other machines")
    assert given - apps <= said
    read = set(re.findall(r"\bVIRAL_[A-Z_]*[A-Z]\b", source("nodes", "globe")))
    assert said <= read


def views() -> list[ClusterView]:
    """Return every kind of view that a machine in London can have."""
    near = [
        (),
        *(
            (NodeView("lhr", Role.REPLICA, 1, Lsn(lsn), lag, reachable, None, "", cluster),)
            for reachable in (True, False)
            for lsn in (1, 9)
            for lag in (0.0, None)
            for cluster in (1, 2)
        ),
    ]
    primaries = [
        NodeView(
            region, Role.PRIMARY, 1, Lsn(9), 0.0, True, None, guarded=guarded, holds_primacy=holds
        )
        for region in ("lhr", "iad")
        for guarded in (True, False)
        for holds in (True, False)
    ]
    return [
        *(ClusterView(None, nodes) for nodes in near),
        ClusterView(None, (NodeView("iad", Role.REPLICA, 1, Lsn(9), 0.0, True, None, "", 1),)),
        *(
            ClusterView(primary.region, (*(() if primary.region == "lhr" else nodes), primary))
            for nodes in near
            for primary in primaries
        ),
    ]


def tokens() -> list[SessionToken | None]:
    """Return every kind of token that a client can have."""
    now = datetime.now(UTC)
    made = [SessionToken(1, timeline, Lsn(5), now) for timeline in (1, 2)]
    return [None, *made]


def decisions() -> set[Route]:
    """Return every route that can be decided before a handler runs."""
    return {
        decide(
            need,
            here="lhr",
            view=view,
            replayed=replayed,
            token=token,
            waited=waited,
            movable=movable,
        )
        for need, view, replayed, token, waited, movable in product(
            Need, views(), (False, True), tokens(), (False, True), (False, True)
        )
    }


def made_elsewhere() -> set[str]:
    """Return the routes that are made by name in the source, whatever was decided."""
    text = source("web", "data")
    words = dict(re.findall(r'^([A-Z_]+) = "([a-z-]+)"', text, re.MULTILINE))
    found = re.findall(r'Route\(RouteKind\.(\w+), ("?)([\w.-]+)', text)
    words |= {f"Detour.{detour.name}": detour for detour in Detour}
    return {
        f"{kind.lower()}; reason={why}"
        for kind, quote, word in found
        for why in (Detour if word == "bound.detour" else [word if quote else words.get(word)])
        if why is not None  # what decide() works out
    }


def test_every_route_that_can_be_taken_is_on_the_page_and_no_other() -> None:
    routes = {word for word in column("Headers of an answer") if "; reason=" in word}
    assert routes == {route.name for route in decisions()} | made_elsewhere()


def test_every_header_of_the_runtime_is_on_the_page_and_no_other() -> None:
    known = set(re.findall(r'b"((?:viral|idempotency)-[a-z-]+)"', source("web")))
    assert {name for name in known if f"`{name}`" not in PAGE} == set()
    said = column("Headers of an answer") | column("Headers of a request")
    ours = {word.split(":")[0] for word in said if re.match("viral-|idempotency-", word)}
    assert ours <= known


def test_every_reason_to_ignore_a_token_is_on_its_page_and_no_other() -> None:
    text = (PAGES / "consistency.md").read_text("utf-8").split("## Tokens that count as none")[1]
    said = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert sorted(said) == sorted([*Ignored, "viral-session-ignored"])


def test_everything_that_can_be_lost_is_on_its_page_and_no_other() -> None:
    text = (PAGES / "consistency.md").read_text("utf-8").split("## After a failover")[1]
    said = re.findall(r"^\| `([a-z-]+)` \|", text.split("\n## ")[0], re.MULTILINE)
    assert sorted(said) == sorted([*Lost, "viral-session-lost"])


def test_every_problem_is_on_the_page_and_no_other() -> None:
    text = source("web", "service")
    problems = set(re.findall(r'code="([a-z-]+)"', text))
    problems |= set(re.findall(r'[Pp]roblem\(\s*\d+,\s*"([a-z-]+)"', text))
    problems |= set(re.findall(r'\d{3}: "([a-z-]+)"', text)) | {"refused"}
    # What is refused before its handler: its problem is the reason of its route.
    refused = (route for route in decisions() if route.kind is RouteKind.DEGRADED)
    problems |= {route.reason for route in refused if "-and-" not in route.reason}
    assert column("Errors of the runtime and of the task service") == problems


def test_every_code_of_the_edge_is_on_the_page_and_no_other() -> None:
    assert column("Errors of the edge") == set(
        re.findall(r"\[(P[A-Z]\d\d)\]", source("globe/edge"))
    )


def test_every_wish_of_a_user_is_on_the_page_and_no_other() -> None:
    asked = set(re.findall(r'headers:get\("(fly-(?:prefer|force)[a-z-]+)"\)', source("globe/edge")))
    said = {word.split(":")[0] for word in column("Headers of a request")}
    of_the_runtime = {word for word in said if re.match("viral-|idempotency-", word)}
    assert said - of_the_runtime == asked | {"flyio-debug"}
