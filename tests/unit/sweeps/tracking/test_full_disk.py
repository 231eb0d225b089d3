"""A disk that is full in mid-sweep: one line from us, and no traceback of another library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# The largest file that the process may write stands in for a disk that fills up.
FULL = """
import os, resource, signal, sys
from factories import make_manifest, make_record
from sweeps.tracking.background import BackgroundTracking
from sweeps.tracking.mlflow_runs import Tracking
store = sys.argv[1]
record = make_record(steps=[(985, 400)] * 400)
manifest = make_manifest([record])
tracking = Tracking(f"sqlite:///{store}/mlflow.db", "full", f"{store}/artifacts")
tracking.start_sweep(manifest, {})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
size = os.path.getsize(f"{store}/mlflow.db")
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, resource.RLIM_INFINITY))
background = BackgroundTracking(lambda: tracking, manifest, {}, lambda line: print("WARNED", line))
background.log_trial(record.key, "done", lambda: record)
print("LEFT", background.close(20))
"""


def test_a_disk_that_fills_up_is_one_line(tmp_path: Path) -> None:
    here = Path(__file__).resolve().parents[3]
    said = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": f"{here}:{here.parent}"},
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("WARNED") == 1 and "is the disk full?" in said.stdout
    assert "LEFT ['trial trial-a']" in said.stdout
    assert "Traceback" not in said.stdout + said.stderr
    assert "sqlalchemy" not in (said.stdout + said.stderr).lower()
