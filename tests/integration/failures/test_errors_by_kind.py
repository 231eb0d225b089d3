"""Errors by kind, as commands tell them: exit status, one line; with --json one object on standard output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from servers import free_port

from prune_core.errors import ExportMismatch, InputError, Unavailable


def one_line(said: Any) -> str:
    assert "Traceback" not in said.err and said.out == ""
    last = said.err.strip().splitlines()[-1]
    assert last.startswith("goodnet: ")
    return str(last)


def error_of(said: Any) -> dict[str, str]:
    """The one object on standard output."""
    assert list(said.json) == ["error"] and set(said.json["error"]) == {"kind", "message"}
    found: dict[str, str] = said.json["error"]
    assert "\n" not in found["message"] and found["message"] in " ".join(said.err.split())
    return found


def with_keys(config: Path, **keys: Any) -> Path:
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | keys))
    return config


def test_the_kinds_are_apart() -> None:
    kinds = (InputError, Unavailable, ExportMismatch)
    assert all(a is b or not issubclass(a, b) for a in kinds for b in kinds)


@pytest.mark.parametrize("arguments, words", [
    (("inspect", "no.onnx"), "no.onnx: no such file"),
    (("inspect",), "Missing argument 'MODEL'"),
    (("inspect", "no.onnx", "--wrong"), "No such option: --wrong"),
    (("nonsense",), "No such command 'nonsense'"),
])  # fmt: skip
def test_a_mistake_is_an_input_error(goodnet, arguments, words) -> None:
    plain, told = goodnet(*arguments), goodnet(*arguments, "--json")
    assert plain.status == told.status == 2 and plain.out == "" and words in plain.err
    assert error_of(told)["kind"] == "input" and words in error_of(told)["message"]


def test_an_mlflow_that_does_not_answer_is_unavailable(goodnet, smoke_config) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    config = with_keys(smoke_config, tracking={"uri": uri})
    said = goodnet("sweep", config, "--executor", "inline")
    assert said.status == 3 and f"MLflow at {uri}: nothing listens there" in one_line(said)
    told = goodnet("sweep", config, "--executor", "inline", "--json")
    assert told.status == 3 and error_of(told)["kind"] == "unavailable"


@pytest.mark.parametrize("uri", ["ftp://host/x", "mlruns"])
def test_an_address_that_is_none_is_an_input_error(goodnet, smoke_config, uri) -> None:
    told = goodnet("sweep", with_keys(smoke_config, tracking={"uri": uri}), "--executor", "inline", "--json")
    assert told.status == 2 and error_of(told)["kind"] == "input"


def test_no_ray_at_the_address_is_unavailable(goodnet, smoke_config, monkeypatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_port()}")
    said = goodnet("sweep", smoke_config)
    assert said.status == 3 and "RAY_ADDRESS '127.0.0.1:" in one_line(said)
    told = goodnet("sweep", smoke_config, "--json")
    assert told.status == 3 and error_of(told)["kind"] == "unavailable"


def test_a_storage_that_does_not_answer_is_unavailable(goodnet, smoke_config, monkeypatch) -> None:
    """An S3 server that is down, at the start of a sweep and when its frontier is asked for."""
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_MAX_ATTEMPTS": "1",
                        "AWS_EC2_METADATA_DISABLED": "true", "NO_PROXY": "127.0.0.1"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    place = f"s3://sweeps/runs?endpoint_override=127.0.0.1:{free_port()}&scheme=http&region=us-east-1"
    config = with_keys(smoke_config, storage=place, tracking={"uri": "sqlite:///mlflow.db"})
    for arguments in (("sweep", config, "--executor", "inline"), ("frontier", "--storage", place)):
        told = goodnet(*arguments, "--json")
        assert told.status == 3, told.err
        error = error_of(told)
        assert error["kind"] == "unavailable" and "does not answer" in error["message"]


def test_a_storage_that_is_away_for_long_ends_a_sweep(goodnet, smoke_config, monkeypatch) -> None:
    """Its folder goes after the first record."""
    from sweeps.storage import retry
    from sweeps.storage.record_store import RecordStore

    monkeypatch.setattr(retry, "PATIENCE", 0.3)
    write, runs = RecordStore.write, Path(yaml.safe_load(smoke_config.read_text())["storage"])

    def once(self: RecordStore, record: Any) -> None:
        write(self, record)
        runs.rename(runs.with_name("away"))

    monkeypatch.setattr(RecordStore, "write", once)
    told = goodnet("sweep", smoke_config, "--executor", "inline", "--json")
    assert told.status == 3, told.err
    error = error_of(told)
    assert error["kind"] == "unavailable" and error["message"].count("does not answer") == 1
    assert "the same command goes on" in error["message"] and not runs.exists()


@pytest.mark.parametrize("error, kind, status", [
    (ZeroDivisionError("no\nway"), "fault", 1), (ExportMismatch("a.onnx: other counts"), "mismatch", 1),
    (KeyboardInterrupt(), "stopped", 130),
])  # fmt: skip
def test_what_is_ours_and_what_was_stopped(goodnet, monkeypatch, error, kind, status) -> None:
    from sweeps import reading

    def broken(*given: object) -> None:
        raise error

    monkeypatch.setattr(reading, "inspect_files", broken)
    plain, told = goodnet("inspect", "a.onnx"), goodnet("inspect", "a.onnx", "--json")
    assert plain.status == told.status == status and plain.out == ""
    assert error_of(told)["kind"] == kind
    assert ("Traceback" in told.err) == (status == 1)


@pytest.mark.parametrize("name", ["a%2Fb", "what?"])
def test_a_storage_that_mlflow_cannot_name_is_refused(
    goodnet, smoke_config, tmp_path, monkeypatch, name
) -> None:
    """Before the first trial: MLflow would read its address otherwise, and log into another place or none."""
    monkeypatch.chdir(tmp_path)
    config = with_keys(smoke_config, storage=str(tmp_path / name))
    said = goodnet("sweep", config, "--executor", "inline")
    assert said.status == 2 and "expected a folder without them, or tracking.uri set" in one_line(said)
    assert not list(tmp_path.rglob("*.parquet")) and not (tmp_path / "what").exists()
    elsewhere = with_keys(config, tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    said = goodnet("sweep", elsewhere, "--executor", "inline", "--json")
    assert said.status == 0 and said.json["done"] == said.json["trials"] and "not taken" not in said.err, (
        said.err
    )


def test_failed_trials_are_told_by_whose_fault_it_was(goodnet, smoke_config, tmp_path, monkeypatch) -> None:
    from mlflow import MlflowClient

    from sweeps import trial
    from sweeps.storage.manifest import read_manifest, read_records
    from sweeps.storage.storage import open_storage

    order = trial._order

    def broken(settings: Any, inputs: Any) -> Any:
        if settings.order == "l1":
            raise (
                InputError("poisoned images that are no pairs") if len(settings.layers) > 1 else KeyError("c")
            )
        return order(settings, inputs)

    monkeypatch.setattr(trial, "_order", broken)
    told = goodnet("sweep", smoke_config, "--executor", "inline", "--json")
    assert told.status == 0, told.err
    assert told.json["failures"] == {"input": 2, "fault": 2} and told.json["failed"] == 4
    assert (
        "failed (what was given): poisoned" in told.err and "failed (a fault of ours): KeyError" in told.err
    )
    storage = open_storage(str(tmp_path / "runs"))
    records = read_records(storage, read_manifest(storage, None).trials)
    assert {(r.failure, r.status) for r in records} == {
        (None, "done"), ("input", "failed"), ("fault", "failed"),
    }  # fmt: skip
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("goodnet").experiment_id])
    tags = {r.data.tags["goodnet.trial_key"]: r.data.tags.get("goodnet.failure") for r in runs
            if "goodnet.trial_key" in r.data.tags}  # fmt: skip
    assert tags == {r.key: r.failure for r in records}
    one = [f"sweep.{key}" for key in ("orders=[l1]", "layer_sets=[last:2]", "x_thresholds=[4]")]
    said = goodnet("prune", smoke_config, *(word for key in one for word in ("--set", key)))
    assert said.status == 2 and one_line(said) == "goodnet: poisoned images that are no pairs"


def test_records_of_the_version_before_have_no_such_field(tmp_path) -> None:
    import pyarrow.parquet as pq
    from factories import make_record

    from sweeps.storage.record_store import RecordStore
    from sweeps.storage.storage import open_storage

    store, record = RecordStore(open_storage(str(tmp_path))), make_record("a", [(985, 400), (970, 100)])
    store.write(record)
    path = tmp_path / store.path("a")
    table = pq.read_table(path)
    header = json.loads(table.schema.metadata[b"goodnet"])
    assert header.pop("failure") is None
    pq.write_table(table.replace_schema_metadata({b"goodnet": json.dumps(header).encode()}), path)
    assert store.read("a") == record
