"""Commands and queries that do not do what they are typed for: rules as data."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from viral_engine.fly.fly_toml.rule import Rule, Severity
from viral_engine.fly.runbook.pieces import Piece
from viral_engine.topology.regions import all_regions

__all__ = ["TEXT_RULES", "TextRule"]

Find = Callable[[Piece], Iterator[tuple[int, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRule(Rule):
    """A rule about pieces in a language; ``find`` yields lines and what is wrong there."""

    language: str = "shell"
    find: Find


def typed(pattern: str, problem: str) -> Find:
    """Find commands that match a pattern."""
    compiled = re.compile(pattern)

    def find(piece: Piece) -> Iterator[tuple[int, str]]:
        for line, command in piece.commands():
            if compiled.search(command):
                yield line, problem

    return find


def repeated_secrets(piece: Piece) -> Iterator[tuple[int, str]]:
    """Find secrets that are set one call after the other."""
    calls = [
        line
        for line, command in piece.commands()
        if re.search(rf"{FLY} secrets set\b(?!.*--stage\b)", command)
    ]
    for line in calls[1:]:
        yield (
            line,
            f"call {calls.index(line) + 1} of {len(calls)}, each of which restarts every machine",
        )


def stopped_uncordoned(piece: Piece) -> Iterator[tuple[int, str]]:
    """Find machines that are stopped and were not cordoned before."""
    cordoned = False
    for line, command in piece.commands():
        cordoned = cordoned or bool(re.search(rf"{FLY} machines? cordon\b", command))
        if re.search(rf"{FLY} machines? stop\b", command) and not cordoned:
            yield line, "the next request starts it again"


def restarted_twice(piece: Piece) -> Iterator[tuple[int, str]]:
    """Find restarts after secrets were set."""
    secrets = False
    for line, command in piece.commands():
        secrets = secrets or bool(re.search(rf"{FLY} secrets set\b(?!.*--stage)", command))
        if secrets and re.search(rf"{FLY} apps restart\b", command):
            yield line, "setting the secret has restarted every machine already"


def lag_on_the_wrong_side(piece: Piece) -> Iterator[tuple[int, str]]:
    """Find a replica's clock asked on the primary."""
    both = "pg_last_xact_replay_timestamp" in piece.text and "pg_stat_replication" in piece.text
    for line, text in enumerate(piece.text.splitlines(), start=piece.first):
        if both and "pg_last_xact_replay_timestamp" in text:
            yield line, "always NULL where pg_stat_replication has rows"


FLY = r"\bfly(?:ctl)?"
_CODES = "|".join(all_regions())
_FLYCTL = "superfly/flyctl (ad0172fac, 2026-08-21)"
_DOCS = "https://fly.io/docs"

