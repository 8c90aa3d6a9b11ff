"""Tells what every database's Patroni says of itself, as a line of JSON several times a second.

Run by bench/soak_faults.py inside a region's private network. It imports little and stays, since a
command that starts for each look would take the CPUs from what is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection, HTTPException
from typing import Any

LOOK_EVERY_S = 0.4
ANSWERS_WITHIN_S = 1.0


def say(address: str, path: str) -> Any:
    """Return what a Patroni answers; None where it is silent."""
    connection = HTTPConnection(address, 8008, timeout=ANSWERS_WITHIN_S)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()


def look(addresses: Mapping[str, str], near: str, pool: ThreadPoolExecutor) -> Mapping[str, Any]:
    """Return what each database says by its region, and whether one may take over at any moment."""
    own = dict(
        zip(addresses, pool.map(partial(say, path="/patroni"), addresses.values()), strict=True)
    )
    members = (say(addresses[near], "/cluster") or {}).get("members", ())
    standbys = [m for m in members if m["role"] in {"sync_standby", "quorum_standby"}]
    return {
        "ready": any(one["state"] == "streaming" for one in standbys),
        "databases": {
            region: {"role": said.get("role"), "state": said.get("state"),
                     "timeline": said.get("timeline"),
                     "streaming": said.get("replication_state") == "streaming"}
            for region, said in own.items() if said
        },
    }  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Look until the output is closed: the region that is near, and addresses by region as JSON."""
    near, addresses = arguments[0], json.loads(arguments[1])
    with ThreadPoolExecutor(len(addresses)) as pool:
        while True:
            print(json.dumps(look(addresses, near, pool)), flush=True)
            time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main(sys.argv[1:])
