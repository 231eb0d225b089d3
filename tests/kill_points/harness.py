"""A sweep whose worker, driver and MLflow server are killed at random moments, and what is left of it.

After a kill happens what a user would do: nothing for a worker; the same command again for a driver; for
the MLflow server a new one after some seconds. Sweeps follow each other until all kills are done; each
is compared with the same sweep undisturbed.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
import yaml
from mlflow import MlflowClient
from processes import end, family, start_sweep, workers
from servers import MlflowServer, mlflow_on_postgres

from sweeps.config.schema import Config, load_config
from sweeps.events import SweepEvents
from sweeps.execution.inline import InlineExecutor
from sweeps.inputs.embedded import EmbeddedFiles, make_embedded
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.planning.queue import Listed
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.manifest import read_records
from sweeps.storage.storage import Storage

VICTIMS = ("worker", "driver", "server")
# A kill comes when so many more trials are done than at the last one, one is running, and some seconds
# more have gone by; half the driver's come that long after its start.
MOST_TRIALS, LONGEST_WAIT = 3, 6.0
SERVER_AWAY = (2.0, 15.0)  # seconds until a killed server is started again
ATTEMPTS = 40  # driver starts a sweep
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What was killed, and everything that was found wrong."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    sweeps: int = 0
    driver_starts: int = 0
    trials: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.wrong

    def table(self) -> str:
        kinds = ", ".join(f"{self.kills[v]} of a {v}" for v in VICTIMS)
        lines = [
            f"seed {self.seed}: {self.kills.total()} kills ({kinds}) in {self.sweeps} sweeps of "
            f"{self.trials} trials in all, {self.driver_starts} driver starts",
            f"wrong: {len(self.wrong)}",
            *self.wrong,
        ]
        return "\n".join(lines)


def run_kill_points(folder: Path, count: int, seed: int, say: Say) -> Outcome:
    """``count`` kills, the victims in turn by chance, each as often as the others."""
    chance = random.Random(seed)
    plan = [VICTIMS[i % len(VICTIMS)] for i in range(count)]
    chance.shuffle(plan)
    outcome = Outcome(seed)
    say(f"seed {seed}: {', '.join(plan)}")
    files = make_embedded(folder / "embedded", smoke=True)
    undisturbed = undisturbed_records(a_config(folder, files, "undisturbed", None))
    with mlflow_on_postgres(folder) as server:
        while plan:
            outcome.sweeps += 1
            path = a_config(folder, files, f"kills-{outcome.sweeps}", server.uri)
            _Round(path, server, chance, plan, outcome, say).run()
            compare(load_config(path), undisturbed, server.uri, outcome)
            say(f"sweep {outcome.sweeps}: {len(plan)} kills left, {len(outcome.wrong)} wrong")
    return outcome


def a_config(folder: Path, files: EmbeddedFiles, name: str, uri: str | None) -> Path:
    tree = {
        "badnet": str(files.badnet),
        "data": {
            key: str(getattr(files, key))
            for key in ("clean_valid", "poisoned_valid", "clean_test", "poisoned_test")
        },
        "sweep": {
            "orders": ["l1", "activation"],
            "layer_sets": ["last:2", "last:3"],
            "x_thresholds": [4, 10],
            "policies": ["margin", "best-first"],
        },
        "evaluator": "plain",
        "tracking": {"uri": uri, "experiment": name},
        "storage": str(folder / name),
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def undisturbed_records(path: Path) -> dict[str, TrialRecord]:
    """Records of the sweep in this process, with nobody killed and no MLflow."""

    class Nobody(SweepEvents):
        def trouble(self, line: str) -> None:
            raise AssertionError(line)

    config = load_config(path)
    inputs = load_inputs(input_files(config), config.sweep.repair)
    trials = trials_of(config.sweep, inputs.model)
    executor = InlineExecutor(config.evaluator, config.resources)
    executor.run(Listed(trials), inputs, Storage(config.storage).begin(), Nobody())
    return _found(config, [inputs.key(s) for s in trials])


def _found(config: Config, keys: list[str]) -> dict[str, TrialRecord]:
    """Without what takes another time each time."""
    return {r.key: replace(r, seconds=0.0) for r in read_records(Storage(config.storage), keys)}


class _Round:
    """One sweep, to its end."""

    def __init__(
        self,
        path: Path,
        server: MlflowServer,
        chance: random.Random,
        plan: list[str],
        outcome: Outcome,
        say: Say,
    ) -> None:
        self.path, self.server, self.chance = path, server, chance
        self.plan, self.outcome, self.say = plan, outcome, say
        self.trials = Path(load_config(path).storage) / "trials"
        self.kept: dict[str, bytes] = {}
        self.orphans: list[psutil.Process] = []
        self.back_at: float | None = None  # when a killed server is started again

    def run(self) -> None:
        try:
            if any(self._driver() for _ in range(ATTEMPTS)):
                return
        finally:
            for orphan in self.orphans:
                with contextlib.suppress(psutil.Error):
                    orphan.kill()
        self.outcome.wrong.append(f"{self.path.stem}: not done after {ATTEMPTS} driver starts")

    def _driver(self) -> bool:
        """Starts a driver, kills as planned; whether the sweep is done, MLflow included."""
        self.outcome.driver_starts += 1
        errors = self.path.with_suffix(".err")
        with errors.open("a+") as err:
            process = start_sweep(self.path, stderr=err, RAY_worker_niceness="0", OMP_NUM_THREADS="1")
            try:
                alive = self._disturb(process)
                out = process.communicate()[0] if alive else ""
            finally:
                end(process)
        self._records_stay()
        if not alive:
            return False
        if process.returncode != 0:
            # A person whose MLflow does not answer at the first start waits for it.
            said = errors.read_text().strip().splitlines()[-1]
            if not self.outcome.kills["server"] or "MLflow at" not in said:
                self.outcome.wrong.append(f"{self.path.stem}: status {process.returncode}: {said}")
            self._server_back(now=True)
            return False
        self._server_back(now=True)
        done = json.loads(out)
        return (
            done["failed"] == 0 and "MLflow has not taken" not in errors.read_text().rpartition("trials, ")[2]
        )

    def _disturb(self, process: subprocess.Popen[str]) -> bool:
        """Kills until the driver ends by itself (True) or is the one that is killed (False)."""
        due, wanted = None, self._wanted()
        from_start = self.chance.random() < 0.5  # a driver may also die before its first trial
        while process.poll() is None:
            time.sleep(0.05)
            self._server_back()
            if not self.plan:
                continue
            victim = self.plan[0]
            ready = self._done() >= wanted and workers(process.pid)
            if due is None and (ready or (victim == "driver" and from_start)):
                due = time.monotonic() + self.chance.uniform(0.0, LONGEST_WAIT)
            if due is None or time.monotonic() < due:
                continue
            if victim == "server" and self.back_at is not None:
                continue  # still away
            if not self._kill(victim, process):
                continue
            self.plan.pop(0)
            self.outcome.kills[victim] += 1
            self.say(f"killed {victim} with {self._done()} trials done")
            due, wanted = None, self._wanted()
            if victim == "driver":
                return False
        return True

    def _done(self) -> int:
        return len(list(self.trials.glob("*.parquet")))

    def _wanted(self) -> int:
        return self._done() + self.chance.randint(0, MOST_TRIALS)

    def _kill(self, victim: str, process: subprocess.Popen[str]) -> bool:
        if victim == "driver":
            self.orphans += family(process.pid)  # its local cluster notices by itself
            process.kill()
            process.wait()
        elif victim == "server":
            self.server.kill()
            self.back_at = time.monotonic() + self.chance.uniform(*SERVER_AWAY)
        else:
            running = workers(process.pid)
            if not running:
                return False
            self.chance.choice(running).kill()
        return True

    def _server_back(self, now: bool = False) -> None:
        if self.back_at is not None and (now or time.monotonic() > self.back_at):
            self.back_at = None
            self.server.start()
        if now:
            self.server.wait()

    def _records_stay(self) -> None:
        """Nothing that was there is gone or another."""
        there = {p.name: p.read_bytes() for p in self.trials.glob("*.parquet")}
        changed = [name for name, data in self.kept.items() if there.get(name) != data]
        self.outcome.wrong += [f"{self.path.stem}: record {name} changed" for name in changed]
        self.kept = there


def compare(config: Config, undisturbed: dict[str, TrialRecord], uri: str, outcome: Outcome) -> None:
    """Every trial once, in records and in MLflow, the same as undisturbed."""
    name = config.tracking.experiment
    outcome.trials += len(undisturbed)
    names = [p.stem for p in (Path(config.storage) / "trials").glob("*.parquet")]
    found = _found(config, names)
    for key in sorted(undisturbed.keys() | set(names)):
        if found.get(key) != undisturbed.get(key):
            outcome.wrong.append(f"{name}: record {key} is not that of the undisturbed sweep")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    sweeps = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    if [r.info.status for r in sweeps] != ["FINISHED"]:
        outcome.wrong.append(f"{name}: runs of the sweep in MLflow: {[r.info.status for r in sweeps]}")
    logged = Counter(r.data.tags["goodnet.trial_key"] for r in runs if r not in sweeps)
    for key in sorted(logged.keys() | undisturbed.keys()):
        if logged[key] != (key in undisturbed):
            outcome.wrong.append(f"{name}: trial {key} is {logged[key]} times in MLflow")
    for run in runs:
        if run in sweeps:
            continue
        record = undisturbed.get(run.data.tags["goodnet.trial_key"])
        if record is None or record.valid is None:
            continue
        states = 1 + sum(step.accepted for step in record.steps)
        history = client.get_metric_history(run.info.run_id, "clean_accuracy")
        same = run.data.metrics.get("valid_clean_accuracy") == record.valid.clean_accuracy
        if run.data.tags.get("goodnet.complete") != "done" or not same or len(history) != states:
            outcome.wrong.append(f"{name}: run of trial {record.key} in MLflow is not whole")
