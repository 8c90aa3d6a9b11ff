"""``python -m viral_engine.nodes database|witness|cache``: the short way in, without the CLI."""

from __future__ import annotations

import os
import sys
from typing import cast, get_args

from viral_engine.nodes.entry import Kind, main

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in get_args(Kind):
        sys.exit(f"usage: python -m viral_engine.nodes {'|'.join(get_args(Kind))}")
    sys.exit(main(cast("Kind", sys.argv[1]), os.environ))
