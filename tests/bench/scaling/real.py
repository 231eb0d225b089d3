"""Trials that sleep, on real Ray workers of this machine: what one worker more costs beside all work."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from typing import Any

import goodnet
from sweeps.config.schema import make_config
from sweeps.events import SweepEvents
from sweeps.execution.make import make_executor
from sweeps.inputs.load import input_files, load_inputs
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep

Found = dict[str, Any]


class Ends(SweepEvents):
    """When trials ended, the driver's CPU by then, and which worker's they were."""

    def __init__(self) -> None:
        self.at: list[tuple[float, float, str]] = []

    def ended(self, record: TrialRecord) -> None:
        assert record.status == "done" and record.ran is not None, record.reason
        self.at.append((time.perf_counter(), time.process_time(), record.ran.worker))

    def steady(self, workers: int) -> tuple[int, int]:
        """Positions of the trial by which every worker has ended one, and of the last by which none had to
        wait for the sweep's end. Raises ValueError where some worker came too late for that."""
        seen = [worker for *_, worker in self.at]
        first = max(seen.index(worker) for worker in set(seen))
        last = len(seen) - workers
        if len(set(seen)) < workers or last <= first:
            raise ValueError(f"{len(set(seen))} of {workers} workers were up in time; more rounds are needed")
        return first, last


def sleeping(workers: int, seconds: float, rounds: int) -> Found:
    """Efficiency once every worker has ended its first trial (starting them is told apart), and the driver's
    CPU of a trial."""

    def sleep(evaluator: Any, order: Any, x: float) -> Any:
        time.sleep(seconds)
        return iter(())

    goodnet.register_policy("sleep", sleep, version=str(seconds), replace=True)
    with tempfile.TemporaryDirectory() as folder:
        config = make_config({
            "name": "sleep", "badnet": "embedded-smoke", "storage": folder,
            "resources": {"cpu": 2 / workers, "memory_gb": 0.5},
            "sweep": {"orders": ["random"], "layer_sets": ["last:1"], "x_thresholds": [4],
                      "policies": ["sleep"], "seeds": list(range(workers * (rounds + 1))), "study": "none"},
        }, "bench")  # fmt: skip
        load_inputs(input_files(config), config.sweep.repair)
        ends, begun = Ends(), time.perf_counter()
        run_sweep(config, open_storage(folder), make_executor("ray", config), ends)
    begin, end = ends.steady(workers)
    first, last, trials = ends.at[begin], ends.at[end], end - begin
    wall, cpu = last[0] - first[0], last[1] - first[1]
    return {
        "workers": workers,
        "trials": trials,
        "efficiency": trials * seconds / (workers * wall),
        "driver": cpu / trials,
        "start": first[0] - begun - seconds,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    import json

    print(json.dumps(sleeping(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))))
