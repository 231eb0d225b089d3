"""The embedded default's own sweep: what Optuna finds of it with a third of the trials, and MLflow's log of
grid and Optuna after kills.

All sweeps share one storage, so what the grid has done is looked up; a search that asks for anything else
would run it.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from false_alarms import alarms
from mlflow import MlflowClient
from mlflow_log import check_log
from processes import ended, start_sweep

from sweeps.config.schema import Config, load_config
from sweeps.events import SweepEvents
from sweeps.execution.make import make_executor
from sweeps.inputs.load import input_files, load_inputs
from sweeps.storage.manifest import read_manifest, read_records
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep
from sweeps.sweep_result import SweepResult

pytestmark = pytest.mark.slow

DEFAULT = Path(__file__).resolve().parents[2] / "configs" / "default.yaml"
SEEDS = range(5)

# The driver kills itself when half of what it logs at one time has reached MLflow.
KILL = """
import os, signal
from mlflow import MlflowClient
log, calls = MlflowClient.log_batch, []
def half(self, run_id, metrics=(), params=(), tags=(), **more):
    calls.extend([run_id] if metrics else [])
    if metrics and len(calls) == {number}:
        log(self, run_id, metrics[: len(metrics) // 2], params, tags)
        os.kill(os.getpid(), signal.SIGKILL)
    return log(self, run_id, metrics, params, tags, **more)
MlflowClient.log_batch = half
"""


class Quiet(SweepEvents):
    """Watches nothing."""


def swept(config: Config) -> SweepResult:
    return run_sweep(config, open_storage(config.storage), make_executor("inline", config), Quiet())


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("default") / "runs"


@pytest.fixture(scope="module")
def grid(storage: Path) -> SweepResult:
    found = swept(load_config(DEFAULT, [f"storage={storage}"]))
    assert {record.status for record in found.records} == {"done"}
    return found


def optuna(grid: SweepResult, seed: int) -> list[str]:
    """A third of the grid's trials."""
    samples = len(grid.records) // 3
    return ["sweep.search=optuna", f"sweep.samples={samples}", f"sweep.seeds=[{seed}]"]


def test_optuna_needs_a_third_of_the_grid(grid: SweepResult, storage: Path) -> None:
    """For every seed at least 95 % of the grid's hypervolume."""
    third = len(grid.records) // 3
    for seed in SEEDS:
        found = swept(load_config(DEFAULT, [f"storage={storage}", *optuna(grid, seed)]))
        assert len(found.records) == len({r.key for r in found.records}) == third
        share = found.frontier.hypervolume / grid.frontier.hypervolume
        print(f"seed {seed}: {third} of {len(grid.records)} trials, {share:.2%} of the hypervolume")
        assert share >= 0.95


@pytest.mark.parametrize(("search", "kills"), [("grid", (7, 40)), ("optuna", (11,))])
def test_mlflow_ends_as_the_records_after_kills(
    search: str, kills: tuple[int, ...], grid: SweepResult, storage: Path
) -> None:
    """The driver is killed with a trial logged by halves; then the same command again, until it is done."""
    given = [f"storage={storage}", f"tracking.experiment={search}"]
    given += optuna(grid, 0) if search == "optuna" else []
    options = ["--executor", "inline", *(part for one in given for part in ("--set", one))]
    for number in kills:
        with ended(start_sweep(DEFAULT, *options, code=KILL.format(number=number))) as driver:
            _, said = driver.communicate(timeout=500)
        assert driver.returncode == -signal.SIGKILL, said
        half = MlflowClient(f"sqlite:///{storage}/mlflow.db")
        place = [half.get_experiment_by_name(search).experiment_id]
        assert half.search_runs(place, "attributes.status = 'RUNNING'")
    with ended(start_sweep(DEFAULT, *options)) as driver:
        _, said = driver.communicate(timeout=500)
    assert driver.returncode == 0, said
    kept = open_storage(str(storage))
    latest = read_manifest(kept, None)
    records = read_records(kept, latest.trials)
    assert len(records) == (len(grid.records) if search == "grid" else len(grid.records) // 3)
    check_log(f"sqlite:///{storage}/mlflow.db", records, latest.name, search)


def test_no_false_alarm_on_the_default(grid: SweepResult) -> None:
    inputs = load_inputs(input_files(grid.manifest.config))
    assert grid.manifest.findings == () and not alarms(inputs.model, (inputs.valid, inputs.test), set())
