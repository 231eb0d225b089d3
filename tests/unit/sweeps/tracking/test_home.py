"""What MLflow shows of a sweep beside curves: data sets, links, descriptions, a frame of all trials."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import mlflow
import pytest
from factories import make_frontier, make_manifest, make_record, make_settings
from mlflow import MlflowClient
from small_nets import tiny_onnx

from prune_core.errors import InputError
from sweeps.records.ran import Ran
from sweeps.sweep_result import SweepResult
from sweeps.tracking.datasets import DataSet
from sweeps.tracking.experiment import missing_tags
from sweeps.tracking.mlflow_runs import Tracking
from sweeps.tracking.notes import Places, run_name, sweep_note

RECORDS = [
    make_record("a", [(985, 400), None, (970, 100)]),
    make_record("b", [(980, 300)], make_settings("l1", x=2.0)),
]
FAILED = make_record("c", reason="out of memory", settings=make_settings("random"))
DATA = [
    DataSet(kind, split, f"{kind}{split}".ljust(64, "0"), images, (3, 8, 8), "uint8", f"{kind}-{split}.h5")
    for split in ("validation", "test")
    for kind, images in (("clean", 1000), ("poisoned", 500))
]


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """With one sweep in it, of three trials."""
    folder = tmp_path_factory.mktemp("store")
    tracking = Tracking(f"sqlite:///{folder}/mlflow.db", "home", f"{folder}/artifacts")
    everything(tracking)
    return folder


def everything(tracking: Tracking) -> str:
    records = [*RECORDS, FAILED]
    result = SweepResult(make_manifest(records), records, make_frontier(records), 0)
    run_id = tracking.start_sweep(result.manifest, {}, DATA)
    for record in records:
        tracking.log_trial(run_id, record)
    tracking.finish_sweep(run_id, {"hypervolume": 0.5}, {}, partial(sweep_note, result, "| t |\n", True))
    return run_id


@pytest.fixture
def tracking(store) -> Tracking:
    return Tracking(f"sqlite:///{store}/mlflow.db", "home")


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient(f"sqlite:///{store}/mlflow.db")


@pytest.fixture
def runs(client) -> dict:
    found = client.search_runs([client.get_experiment_by_name("home").experiment_id])
    return {run.data.tags.get("goodnet.trial_key", "sweep"): run for run in found}


def test_one_frame_has_settings_and_final_figures_of_every_trial(store, runs, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    of_sweep = f"tags.`mlflow.parentRunId` = '{runs['sweep'].info.run_id}'"
    frame = mlflow.search_runs(experiment_names=["home"], filter_string=of_sweep)
    frame = frame.set_index("tags.goodnet.trial_key")
    assert set(frame.index) == {"a", "b", "c"}
    for record in RECORDS:
        row = frame.loc[record.key]
        assert (row["params.order"], float(row["params.x"])) == (record.settings.order, record.settings.x)
        assert (row["params.policy"], row["params.repair"], row["params.seed"]) == ("margin", "none", "0")
        for split, counts in (("valid", record.valid), ("test", record.test)):
            assert row[f"metrics.{split}_clean_accuracy"] == counts.clean_accuracy
            assert row[f"metrics.{split}_attack_success"] == counts.attack_success
        assert row["metrics.channels_pruned"] == len(record.mask)
    params = [column for column in frame.columns if column.startswith("params.")]
    assert frame[params].notna().all(axis=None)


def test_every_run_names_its_data(runs) -> None:
    for run in runs.values():
        found = {each.dataset.name: each for each in run.inputs.dataset_inputs}
        assert set(found) == {data.name for data in DATA}
        for data in DATA:
            made, tags = found[data.name].dataset, {t.key: t.value for t in found[data.name].tags}
            assert data.sha256.startswith(made.digest) and json.loads(made.source) == {"uri": data.source}
            assert json.loads(made.profile)["num_rows"] == data.images
            assert (tags["mlflow.data.context"], tags["sha256"]) == (data.split, data.sha256)


def test_the_sweeps_params_tell_what_it_searches_over(runs) -> None:
    params = runs["sweep"].data.params
    assert {"orders", "layer_sets", "x_thresholds", "policies", "seeds", "repair"} <= set(params)


def test_descriptions_link_to_each_other(runs) -> None:
    sweep, trial = runs["sweep"], runs["a"]
    note = sweep.data.tags["mlflow.note.content"]
    assert f"/runs/{trial.info.run_id}?" in note and "goodnet pick sweep-1 --knee" in note
    assert "| 97.00% | 20.00% | 96.50% | 22.00% |" in note
    assert f"/runs/{sweep.info.run_id}?" in trial.data.tags["mlflow.note.content"]
    assert trial.data.tags["goodnet.of_sweep"] == "sweep-1"


def test_a_long_frontier_keeps_within_what_mlflow_keeps() -> None:
    record = make_record("long", [(989 - i, 490 - 4 * i) for i in range(100)])
    manifest = make_manifest([record])
    settings = replace(record.settings, layers=tuple(f"layer_{i}" * 3 for i in range(60)))
    result = SweepResult(replace(manifest, trials={"long": settings}), [record], make_frontier([record]), 0)
    note = sweep_note(result, "| row |\n" * 2000, True, Places("1", "f" * 32, {"long": "e" * 32}))
    assert len(note) <= 8000 and "16 of 100 states" in note and "| row |" not in note
    assert "| 98.90% |" in note and "| 89.00% |" in note  # both ends


def test_names_tell_trials_apart_in_few_characters() -> None:
    many = tuple(f"/layer{i}/layer{i}.0/conv1/Conv" for i in range(1, 5))
    names = {
        run_name(make_record("x", [(985, 400)], make_settings(order, layers, x)))
        for order in ("l1", "activation")
        for layers in (("conv_4",), ("conv_4", "conv_3"), many, many[:3])
        for x in (4.0, 10.0)
    }
    assert len(names) == 16 and max(map(len, names)) < 90
    assert run_name(FAILED).startswith("random, X 4, ")


def test_an_experiment_opens_as_training_and_keeps_what_a_person_chose(tracking, client) -> None:
    tags = client.get_experiment_by_name("home").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert missing_tags(tags, 0) == {}
    chosen = missing_tags({"mlflow.experimentKind": "genai_development"}, 0)
    assert "mlflow.experimentKind" not in chosen
    made = client.create_experiment("before", f"{tracking.uri.removeprefix('sqlite:///')}-files")
    client.set_experiment_tag(made, "mlflow.experimentKind", "genai_development_inferred")
    Tracking(tracking.uri, "before").start_sweep(make_manifest(), {})
    assert client.get_experiment(made).tags["mlflow.experimentKind"] == "custom_model_development"


def test_a_registered_models_source_is_its_trial_and_both_link(tracking, client, runs) -> None:
    sweep, trial = runs["sweep"].info.run_id, runs["a"].info.run_id
    assert (
        tracking.register(tiny_onnx(), "net", "goodnet", sweep, {"step": "3"}, "why", None, ("a", 3)) == "1"
    )
    version = client.get_model_version("net", "1")
    assert (version.run_id, version.tags) == (trial, {"step": "3"})
    assert f"Step 3 of [this trial](#/experiments/1/runs/{trial}?" in version.description
    tags = client.get_run(trial).data.tags
    link = "[net, version 1](#/models/net/versions/1?workflowType=machine_learning): step 3"
    assert link in tags["mlflow.note.content"] and tags["goodnet.registered"] == "net/1"
    # Logged again as after an update, it keeps the link.
    client.set_tag(trial, "goodnet.log", "2")
    again = Tracking(tracking.uri, "home")
    everything(again)
    after = client.get_run(trial)
    assert link in after.data.tags["mlflow.note.content"] and after.data.tags["goodnet.log"] == "3"
    assert len(after.inputs.dataset_inputs) == 4


def test_a_trial_that_is_not_logged_leaves_the_sweeps_run_as_source(tracking, client, runs) -> None:
    sweep = runs["sweep"].info.run_id
    tracking.register(tiny_onnx(), "other", "goodnet", sweep, {}, "why", None, ("unknown", 3))
    assert client.get_model_version("other", "1").run_id == sweep


def test_a_trials_run_begins_when_the_trial_did(tracking, client, runs) -> None:
    ran = replace(make_record("d", settings=make_settings("taylor")), ran=Ran("node/1", 1.7e9, 1, 0))
    sweep = runs["sweep"].info.run_id
    tracking.log_trial(sweep, ran)
    (run,) = client.search_runs([runs["sweep"].info.experiment_id], "tags.`goodnet.trial_key` = 'd'")
    assert (run.info.start_time, run.info.end_time) == (1_700_000_000_000, 1_700_000_012_000)


@pytest.mark.parametrize("revision", ["acf3f17fdcc7", "ffffffffffff"], ids=["older", "newer"])
def test_a_database_of_another_version_is_named_and_left_alone(tmp_path, store, revision) -> None:
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(store / "mlflow.db")) as here, closing(sqlite3.connect(path)) as copy:
        here.backup(copy)
        copy.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        copy.commit()
    before = path.read_bytes()
    with pytest.raises(InputError, match="another version of MLflow; back it up and run mlflow db upgrade"):
        Tracking(f"sqlite:///{path}", "home").check(120.0)
    assert path.read_bytes() == before
