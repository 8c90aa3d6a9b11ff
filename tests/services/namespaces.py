"""Where tests that need namespaces run: here, inside a user namespace, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from viral_engine.globe.network import linux
from viral_engine.globe.network.choose import why_no_wan

INSIDE = """
import sys
from viral_engine.globe.network.addresses import NetworkMode
from viral_engine.globe.network.choose import prepare
prepare(NetworkMode.WAN)
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def can_make_namespaces() -> bool:
    """Whether this very process can: as root, or because it is inside a user namespace."""
    try:
        os.close(linux.new_network_namespace())
    except OSError:
        return False
    return True


def require_namespaces() -> None:
    """Skip with the reason where there are none, or fail where they were demanded."""
    if can_make_namespaces():
        return
    reason = why_no_wan()
    if reason is None:
        pytest.skip("an ordinary user: it runs in a process inside a user namespace")
    if os.environ.get("VIRAL_REQUIRE_WAN"):
        pytest.fail(f"wan was required and cannot be had here: {reason}")
    pytest.skip(f"namespaces cannot be had here: {reason}")


def run_again_inside(file: str) -> None:
    """Run the tests of a file in a user namespace, where this process has no rights of its own."""
    if can_make_namespaces():
        pytest.skip("the tests of this file ran in this process")
    if why_no_wan() is not None:
        require_namespaces()
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, "-q", "-m", "wan", "-p", "no:cacheprovider", file],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
