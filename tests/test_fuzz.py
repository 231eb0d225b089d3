"""A short run of the fuzz suite; ``make fuzz`` is the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_hostile_files_end_in_one_line() -> None:
    """Several hundred inputs of all kinds: no traceback, no hang, no growth, nothing outside touched."""
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--count", "600", "--seed", "7", "--json"], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": ".:tests"},  # as the Makefile has it
        capture_output=True, text=True, timeout=600, check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sum(kind["done"] for kind in found["kinds"].values()) == 600
    for kind in found["kinds"].values():
        assert kind["failed"] == 0 and kind["taken"] > 0 and kind["refused"] > 0
        assert kind["slowest_us"] < 6e6 and kind["peak_kb"] < 2**20
    assert found["outside"] == [] and found["failures"] == []
