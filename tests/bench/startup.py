"""CPU seconds that commands take before they do anything: python -m tests.bench.startup [GOODNET...].

Each GOODNET is a console script to measure, the one of this environment without any. User and system time,
of the process alone: the reader that it starts is ended with it and not counted. The least of three calls.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CALLS = 3
MOST = {"--help": 0.35, "--version": 0.35, "frontier": 1.0, "sweep, nothing to do": 4.0}


def seconds(command: Sequence[str | Path], folder: Path) -> float | None:
    """CPU seconds of one call, children that it waited for included; None when it fails."""
    with (folder / "said").open("w") as said:
        process = subprocess.Popen([str(c) for c in command], cwd=folder, stdout=said, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return used.ru_utime + used.ru_stime if process.returncode == 0 else None


def measured(goodnet: Path, folder: Path) -> dict[str, float | None]:
    """Of each command, on a smoke sweep that is run first."""
    sweep = [goodnet, "sweep", ROOT / "configs" / "smoke.yaml", "--set", f"storage={folder}/runs"]
    for _ in range(2):  # the second call completes the log of the first, should it have to
        subprocess.run([*sweep, "--executor", "inline"], cwd=folder, check=True, capture_output=True)
    made = folder / "runs" / "embedded-smoke"
    images = ["--clean", made / "cl_test.h5", "--poisoned", made / "bd_test.h5"]
    commands: dict[str, Sequence[str | Path]] = {
        "import torch": [goodnet.parent / "python", "-c", "import torch"],
        "--help": [goodnet, "--help"],
        "--version": [goodnet, "--version"],
        "frontier": [goodnet, "frontier", "--storage", folder / "runs"],
        "inspect": [goodnet, "inspect", made / "badnet.h5"],
        "evaluate": [goodnet, "evaluate", made / "badnet.h5", *images],
        "sweep, nothing to do": sweep,
    }
    found: dict[str, float | None] = {}
    for name, command in commands.items():
        calls = [seconds(command, folder) for _ in range(CALLS)]
        found[name] = min((c for c in calls if c is not None), default=None)
    return found


def main(scripts: Sequence[Path]) -> None:
    """Print the table."""
    columns = []
    for script in scripts:
        with tempfile.TemporaryDirectory() as folder:
            columns.append(measured(script, Path(folder)))
    print("| CPU seconds |" + "".join(f" {script} |" for script in scripts) + " at most |")
    print("|---" * (len(scripts) + 2) + "|")
    for name in columns[0]:
        figures = ["-" if c[name] is None else f"{c[name]:.2f}" for c in columns]
        most = f"{MOST[name]:g}" if name in MOST else ""
        if name in ("inspect", "evaluate"):
            most = "1 more than import torch"
        print(f"| {name} | " + " | ".join(figures) + f" | {most} |")


if __name__ == "__main__":
    main([Path(a).absolute() for a in sys.argv[1:]] or [Path(sys.executable).with_name("goodnet")])
