"""The rules about commands and queries: each with lines that break it and lines that do not."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner

from viral_engine.cli.main import viral
from viral_engine.errors import MisuseError
from viral_engine.fly.fly_toml import lint
from viral_engine.fly.runbook import RULES, lint_text
from viral_engine.fly.runbook.rules import TEXT_RULES

GUIDE_TOML = (Path(__file__).parent / "guide_fly.toml").read_text("utf-8")

LAG = "SELECT client_addr, EXTRACT(EPOCH FROM (now() - pg_last_xact_replay_timestamp())) FROM {}"

# For each rule a text that breaks it, mostly as the guide has it, its line, and one that does not.
TEXTS = {
    "VE-CMD-002": ("fly deploy --region iad --app viral-engine", 1,
                   ("fly deploy --regions iad\nfly deploy --primary-region iad\n"
                    "fly deploy && fly logs --region lhr")),
    "VE-CMD-004": ("fly postgres create --name viral-engine-db --region iad", 1, "fly mpg create"),
    "VE-CMD-006": (("fly postgres create --name db-replica \\\n  --region lhr \\\n"
                   "  --fork-from viral-engine-db"), 1, "fly machine clone 1 --region lhr -a db"),
    "VE-CMD-007": ("fly postgres db list -a viral-engine-db", 1, "fly postgres attach db -a x"),
    "VE-CMD-010": ("fly secrets set A=1 -a x\n\nfly secrets set B=2 -a x", 3,
                   ("fly secrets set A=1 --stage\nfly secrets set B=2 --stage\n"
                    "fly secrets set C=3\nfly secrets deploy")),
    "VE-CMD-012": ("# Verify\nfly regions list -a viral-engine", 2, "fly scale show"),
    "VE-CMD-014": ("fly machine cordon 1\nfly machines stop $(fly machines list --region iad -q)",
                   2, "fly machine list --json | jq '.[]' # --region"),
    "VE-CMD-015": ("fly redis create --name redis-iad --region iad", 1,
                   "fly redis create --region iad --replica-regions lhr"),
    "VE-CMD-017": ("fly ips allocate-v4 -a viral-engine", 1, "fly ips allocate-v4 --shared"),
    "VE-CMD-023": ("fly logs -a viral-engine --region all", 1, "fly logs --region lhr"),
    "VE-CMD-025": ("curl -v https://x/api/health 2>&1 | grep -i fly-region", 1,
                   "curl -s -i https://x/ -H 'fly-prefer-region: lhr' | grep viral-region"),
    "VE-CMD-026": ("fly logs -a x | grep ERROR | awk '{print $3}' | sort | uniq -c", 1,
                   "fly logs --no-tail --json | sort\nfly logs | grep ERROR"),
    "VE-CMD-027": ("$ fly machines stop 148e21 -a viral-engine", 1,
                   "fly machine cordon 148e21\nfly machine stop 148e21"),
    "VE-CMD-030": ("fly postgres failover viral-engine-db-replica", 1,
                   "fly postgres failover --app viral-engine-db"),
    "VE-CMD-032": ("fly secrets set A=1\nfly apps restart viral-engine", 2,
                   "fly secrets set A=1 --stage\nfly apps restart x"),
    "VE-CMD-033": ("curl https://viral-engine-lhr.fly.dev", 1,
                   "curl https://viral-engine.fly.dev -H 'fly-prefer-region: lhr'"),
    "VE-CMD-034": ("k6 run --env BASE_URL=https://x --env REGION=iad load.js", 1,
                   "viral exec iad -- k6 run -e REGION=iad load.js"),
    "VE-CMD-036": ("k6 results --summary", 1, "k6 run --summary-export out.json load.js"),
    "VE-SQL-001": (f"-- lag\n{LAG.format('pg_stat_replication')}", 2,
                   "SELECT replay_lag FROM pg_stat_replication"),
}  # fmt: skip


def found(code: str, text: str) -> list[int | None]:
    name = "lag.sql" if "SQL" in code else "drill.sh"
    return [one.line for one in lint_text(text, name) if one.rule.code == code]


def test_every_rule_about_text_has_a_text_that_breaks_it() -> None:
    assert [rule.code for rule in TEXT_RULES] == list(TEXTS)
    assert len({rule.code for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("code", TEXTS)
def test_a_rule_finds_what_breaks_it_on_its_line_and_nothing_else(code: str) -> None:
    wrong, line, right = TEXTS[code]
    assert found(code, wrong) == [line]
    assert found(code, right) == []


def test_a_replicas_own_query_is_right() -> None:
    assert found("VE-SQL-001", LAG.format("pg_stat_wal_receiver")) == []


GUIDE = """\
# A guide

Never type `fly deploy --region iad`.

```bash
# Deploy
fly deploy --region iad
```

1. In a list:
   ```toml
   [[vm]]
     size = "shared-cpu-3x"
   ```

```toml
[regions.iad]
min = 2
```

```toml
[http_service]
  ...
```

~~~sql
SELECT pg_last_xact_replay_timestamp()
  FROM pg_stat_replication;
~~~

```elixir
System.cmd("fly deploy --region iad")
```
"""


def test_a_guide_is_judged_by_its_blocks_and_each_has_its_lines() -> None:
    assert [(one.rule.code, one.line) for one in lint_text(GUIDE, "guide.md")] == [
        ("VE-CMD-002", 7), ("VE-TOML-024", 13), ("VE-SQL-001", 27),
    ]  # fmt: skip


def test_a_part_of_a_file_is_not_asked_for_the_rest_of_it() -> None:
    part = "[http_service]\n  auto_stop_machines = true\n"
    codes = {one.rule.code for one in lint_text(f"```toml\n{part}```\n", "guide.md")}
    assert codes == {"VE-TOML-007", "VE-TOML-013"}
    assert codes < {one.rule.code for one in lint(part)}


def test_a_whole_file_in_a_guide_is_judged_as_one() -> None:
    guide = f"words\n\n```toml\n{GUIDE_TOML}```\n"
    inside = [(one.rule.code, (one.line or 0) - 3) for one in lint_text(guide, "guide.md")]
    alone = [(one.rule.code, one.line or 1) for one in lint_text(GUIDE_TOML, "fly.toml")]
    assert sorted(inside) == sorted(alone)


def test_a_file_by_any_other_name_is_a_fly_toml() -> None:
    assert lint_text(GUIDE_TOML, "fly.production") == lint(GUIDE_TOML)
    assert lint_text("", "empty.md") == ()
    with pytest.raises(MisuseError, match="line 1"):
        lint_text("fly deploy", "fly.toml")


def test_the_command_reads_a_guide(tmp_path: Path) -> None:
    path = tmp_path / "guide.md"
    path.write_text(GUIDE, "utf-8")
    result = CliRunner().invoke(viral, ["lint", str(path)], catch_exceptions=False)
    assert result.exit_code == 1
    assert f"{path}:7: error VE-CMD-002 deploy has no option --region" in result.stdout
    path.write_text(textwrap.dedent("# Nothing here\n"), "utf-8")
    assert CliRunner().invoke(viral, ["lint", str(path)]).exit_code == 0
