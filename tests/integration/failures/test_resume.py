"""Killed at a random moment and started again: nothing is lost, nothing is done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

KILLS = 4


def start(config: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.cli", "sweep", str(config), "--json"],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])},
    )


@pytest.mark.slow
def test_killed_and_started_again(smoke_config, tmp_path) -> None:
    trials = tmp_path / "runs" / "trials"
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    kept: dict[str, bytes] = {}
    killed = 0
    for _ in range(KILLS):
        process = start(smoke_config)
        try:
            process.communicate(timeout=moments.uniform(5.0, 30.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += 1
        time.sleep(1.0)
        now = {p.name: p.read_bytes() for p in trials.glob("*.parquet")}
        assert all(now[name] == data for name, data in kept.items()), f"seed {seed}: a record changed"
        kept = now
    process = start(smoke_config)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert (result["failed"], result["trials"]) == (0, 8)
    assert result["skipped"] == len(kept), f"seed {seed}: a finished trial was run again"
    now = {p.name: p.read_bytes() for p in trials.glob("*.parquet")}
    assert len(now) == 8 and all(now[name] == data for name, data in kept.items())
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name == "goodnet"]
    runs = client.search_runs([experiment.experiment_id])
    keys = [r.data.tags["goodnet.trial_key"] for r in runs if "mlflow.parentRunId" in r.data.tags]
    assert len(keys) == len(set(keys)) == 8 and len(runs) == 9
    print(f"killed {killed} of {KILLS} times (seed {seed}); 8 records and 8 runs, none twice")
