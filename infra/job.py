"""Runs a sweep on the head of a cluster: the one file that `ray submit` copies there.

    ray submit infra/local.yaml infra/job.py -- CONFIG [--set KEY=VALUE]...
    ray job submit --address http://127.0.0.1:8265 -- python ~/goodnet/infra/job.py CONFIG

Whatever `python` runs it, the sweep runs in goodnet's own environment: that of GOODNET_BIN, of the
package that lies in ~/goodnet, or the one on the PATH (an image). CONFIG and relative paths in it count
from ~/goodnet where there is one. First `goodnet doctor` looks at every node; the sweep starts only if
all is well. The same command again goes on where the sweep was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find_goodnet(home: Path) -> str | None:
    """The console script of the installed package, or None."""
    folders = [os.environ.get("GOODNET_BIN"), str(home / ".venv" / "bin")]
    found = [shutil.which("goodnet", path=folder) for folder in folders if folder]
    return next(filter(None, found), None) or shutil.which("goodnet")


def main() -> None:
    home = Path(os.environ.get("GOODNET_HOME", "~/goodnet")).expanduser().resolve()
    goodnet = find_goodnet(home)
    if goodnet is None:
        print(
            f"goodnet is not installed on the head (looked in {home} and on the PATH); "
            "run infra/node.sh setup there",
            file=sys.stderr,
        )
        sys.exit(2)
    if home.is_dir():
        os.chdir(home)
    # Never a Ray of its own beside the cluster: where there is none it ends in one line.
    os.environ.setdefault("RAY_ADDRESS", "auto")
    arguments = sys.argv[1:]
    checks = [goodnet, "doctor", *(a for a in arguments if a != "--json")]
    status = subprocess.call(checks, stdout=sys.stderr)
    if status:
        sys.exit(status)
    sys.stdout.flush()
    os.execv(goodnet, [goodnet, "sweep", *arguments])


if __name__ == "__main__":
    main()
