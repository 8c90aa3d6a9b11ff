"""The rules about fly.toml: each has a file that breaks it and one that does not."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from viral_engine.cli.main import viral
from viral_engine.errors import MisuseError
from viral_engine.fly.fly_toml import TOML_RULES, Finding, lint
from viral_engine.fly.fly_toml.keys import ANY_NAME, KEYS, Keys, Kind

GUIDE = (Path(__file__).parent / "guide_fly.toml").read_text("utf-8")
"""The file of the guide, as it stands there."""

CHECK = """\
  [[http_service.checks]]
    path = "/api/health"
    interval = "15s"
    timeout = "5s"
    grace_period = "20s"
    [http_service.checks.headers]
      X-Forwarded-Proto = "https"

"""

CLEAN = f"""\
app = "shop"
primary_region = "iad"
kill_signal = "SIGTERM"
kill_timeout = "30s"

[deploy]
  strategy = "rolling"
  max_unavailable = 1

[env]
  LOG_LEVEL = "info"

[processes]
  app = "viral node app"

[http_service]
  internal_port = 8080
  processes = ["app"]
  force_https = true
  auto_stop_machines = "off"

  [http_service.concurrency]
    type = "requests"
    soft_limit = 200
    hard_limit = 250

{CHECK}[[restart]]
  policy = "on-failure"

[[vm]]
  size = "shared-cpu-1x"
  memory = "1gb"
