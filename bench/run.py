"""``make bench``: measure a deployment in two regions beside the same app in one."""

import os
import sys
from pathlib import Path

# Run by its path, so that only its own folder is importable.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
