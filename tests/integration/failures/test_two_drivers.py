"""Two sweeps at the same time on one storage and one MLflow: one run a sweep, one a trial."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from factories import make_manifest, make_record, make_settings
from mlflow import MlflowClient

from sweeps.tracking.background import BackgroundTracking
from sweeps.tracking.mlflow_runs import Tracking

A = make_record("a", [(985, 400), None, (970, 100)])
B = make_record("b", [(980, 300)], settings=make_settings("l1"))
MANIFEST = make_manifest([A, B])


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def connect(uri, request):
    """Another driver, on this test's own experiment."""

    def make() -> Tracking:
        place = str(Path(uri.removeprefix("sqlite:///")).parent / "artifacts")
        return Tracking(uri, request.node.name, place)

    return make


def runs_of(uri: str, experiment: str) -> tuple[list, list]:
    """Runs of sweeps and runs of trials."""
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    return [r for r in runs if r not in children], children


def at_the_same_moment(monkeypatch, tracking: Tracking, other) -> None:
    """``other`` happens when ``tracking`` has looked for a run, found none, and is about to make it."""
    create = tracking._client.create_run

    def late(*args, **kwargs):
        monkeypatch.setattr(tracking._client, "create_run", create)
        other()
        time.sleep(0.01)  # starts of runs are told to the millisecond
        return create(*args, **kwargs)

    monkeypatch.setattr(tracking._client, "create_run", late)


def test_two_start_the_same_sweep_at_the_same_moment(connect, uri, monkeypatch) -> None:
    first, second = connect(), connect()
    ids = []
    at_the_same_moment(monkeypatch, first, lambda: ids.append(second.start_sweep(MANIFEST, {})))
    ids.append(first.start_sweep(MANIFEST, {}))
    assert ids[0] == ids[1]
    sweeps, _ = runs_of(uri, first.experiment)
    assert [r.info.run_id for r in sweeps] == ids[:1]


def test_two_log_the_same_trial_at_the_same_moment(connect, uri, monkeypatch) -> None:
    drivers = [connect(), connect()]
    run_id, _ = [d.start_sweep(MANIFEST, {}) for d in drivers]
    for driver in drivers:
        driver.has_trial(run_id, "a", "done")  # each has seen that there is none
    at_the_same_moment(monkeypatch, drivers[0], lambda: drivers[1].log_trial(run_id, A))
    drivers[0].log_trial(run_id, A)
    for driver in drivers:
        assert driver.settle(run_id) == run_id
        if not driver.has_trial(run_id, "a", "done"):
            driver.log_trial(run_id, A)
    _, (child,) = runs_of(uri, drivers[0].experiment)
    history = MlflowClient(uri).get_metric_history(child.info.run_id, "clean_accuracy")
    assert child.data.tags["goodnet.complete"] == "done" and len(history) == 3


def test_sweeps_that_were_two_become_one_with_all_trials(connect, uri, monkeypatch) -> None:
    """As when two drivers started while neither could see the other's run."""
    first, second = connect(), connect()
    one = first.start_sweep(MANIFEST, {})
    with monkeypatch.context() as blind:
        blind.setattr(second, "_search", lambda tags: [])
        other = second.start_sweep(MANIFEST, {})
    assert one != other
    first.log_trial(one, A)
    for record in (A, B):
        second.log_trial(other, record)
    for driver, run_id in ((second, other), (first, one)):  # each at its end, one after the other
        kept = driver.settle(run_id)
        for record in (A, B):
            driver.log_trial(kept, record)
        driver.finish_sweep(kept, {"hypervolume": 0.5}, {})
    (sweep,), children = runs_of(uri, first.experiment)
    assert sweep.info.status == "FINISHED" and sweep.info.run_id == kept
    assert sorted(c.data.tags["goodnet.trial_key"] for c in children) == ["a", "b"]
    assert {c.data.tags["mlflow.parentRunId"] for c in children} == {kept}


def test_drivers_in_threads_of_their_own(connect, uri) -> None:
    """Everything through the background, four drivers at once, as fast as they can."""
    connect().start_sweep(make_manifest([], "another"), {})  # the database's tables take a while
    warnings: list[str] = []
    drivers = [BackgroundTracking(connect, MANIFEST, {}, warnings.append) for _ in range(4)]
    for _ in range(2):  # as they come, and once more after joining
        for driver in drivers:
            for record in (A, B):
                driver.log_trial(record.key, "done", lambda record=record: record)
            driver.settle()
    for driver in drivers:
        driver.finish_sweep({"hypervolume": 0.5}, {})
    assert [driver.close(timeout=120) for driver in drivers] == [[]] * 4
    sweeps, children = runs_of(uri, connect().experiment)
    assert len(sweeps) == 2
    assert sorted(c.data.tags["goodnet.trial_key"] for c in children) == ["a", "b"]


@pytest.mark.slow
def test_three_drivers_two_configurations(smoke_config, tmp_path) -> None:
    """The same command twice and another sweep that shares half the trials, all at once."""
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"]["orders"] = ["l1", "activation"]
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(tree))
    root = str(Path(__file__).resolve().parents[3])
    drivers = [
        subprocess.Popen(
            [sys.executable, "-m", "sweeps.cli", "sweep", str(config), "--json", "--executor", "inline"],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": root},
        )
        for config in (smoke_config, smoke_config, other)
    ]
    said = [driver.communicate(timeout=540) for driver in drivers]
    assert [d.returncode for d in drivers] == [0, 0, 0], said
    results = [json.loads(out) for out, _ in said]
    assert [(r["trials"], r["failed"]) for r in results] == [(8, 0)] * 3
    assert results[0]["hypervolume"] == results[1]["hypervolume"]
    assert len(list((tmp_path / "runs" / "trials").glob("*.parquet"))) == 12
    sweeps, children = runs_of(f"sqlite:///{tmp_path}/runs/mlflow.db", "goodnet")
    assert len(sweeps) == 2 and {r.info.status for r in sweeps} == {"FINISHED"}
    logged = Counter((c.data.tags["mlflow.parentRunId"], c.data.tags["goodnet.trial_key"]) for c in children)
    assert len(logged) == 16 and set(logged.values()) == {1}
    assert {c.data.tags["goodnet.complete"] for c in children} == {"done"}