"""

SECOND_SERVICE = '[[services]]\nprocesses = ["app"]\ninternal_port = {port}\n[[services.ports]]\nport = {outer}\n'

# For each rule: what to put in place of what, so that it is broken, or what to add at the end; and
# the line that is then to be named.
BREAKS = {
    "VE-TOML-001": ("[http_service.concurrency]", "[http_service.concurency]", 22),
    "VE-TOML-002": ("", SECOND_SERVICE.format(port=8080, outer=5000), 41),
    "VE-TOML-003": ("", "[http_service.autoscaling.regions.syd]\nmin_count = 1\n", 41),
    "VE-TOML-004": ('grace_period = "20s"', 'grace_period = "20s"\nrestart_limit = 3', 32),
    "VE-TOML-005": ("hard_limit = 250", "", 22),
    "VE-TOML-006": ("force_https", "min_machines_running = 1\nforce_https", 19),
    "VE-TOML-007": ('stop_machines = "off"', 'stop_machines = "suspend"', 20),
    "VE-TOML-008": ("X-Forwarded-Proto", "X-Other", 27),
    "VE-TOML-009": ("", '[[mounts]]\nsource = "data"\ndestination = "/data"\n', 7),
    "VE-TOML-010": ('grace_period = "20s"', "", 27),
    "VE-TOML-011": ('kill_timeout = "30s"', "kill_timeout = 301", 4),
    "VE-TOML-012": ("LOG_LEVEL", "FLY_REGION", 11),
    "VE-TOML-013": ('stop_machines = "off"', "stop_machines = false", 20),
    "VE-TOML-014": ("hard_limit = 250", "hard_limit = 501", 25),
    "VE-TOML-015": ('"30s"', '"30 s"', 4),
    "VE-TOML-016": ("LOG_LEVEL", "PHX_HOST", 11),
    "VE-TOML-017": (CHECK, "", 16),
    "VE-TOML-018": ('interval = "15s"', 'interval = "500ms"', 29),
    "VE-TOML-019": ('"iad"', '"sea"', 2),
    "VE-TOML-020": ('processes = ["app"]', "", 16),
    "VE-TOML-021": ('"requests"', '"connections"', 22),
    "VE-TOML-022": ("soft_limit = 200", "soft_limit = 251", 24),
    "VE-TOML-023": ("max_unavailable = 1", "max_unavailable = 0.33", 8),
    "VE-TOML-024": ('"1gb"', '"4gb"', 40),
    "VE-TOML-025": ('"on-failure"', '"sometimes"', 36),
    "VE-TOML-026": ("LOG_LEVEL", "DATABASE_PASSWORD", 11),
    "VE-TOML-027": ("", '[[vm]]\nsize = "shared-cpu-2x"\nmemory = "1gb"\n', 41),
    "VE-TOML-028": ('"SIGTERM"', '"SIGSTOPPED"', 3),
}  # fmt: skip


def codes(findings: tuple[Finding, ...]) -> set[str]:
    return {finding.rule.code for finding in findings}


def broken(code: str) -> str:
    old, new, _ = BREAKS[code]
    text = CLEAN.replace(old, new, 1) if old else CLEAN + new
    assert text != CLEAN
    return text.replace('"rolling"', '"bluegreen"') if code == "VE-TOML-009" else text


def of(code: str, text: str) -> list[Finding]:
    return [finding for finding in lint(text) if finding.rule.code == code]


def test_a_file_as_it_should_be_breaks_no_rule() -> None:
    assert lint(CLEAN) == ()


def test_every_rule_has_a_code_of_its_own_and_a_file_that_breaks_it() -> None:
    assert [rule.code for rule in TOML_RULES] == sorted(BREAKS)


@pytest.mark.parametrize("code", BREAKS)
def test_a_rule_finds_the_file_that_breaks_it_and_names_the_line(code: str) -> None:
    text = broken(code)
    tomllib.loads(text)
    first = of(code, text)[0]
    assert first.problem
    assert first.line == BREAKS[code][2]


@pytest.mark.parametrize("rule", TOML_RULES, ids=lambda rule: rule.code)
def test_a_rule_says_why_and_what_to_do_and_who_says_so(rule: Any) -> None:
    for words in (rule.title, rule.why, rule.fix, rule.source):
        assert len(words) > 10, rule.code


def test_the_guides_file_shows_every_erratum_that_it_can() -> None:
    findings = lint(GUIDE)
    found = [(finding.rule.code, finding.line) for finding in findings]
    assert found == [
        ("VE-TOML-011", None),  # 5 s to drain
        ("VE-TOML-023", None),  # P4: a rolling deploy knows no regions
        ("VE-TOML-016", 6),  # T10
        ("VE-TOML-016", 9),  # T10
        ("VE-TOML-017", 12),  # T2: the checks are in the other service
        ("VE-TOML-013", 15),  # T4
        ("VE-TOML-006", 17),  # T6
        ("VE-TOML-014", 21),  # T7
        ("VE-TOML-002", 25),  # T2
        ("VE-TOML-005", 25),  # the limits are in the other service
        ("VE-TOML-004", 43),  # T3
        ("VE-TOML-003", 46),  # T1
        ("VE-TOML-003", 48),  # T1
        ("VE-TOML-003", 53),  # T1
    ]


def test_the_guides_ways_to_save_show_theirs() -> None:
    stopping = "[http_service]\nauto_stop_machines = true\nmin_machines_running = 0\n"
    assert {"VE-TOML-007", "VE-TOML-013"} <= codes(lint(stopping))  # T5, P9
    secondary = '[[vm]]\ncpu_kind = "shared"\ncpus = 1\nmemory_mb = 1024\n'
    assert "VE-TOML-024" not in codes(lint(secondary))  # T8: it is valid
    assert "VE-TOML-027" in codes(lint(secondary * 2))  # T9: but not for a region
    asymmetric = "[http_service.autoscaling.regions.syd]\nmin_count = 1\nmax_count = 5\n"
    assert "VE-TOML-003" in codes(lint(asymmetric))


def test_an_unknown_key_comes_with_the_nearest_known_one() -> None:
    (finding,) = of("VE-TOML-001", CLEAN.replace("max_unavailable", "max_unavailible"))
    assert finding.problem == 'unknown key "max_unavailible"; did you mean "max_unavailable"?'
    assert (finding.line, finding.path) == (8, "deploy.max_unavailible")
    (finding,) = of("VE-TOML-001", CLEAN + "[[htp_service]]\nanything = 1\n")
    assert 'did you mean "http_service"?' in finding.problem
    (finding,) = of("VE-TOML-001", CLEAN.replace("max_unavailable = 1", "region_wave = 1"))
    assert "known here: strategy, max_unavailable" in finding.problem


def test_the_second_table_of_an_array_is_named_and_placed_by_itself() -> None:
    text = CLEAN + "[[http_service.checks]]\npath = '/b'\nrestart_limit = 1\n"
    (finding,) = of("VE-TOML-004", text)
    assert (finding.path, finding.line) == ("http_service.checks.#2.restart_limit", 43)


@pytest.mark.parametrize(
    ("second", "meets"),
    [
        (SECOND_SERVICE.format(port=8080, outer=5000), True),
        (SECOND_SERVICE.format(port=9000, outer=443), True),
        (SECOND_SERVICE.format(port=9000, outer=5000), False),
        (SECOND_SERVICE.format(port=8080, outer=443).replace('"app"', '"other"'), False),
        (f'[[services]]\nprotocol = "udp"{SECOND_SERVICE.format(port=8080, outer=443)[12:]}', False),
    ],
)  # fmt: skip
def test_two_services_meet_only_on_a_port_of_one_machine(second: str, meets: bool) -> None:
    assert ("VE-TOML-002" in codes(lint(CLEAN + second))) == meets


@pytest.mark.parametrize(
    ("size", "wrong"),
    [
        ('size = "shared-cpu-1x"', False),
        ('size = "shared-cpu-3x"', True),
        ('size = "performance-2x"\nmemory = "16gb"', False),
        ('size = "performance-2x"\nmemory = "17gb"', True),
        ('cpu_kind = "dedicated"', True),
        ('cpu_kind = "performance"\ncpus = 1\nmemory_mb = 1024', True),
        ("memory_mb = 2048", False),
        ('memory = "512"', False),
    ],
)
def test_a_size_is_judged_as_the_platform_reads_it(size: str, wrong: bool) -> None:
    assert ("VE-TOML-024" in codes(lint(f"[[vm]]\n{size}\n"))) == wrong


def test_more_cpus_carry_more_requests() -> None:
    text = CLEAN.replace("hard_limit = 250", "hard_limit = 900")
    assert of("VE-TOML-014", text)
    assert not of("VE-TOML-014", text.replace("shared-cpu-1x", "shared-cpu-2x"))


def test_a_secret_is_named_and_never_shown() -> None:
    text = CLEAN.replace("LOG_LEVEL = 'info'", "").replace(
        "[env]", '[env]\n  SOURCE = "postgres://me:hunter2@db/shop"'
    )
    (finding,) = of("VE-TOML-026", text)
    assert "SOURCE" in finding.problem
    assert "hunter2" not in repr(finding)


@pytest.mark.parametrize(
    ("text", "line"), [("app = ", 1), ("a = 1\n[b\n", 2), ('a = 1\nb = "x\ny"', 2)]
)
def test_a_file_that_is_no_toml_is_misuse_and_names_its_line(text: str, line: int) -> None:
    with pytest.raises(MisuseError, match=f"fly.toml, line {line}: not valid TOML"):
        lint(text)


ODD = [
    "1", "-1", "true", '"x"', '""', "1.5", "nan", "inf", "1979-05-27", "07:32:00", "[]", "[1]",
    "[[1]]", "[{}]", "[{ a = 1 }]", "{}", "{ a = { b = 1 } }", '["app"]', '"300s"',
    "99999999999999999999", "[{ port = 'x' }]", "{ regions = 1 }",
]  # fmt: skip


def places(keys: Keys) -> Iterator[str]:
    """Yield every key that a file has, dotted."""
    for name, known in keys.items():
        here = "any" if name == ANY_NAME else name
        yield here
        if not isinstance(known, Kind):
            yield from (f"{here}.{inner}" for inner in places(known))


@pytest.mark.parametrize("value", ODD)
def test_whatever_stands_in_a_file_it_is_judged_and_never_breaks_the_judge(value: str) -> None:
    for place in [*places(KEYS), "http_service.autoscaling", "services.tcp_checks.restart_limit"]:
        table, _, key = place.rpartition(".")
        for text in (f"{place} = {value}\n", f"[[{table}]]\n{key} = {value}\n" if table else ""):
            for finding in lint(text):
                assert finding.line in {None, 1, 2}


def run(*args: str) -> Result:
    return CliRunner().invoke(viral, ["lint", *args], catch_exceptions=False)


def test_the_command_ends_with_1_for_errors_and_0_for_warnings(tmp_path: Path) -> None:
    path = tmp_path / "fly.toml"
    path.write_text(GUIDE, "utf-8")
    result = run(str(path))
    assert result.exit_code == 1
    assert f"{path}:25: error VE-TOML-002 [[services]] is a second service" in result.stdout
    assert "fix  Keep one: [http_service]" in result.stdout
    assert result.stdout.endswith("6 errors, 8 warnings\n")
    path.write_text(CLEAN.replace("max_unavailable = 1", ""), "utf-8")
    assert (run(str(path)).exit_code, run(str(path)).stdout.count("warning")) == (0, 2)
    path.write_text(CLEAN, "utf-8")
    assert run(str(path)).stdout == f"{path}: nothing is wrong with it\n"


def test_the_command_prints_json_for_programs(tmp_path: Path) -> None:
    path = tmp_path / "fly.toml"
    path.write_text(GUIDE, "utf-8")
    result = run(str(path), "--json")
    said = json.loads(result.stdout)
    assert (result.exit_code, said["errors"], said["warnings"]) == (1, 6, 8)
    assert {one["rule"] for one in said["findings"]} == codes(lint(GUIDE))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "not UTF-8"),
        (textwrap.dedent("app = 1\n[x").encode(), "line 2: not valid TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_misuse(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "fly.toml"
    if content is not None:
        path.write_bytes(content)
    result = run(str(path), "--json")
    assert result.exit_code == 2
    assert said in json.loads(result.stdout)["error"]["message"]
