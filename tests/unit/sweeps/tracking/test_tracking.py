"""MLflow on SQLite: complete, nested, the same when it is done again; never in a trial's way."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import make_manifest, make_record, make_settings
from mlflow import MlflowClient
from mlflow_log import children
from small_nets import tiny_onnx

from prune_core.errors import InputError
from sweeps.tracking.background import BackgroundTracking

DONE = make_record("a", [(985, 400), None, (970, 100)])
FAILED = make_record("b", reason="out of memory", settings=make_settings("l1"))


def curve(client: MlflowClient, run_id: str, metric: str) -> list[tuple[int, float]]:
    return sorted((m.step, m.value) for m in client.get_metric_history(run_id, metric))


def read(client: MlflowClient, run_id: str, path: str, to: Path) -> str:
    return Path(client.download_artifacts(run_id, path, str(to))).read_text()


def test_a_trial_is_a_nested_run_with_all_it_found(connect, client, tmp_path) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([DONE]), {})
    tracking.log_trial(run_id, DONE)
    run = children(client, run_id)["a"]
    name = "97.0 / 20.0: activation, X 4, conv_4+conv_3, margin"
    assert (run.info.run_name, run.info.status) == (name, "FINISHED")
    assert run.info.end_time - run.info.start_time == 12_000
    assert run.data.params == {
        "order": "activation",
        "layers": "conv_4+conv_3",
        "x": "4.0",
        "policy": "margin",
        "seed": "0",
        "repair": "none",
        "kind": "pruning",
        "layers_count": "2",
        "badnet": "embedded",
        "badnet_digest": "bbbbbbbb",
        "data.scale": "1.0",
        "data.mean": "[0.0]",
        "data.std": "[1.0]",
    }
    assert curve(client, run.info.run_id, "clean_accuracy") == [(0, 0.99), (1, 0.985), (3, 0.97)]
    assert curve(client, run.info.run_id, "attack_success") == [(0, 1.0), (1, 0.8), (3, 0.2)]
    assert curve(client, run.info.run_id, "channels_pruned") == [(0, 0), (1, 1), (3, 2)]
    assert curve(client, run.info.run_id, "margin") == [(0, 10.0), (1, 6.0), (3, -6.0)]
    final = run.data.metrics
    assert (final["valid_clean_accuracy"], final["valid_attack_success"]) == (0.97, 0.2)
    assert (final["test_clean_accuracy"], final["test_attack_success"]) == (0.965, 0.22)
    mask = json.loads(read(client, run.info.run_id, "mask.json", tmp_path))
    assert mask == DONE.mask.to_json()
    steps = read(client, run.info.run_id, "steps.csv", tmp_path).splitlines()
    assert steps[0].startswith("step,layer,channel,accepted,channels_pruned,clean_accuracy,")
    assert steps[2].startswith("2,conv_4,1,False,1,0.985,0.8,")
    counts = json.loads(read(client, run.info.run_id, "trial.json", tmp_path))
    assert counts["test"]["clean_correct"] == 965


def test_a_failed_trial_says_why(connect, client) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([FAILED]), {})
    tracking.log_trial(run_id, FAILED)
    run = children(client, run_id)["b"]
    assert (run.info.status, run.data.tags["goodnet.reason"]) == ("FAILED", "out of memory")
    assert run.data.metrics == {}


def test_a_reason_makes_no_markup_in_the_ui(connect, client) -> None:
    """It may name what a file holds, and the UI shows a note as Markdown, pictures from anywhere too."""
    tracking = connect()
    failed = make_record("b", reason="no layer '![](http://127.0.0.1/x.png)'\n# of that name")
    run_id = tracking.start_sweep(make_manifest([failed]), {})
    tracking.log_trial(run_id, failed)
    note = children(client, run_id)["b"].data.tags["mlflow.note.content"]
    assert note == "    no layer '![](http://127.0.0.1/x.png)' # of that name"


def test_a_failed_trial_that_was_done_later_is_done(connect, client) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([FAILED]), {})
    tracking.log_trial(run_id, FAILED)
    connect().log_trial(run_id, make_record("b", settings=FAILED.settings))
    run = children(client, run_id)["b"]
    assert run.info.status == "FINISHED" and "goodnet.reason" not in run.data.tags
    assert len(curve(client, run.info.run_id, "clean_accuracy")) == 3


def test_a_stopped_trial_is_no_failure_and_may_go_on(connect, client) -> None:
    tracking, whole = connect(), make_record("b")
    record = replace(whole, status="stopped", reason="asha: behind", steps=whole.steps[:1])
    run_id = tracking.start_sweep(make_manifest([record]), {})
    tracking.log_trial(run_id, record)
    run = children(client, run_id)["b"]
    tags = run.data.tags
    assert run.info.status == "FINISHED" and tags["goodnet.complete"] == "stopped"
    assert tags["goodnet.reason"] == "asha: behind" and "goodnet.failure" not in tags
    assert "Stopped before its end" in tags["mlflow.note.content"]
    connect().log_trial(run_id, whole)
    tags = children(client, run_id)["b"].data.tags
    assert tags["goodnet.complete"] == "done" and "goodnet.reason" not in tags


def test_sweep_carries_configuration_and_provenance(connect, client, tmp_path) -> None:
    run_id = connect().start_sweep(make_manifest([DONE]), {"version": "0.1", "python": "3.11.7"})
    tags = client.get_run(run_id).data.tags
    assert tags["goodnet.version"] == "0.1" and tags["digest.badnet"] == "bbbbbbbb"
    assert tags["config.sweep.search"] == "grid" and tags["goodnet.trials"] == "1"
    assert "badnet: embedded" in read(client, run_id, "config.yaml", tmp_path)


def test_doing_it_all_again_adds_nothing(connect, client) -> None:
    manifest = make_manifest([DONE, FAILED])
    found = []
    for _ in range(2):
        tracking = connect()
        run_id = tracking.start_sweep(manifest, {})
        for record in (DONE, FAILED, DONE):
            tracking.log_trial(run_id, record)
        tracking.finish_sweep(run_id, {"hypervolume": 0.5}, {"frontier.png": b"png"}, lambda places: "note")
        runs = children(client, run_id)
        found.append((run_id, {key: run.info.run_id for key, run in runs.items()}))
        assert len(curve(client, runs["a"].info.run_id, "clean_accuracy")) == 3
    assert found[0] == found[1]
    assert client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("breaks_at", ["_log", "_log_inputs", "_log_files", "set_terminated", "set_tag"])
def test_a_trial_logged_half_way_is_finished_not_doubled(connect, client, monkeypatch, breaks_at) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([DONE]), {})

    def dies(*args, **kwargs):
        raise ConnectionError("gone")

    target = tracking if breaks_at.startswith("_") else tracking._client
    with monkeypatch.context() as patch:
        patch.setattr(target, breaks_at, dies)
        with pytest.raises(ConnectionError):
            tracking.log_trial(run_id, DONE)
    tracking.log_trial(run_id, DONE)
    (run,) = children(client, run_id).values()
    assert run.info.status == "FINISHED" and run.data.tags["goodnet.complete"] == "done"
    assert curve(client, run.info.run_id, "attack_success") == [(0, 1.0), (1, 0.8), (3, 0.2)]
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {
        "mask.json",
        "steps.csv",
        "trial.json",
    }


def test_a_run_created_without_an_answer_is_found_again(connect, client, monkeypatch) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([DONE]), {})
    create = tracking._client.create_run

    def loses_the_answer(*args, **kwargs):
        create(*args, **kwargs)
        raise TimeoutError("timed out")

    with monkeypatch.context() as patch:
        patch.setattr(tracking._client, "create_run", loses_the_answer)
        with pytest.raises(TimeoutError):
            tracking.log_trial(run_id, DONE)
    tracking.log_trial(run_id, DONE)
    experiment = client.get_run(run_id).info.experiment_id
    assert len(client.search_runs([experiment])) == 2  # the sweep and one child


def test_more_values_than_one_batch_takes(connect, client) -> None:
    long = make_record("long", [(990 - i % 7, 500 - i) for i in range(400)])  # 4 x 401 values
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([long]), {})
    tracking.log_trial(run_id, long)
    run = children(client, run_id)["long"]
    found = curve(client, run.info.run_id, "attack_success")
    assert found == [(i, (500 - max(i - 1, 0)) / 500) for i in range(401)]


@pytest.mark.parametrize("margin", [None, float("nan"), float("inf")])
def test_margins_that_are_no_numbers_are_left_out(connect, client, margin) -> None:
    record = make_record("nan", [(985, 400)])
    odd = replace(record, badnet_valid=replace(record.badnet_valid, margin=margin))
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([odd]), {})
    tracking.log_trial(run_id, odd)
    run = children(client, run_id)["nan"]
    assert curve(client, run.info.run_id, "margin") == [(1, 6.0)]
    assert len(curve(client, run.info.run_id, "clean_accuracy")) == 2


def test_steps_say_which_counts_are_bounds(connect, client, tmp_path) -> None:
    first, *others = DONE.steps
    early = replace(others[0].tried, margin=None, complete=False)
    record = replace(DONE, steps=(first, replace(others[0], tried=early), *others[1:]))
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([record]), {})
    tracking.log_trial(run_id, record)
    run = children(client, run_id)["a"]
    lines = read(client, run.info.run_id, "steps.csv", tmp_path).splitlines()
    assert [line.rpartition(",")[2] for line in lines] == ["tried_complete", "True", "False", "True"]
    assert lines[2].endswith(",0.5,1.0,,False")


def test_run_id_in_the_environment_changes_nothing(connect, client, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "f" * 32)
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([DONE]), {})
    tracking.log_trial(run_id, DONE)
    assert run_id != "f" * 32 and list(children(client, run_id)) == ["a"]


def test_sweeps_of_one_name_on_other_data_have_their_own_runs(connect) -> None:
    manifest = make_manifest([DONE])
    other = replace(manifest, digests={**manifest.digests, "badnet": "another"})
    first = connect().start_sweep(manifest, {})
    assert connect().start_sweep(other, {}) != first == connect().start_sweep(manifest, {})


def test_results_lie_on_the_sweep_and_models_on_their_trials(connect, client, tmp_path) -> None:
    tracking = connect()
    run_id = tracking.start_sweep(make_manifest([DONE]), {})
    tracking.log_trial(run_id, DONE)
    tracking.log_goodnet(run_id, "a", 2, b"onnx bytes")
    files = {"frontier.html": b"<p>", "tables/metrics.csv": b"a,b\n"}
    tracking.finish_sweep(
        run_id, {"hypervolume": 0.75, "trials_done": 1}, files, lambda places: f"| {sorted(places.trials)} |"
    )
    sweep = client.get_run(run_id)
    assert sweep.data.metrics == {"hypervolume": 0.75, "trials_done": 1}
    assert sweep.data.tags["mlflow.note.content"] == "| ['a'] |"
    assert read(client, run_id, "tables/metrics.csv", tmp_path) == "a,b\n"
    child = children(client, run_id)["a"].info.run_id
    assert read(client, child, "goodnets/step-2.onnx", tmp_path) == "onnx bytes"
    with pytest.raises(LookupError, match="trial-x"):
        tracking.log_goodnet(run_id, "trial-x", 0, b"")


@pytest.mark.parametrize("with_run", [True, False])
def test_registered_model_opens_by_its_alias(connect, client, store, monkeypatch, tmp_path, with_run) -> None:
    import mlflow

    tracking, name = connect(), f"goodnet-{with_run}"
    run_id = tracking.start_sweep(make_manifest([DONE]), {}) if with_run else None
    versions = [
        tracking.register(tiny_onnx(), name, "goodnet", run_id, {"mask": "m"}, f"pick {i}") for i in range(2)
    ]
    assert versions == ["1", "2"]
    version = client.get_model_version_by_alias(name, "goodnet")
    assert (version.version, version.description, version.tags) == (2, "pick 1", {"mask": "m"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}/mlflow.db")
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}@goodnet"))
    model = mlflow.pyfunc.load_model(f"models:/{name}@goodnet")
    assert (folder / "model.onnx").read_bytes() == tiny_onnx()
    assert not [p for p in folder.rglob("*") if p.suffix in (".pkl", ".pickle", ".pt", ".pth")]
    given = np.array([[-1.0, 2.0]], np.float32)
    assert model.predict({"x": given})["y"].tolist() == [[0.0, 2.0]]
    assert model.metadata.get_input_schema().input_names() == ["x"]
    assert model.input_example["x"].shape == (1, 2)
    if with_run:  # from any folder, by a Python that finds no goodnet in it
        code = "import sys, mlflow, numpy; "
        code += f"net = mlflow.pyfunc.load_model('models:/{name}@goodnet'); "
        code += "said = net.predict({net.metadata.get_input_schema().input_names()[0]: "
        code += "numpy.array([[-1, 2]], 'float32')}); "
        code += (
            "print(said['y'].tolist(), [m for m in sys.modules if m.startswith(('prune_core', 'sweeps'))])"
        )
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        said = subprocess.run(
            [sys.executable, "-P", "-c", code], cwd=elsewhere, capture_output=True, text=True, check=True
        )
        assert said.stdout.strip() == "[[0.0, 2.0]] []"


def test_deleted_experiment_is_named(connect, client) -> None:
    tracking = connect()
    tracking.start_sweep(make_manifest([DONE]), {})
    client.delete_experiment(client.get_experiment_by_name(tracking.experiment).experiment_id)
    with pytest.raises(InputError, match="was deleted there; restore it"):
        connect().start_sweep(make_manifest([DONE]), {})


def test_standard_output_and_error_stay_ours(first_use) -> None:
    """MLflow announces migrations and run addresses."""
    said = first_use[1]
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


def test_background_logs_everything_and_finishes_last(connect, client) -> None:
    warnings: list[str] = []
    background = BackgroundTracking(connect, make_manifest([DONE]), {}, warnings.append)
    background.finish_sweep({"hypervolume": 0.5}, {}, None)
    background.log_trial("a", "done", lambda: DONE)
    run_id = background.run_id(timeout=60)
    background.log_goodnet("a", 2, b"onnx")
    assert background.close(timeout=60) == [] and warnings == []
    assert client.get_run(run_id).info.status == "FINISHED"
    assert children(client, run_id)["a"].data.tags["goodnet.complete"] == "done"


def test_background_marks_an_interrupted_sweep(connect, client) -> None:
    background = BackgroundTracking(connect, make_manifest([DONE]), {}, pytest.fail)
    run_id = background.run_id(timeout=60)
    assert background.close(timeout=60) == []
    assert client.get_run(run_id).info.status == "KILLED"
