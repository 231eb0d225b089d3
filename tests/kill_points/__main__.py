"""``make kill-points``: python -m kill_points [--count 20] [--seed N]"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from servers import MISSING, postgres_programs

from kill_points.harness import run_kill_points


def main() -> int:
    parser = argparse.ArgumentParser(prog="kill_points", description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="kill points in all")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    if postgres_programs() is None:
        print(MISSING, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="goodnet-kill-points-") as folder:
        outcome = run_kill_points(Path(folder), options.count, options.seed, print)
    print(outcome.table())
    return 0 if outcome.right else 1


if __name__ == "__main__":
    sys.exit(main())