TEXT_RULES = (
    TextRule(
        code="VE-CMD-002",
        severity=Severity.ERROR,
        title="fly deploy --region",
        why="There is no such option: the command ends with `unknown flag`.",
        fix="`--primary-region iad` at the first deploy; later ones are held to regions by `--regions iad`.",
        source=f"{_FLYCTL}, internal/command/deploy",
        find=typed(rf"{FLY} deploy\b[^|;&]*\s--region[ =]", "deploy has no option --region"),
    ),
    TextRule(
        code="VE-CMD-004",
        severity=Severity.WARNING,
        title="fly postgres create",
        why="It makes machines that nobody but you looks after, and whose failover stays in one region.",
        fix="`viral deploy`, or `fly mpg create` for a managed database in one region.",
        source=f"{_DOCS}/postgres/",
        find=typed(rf"{FLY} (postgres|pg) create\b(?!.*--fork-from)", "an unmanaged database"),
    ),
    TextRule(
        code="VE-CMD-006",
        severity=Severity.ERROR,
        title="A fork in place of a replica",
        why="--fork-from copies a volume once: what is written afterwards never arrives. It must be in "
        "the region of its source, too.",
        fix="`fly machine clone ID --region lhr -a APP-db` makes a replica of such a cluster; `viral deploy` "
        "makes one in every region.",
        source=f"{_FLYCTL}, internal/command/postgres/create.go",
        find=typed(rf"{FLY} (postgres|pg) create\b.*--fork-from", "a fork is no replica"),
    ),
    TextRule(
        code="VE-CMD-007",
        severity=Severity.WARNING,
        title="fly postgres db list for addresses",
        why="It lists the databases inside the cluster, and no address of any.",
        fix="DATABASE_URL is set by `fly postgres attach`; a replica's is the same with port 5433.",
        source=f"{_DOCS}/postgres/connecting/",
        find=typed(rf"{FLY} (postgres|pg) db list\b", "it names databases, not their addresses"),
    ),
    TextRule(
        code="VE-CMD-010",
        severity=Severity.WARNING,
        title="Secrets set one by one",
        why="Each call makes a release and restarts every machine. Secrets are the same in all regions: "
        "a second call for another region replaces the first.",
        fix="Set all in one call, or each with `--stage` and then `fly secrets deploy`.",
        source=f"{_DOCS}/apps/secrets/",
        find=repeated_secrets,
    ),
    TextRule(
        code="VE-CMD-012",
        severity=Severity.WARNING,
        title="fly regions list",
        why="A hidden command of an older platform; it shows where machines are, not where they may be.",
        fix="`fly scale show`, or `viral regions`.",
        source=_FLYCTL,
        find=typed(rf"{FLY} regions list\b", "a hidden command"),
    ),
    TextRule(
        code="VE-CMD-014",
        severity=Severity.ERROR,
        title="fly machine list --region",
        why="There is no such option, and -q prints a table: what is handed on to another command is not ids.",
        fix="""`fly machine list --json | jq -r '.[] | select(.region == "iad") | .id'`, or `viral machines --region iad --json`.""",
        source=f"{_FLYCTL}, internal/command/machine/list.go",
        find=typed(rf"{FLY} machines? list\b[^|)]*--region\b", "machine list has no option --region"),
    ),
    TextRule(
        code="VE-CMD-015",
        severity=Severity.WARNING,
        title="fly redis create once for each region",
        why="Each makes a store of its own at another company: what is published in one is never heard in "
        "the other.",
        fix="One with `--replica-regions`, or the cache that `viral deploy` runs in every region.",
        source=f"{_DOCS}/upstash/redis/",
        find=typed(rf"{FLY} redis create\b(?!.*--replica-regions)", "a store that others do not hear"),
    ),
    TextRule(
        code="VE-CMD-017",
        severity=Severity.WARNING,
        title="fly ips allocate-v4",
        why="An address of its own costs 2 dollars a month, and the command asks before. The first deploy "
        "gives a shared IPv4 address and an IPv6 one, which do for HTTP.",
        fix="Nothing, or `--shared`; `--yes` where nobody sits at a terminal.",
        source=f"{_DOCS}/networking/services/",
        find=typed(rf"{FLY} ips allocate-v4\b(?!.*--shared)", "an address that is paid for"),
    ),
    TextRule(
        code="VE-CMD-023",
        severity=Severity.ERROR,
        title="fly logs --region all",
        why="It shows the lines of a region by the name of all, which there is not: nothing.",
        fix="Leave the option out.",
        source=f"{_FLYCTL}, logs",
        find=typed(rf"{FLY} logs\b.*--region[ =]all\b", 'no region is called "all"'),
    ),
    TextRule(
        code="VE-CMD-025",
        severity=Severity.ERROR,
        title="A search for fly-region in an answer",
        why="It is a header of requests, and names the edge that a user came by. No answer has it.",
        fix="Look for `viral-region`, which every answer of the runtime has; else for the end of "
        "`fly-request-id`, the edge.",
        source=f"{_DOCS}/networking/request-headers/",
        find=typed(r"\bcurl\b.*(?i:fly-region)", "no answer has the header fly-region"),
    ),
    TextRule(
        code="VE-CMD-026",
        severity=Severity.ERROR,
        title="fly logs in a pipe that waits for its end",
        why="It follows for ever, so that a command which sorts or counts never prints; and the columns "
        "of its lines are no contract.",
        fix="`--no-tail --json`, or a metric by region.",
        source=f"{_FLYCTL}, internal/command/logs",
        find=typed(rf"{FLY} logs\b(?!.*--no-tail).*\|.*\b(sort|wc|tail|uniq)\b", "it never ends"),
    ),
    TextRule(
        code="VE-CMD-027",
        severity=Severity.WARNING,
        title="A machine stopped, and not cordoned before",
        why="With auto_start_machines, the default, the platform starts it with the next request; and "
        "what it serves at the moment is cut.",
        fix="`viral stop`, or `fly machine cordon` before, and `fly machine stop` after its last request.",
        source=f"{_DOCS}/reference/fly-proxy-autostop-autostart/",
        find=stopped_uncordoned,
    ),
    TextRule(
        code="VE-CMD-030",
        severity=Severity.ERROR,
        title="fly postgres failover with a name",
        why="The name is ignored, a fork has no cluster to fail over in, and a cluster promotes nobody "
        "outside its primary region.",
        fix="`viral failover --to lhr` while the primary lives, `viral promote lhr` when it is lost.",
        source=f"{_FLYCTL}, internal/command/postgres/failover.go",
        find=typed(rf"{FLY} (postgres|pg) failover\s+[^-\s]", "the name is ignored"),
    ),
    TextRule(
        code="VE-CMD-032",
        severity=Severity.WARNING,
        title="A restart after secrets were set",
        why="`fly secrets set` has restarted every machine, one after the other.",
        fix="Leave it out.",
        source=f"{_DOCS}/apps/secrets/",
        find=restarted_twice,
    ),
    TextRule(
        code="VE-CMD-033",
        severity=Severity.ERROR,
        title="A host name by region",
        why="An app has one name in all regions; one with a region at its end is another app's, or nobody's.",
        fix="The app's own name with the header `fly-prefer-region: lhr`.",
        source=f"{_DOCS}/networking/dynamic-request-routing/",
        find=typed(rf"https?://[\w-]+-({_CODES})\.fly\.dev", "there is no host name by region"),
    ),
    TextRule(
        code="VE-CMD-034",
        severity=Severity.WARNING,
        title="Load from a region by a variable",
        why="It sets a variable of the script. The load comes from where the command runs, by the edge that is "
        "nearest to it.",
        fix="Run it in that region: `viral exec lhr -- k6 run ...`.",
        source="k6's own options: grafana.com/docs/k6/latest/using-k6/k6-options/",
        find=typed(r"^(?!.*viral exec).*\bk6 run\b.*(--env|-e)[ =]REGION=", "the load comes from here"),
    ),
    TextRule(
        code="VE-CMD-036",
        severity=Severity.ERROR,
        title="k6 results",
        why="There is no such command.",
        fix="The summary at the end of a run; `--summary-export FILE` keeps it.",
        source="k6's own commands: grafana.com/docs/k6/latest/using-k6/k6-options/",
        find=typed(r"\bk6 results\b", "k6 has no command results"),
    ),
    TextRule(
        code="VE-SQL-001",
        severity=Severity.ERROR,
        title="A replica's clock asked on the primary",
        why="pg_last_xact_replay_timestamp() is NULL on a primary, and pg_stat_replication has rows there "
        "only: the lag is never a number, and an alert on it never rings.",
        fix="On the primary `replay_lag` and `pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)`; on a replica "
        "the timestamp, and 0 where all that was received is replayed.",
        source="https://www.postgresql.org/docs/current/monitoring-stats.html",
        language="sql",
        find=lag_on_the_wrong_side,
    ),
)  # fmt: skip
