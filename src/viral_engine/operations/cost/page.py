"""The documentation page about costs, written from the prices and assumptions themselves.

The page is written by ``python -m viral_engine.operations.cost.page docs/reference/cost.md``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from viral_engine.operations.cost.assumptions import describe
from viral_engine.topology.prices import MONTH_S, Figure, Prices, prices
from viral_engine.topology.regions import all_regions

__all__ = ["cost_page"]

_INTRO = """\
# What it costs

<!-- Written from src/viral_engine/topology/data/ and operations/cost/ by `make docs`. Change it there. -->

`viral cost` ([commands](commands.md)) multiplies what a deployment declares, or what the platform really has, with the
prices below. It is an estimate: US dollars for a month of 30 days, before taxes.

- **Counted**: machines of every role (stopped ones by their root file system), volumes, answers that leave a region for
  users, the log that the primary streams to other regions, snapshots, certificates, IPv4 addresses.
- **Not counted**: what etcd and Patroni say to each other (a few kB a second), builds of images, support, services of
  others, and discounts. What is free for an organization is counted as if this deployment had all of it.
- Users are divided among the regions by their weights; writes and strong reads are answered by the primary's region and
  cost there to leave. In an active-passive deployment it answers everything.
"""


def cost_page(known: Prices) -> str:
    """Return the page, in Markdown."""
    return "\n".join([_INTRO, _assumptions(), _figures(known), _regions(known)])


def _assumptions() -> str:
    rows = "".join(
        f"| `{name}` | {value:f} | {words} |\n" for name, (value, words) in describe().items()
    )
    return (
        "## Assumptions\n\nWhat no file declares. Change any with `--assume NAME=VALUE`.\n\n"
        f"| name | default | what it is |\n| --- | --- | --- |\n{rows}"
    )


def _figures(known: Prices) -> str:
    rows = ""
    for name in known.__dataclass_fields__:
        one = getattr(known, name)
        if isinstance(one, Figure):
            free = f"; the first {one.free} free" if one.free else ""
            rows += f"| `{name}` | {one.usd:f} | {one.per}{free} | {one.source} | {one.read} |\n"
    return (
        f"## Prices\n\nA month has {MONTH_S} seconds. The platform changes them: look before you count on one.\n\n"
        f"| name | US dollars | for each | source | read |\n| --- | --- | --- | --- | --- |\n{rows}"
    )


def _regions(known: Prices) -> str:
    rows = "".join(
        f"| {code} | {all_regions()[code].city} | {one.factor:.4f} | {one.egress_gb:f} | {one.private_gb:f} |\n"
        for code, one in known.regions.items()
    )
    return (
        "## Prices by region\n\nMachines cost iad's price times the factor; a GB that leaves the region costs as much "
        "as is said, to users or to another region. Sources and dates: `topology/data/regions.json`.\n\n"
        f"| region | | factor | to users | to regions |\n| --- | --- | --- | --- | --- |\n{rows}"
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(cost_page(prices()), encoding="utf-8")
