"""``make bench``: all that is measured, in one run on one machine, to docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import compaction, many
from tests.bench.lab import ROOT, SIZE, the_lab
from tests.bench.nets import __main__ as nets
from tests.bench.nets.measure import NETS
from tests.bench.page import write_page

Found = dict[str, Any]
TRIALS = {
    "margin, X = 4": {"policy": "margin", "x": 4},
    "margin, X = 10": {"policy": "margin", "x": 10},
    "attack-success, X = 10": {"policy": "attack-success", "x": 10},
    "seed, X = 10": {"policy": "seed", "x": 10},
}


def measured(name: str, **arguments: Any) -> Found:
    """Run one measure in a process of its own."""
    shown = ", ".join(f"{k}={v}" for k, v in arguments.items())
    print(f"{time.strftime('%H:%M:%S')} {name} {shown}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.bench.measure", name, json.dumps(arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def keras(python: str, images: int, candidates: int) -> Found | None:
    """The author's procedure in Keras, by another interpreter; None without the real weights."""
    lab = the_lab()
    if lab.folder is None:
        return None
    split = lab.split("valid", images)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        np.savez(file, clean=split.clean.pixels, poisoned=split.poisoned.pixels, labels=split.clean.labels)
        script = ROOT / "tests" / "bench" / "author" / "keras_loop.py"
        command = [python, str(script), str(lab.folder / "bd_weights.h5"), str(file), str(candidates)]
        quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}
        print(f"{time.strftime('%H:%M:%S')} keras", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=quiet)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--images", type=int, default=SIZE, help="clean images, and as many poisoned")
    parser.add_argument("--candidates", type=int, default=4, help="on which the author's script is timed")
    parser.add_argument("--keras", metavar="PYTHON", help="an interpreter that has TensorFlow")
    parser.add_argument("--trials", type=int, default=1000, help="of the smallest net, by each executor")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=nets.USUAL, help="of performance-nets.md")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance.md")
    given = parser.parse_args()
    size = given.images
    counted = min(size, 1500)
    made = min(size, 1000)
    fractions = [max(64, size // part) for part in (8, 4, 2)]
    found: Found = {
        "images": size,
        "rate": measured("rate"),
        "author": measured("author", images=size, candidates=given.candidates),
        "keras": keras(given.keras, size, given.candidates) if given.keras else None,
        "plain": measured("plain", images=size),
        "trials": {label: measured("trial", images=size, **case) for label, case in TRIALS.items()},
        "half": measured("trial", images=size, memory_gb=2.0, **TRIALS["margin, X = 4"]),
        "counted": counted,
        "operations": {
            label: measured("operations", images=counted, **case) for label, case in TRIALS.items()
        },
        "grid": measured("grid", images=size, alone=6),
        "many": many.measured(given.trials, ["inline", "ray"]),
        "by_images": [
            {"images": n, "plain": measured("plain", images=n),
             "trial": measured("trial", images=n, **TRIALS["margin, X = 4"])}
            for n in fractions
        ],
        "by_channels": [
            {"channels": c, **measured("chain", images=made, channels=c, depth=4)} for c in (8, 16, 32, 64)
        ],
        "by_depth": [
            {"depth": d, **measured("chain", images=made, channels=16, depth=d)} for d in (3, 5, 7, 9)
        ],
    }  # fmt: skip
    write_page(found, given.out)
    print(given.out)
    compaction.main(given.out.with_name("compaction.md"))
    page = str(given.out.with_name("performance-nets.md"))
    nets.main(["--images", str(min(size, 2000)), "--out", page, "--nets", *given.nets])


if __name__ == "__main__":
    main()
