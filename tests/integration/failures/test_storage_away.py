"""The storage of a real sweep goes away and comes back: nothing is lost, nothing written in its place."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient
from processes import RAY, ended, start_sweep, wait_until

from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Away, Storage

TRIALS = 4


@pytest.fixture
def config(smoke_config: Path) -> Path:
    """Four trials, none of them over at once."""
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"] |= {"policies": ["best-first"], "layer_sets": ["last:4"]}
    smoke_config.write_text(yaml.safe_dump(tree | {"evaluator": "plain"}))
    return smoke_config


def test_a_folder_that_is_away_is_not_made_anew(tmp_path) -> None:
    """Neither gone nor empty, as where a disk is not mounted."""
    runs = tmp_path / "runs"
    first = Storage(str(runs))
    first.begin()
    first.write_bytes("trials/a", b"a")
    second = Storage(str(runs), begun=True)
    runs.rename(tmp_path / "away")
    for there in (False, True):
        if there:
            runs.mkdir()
        for storage in (first, second, Storage(str(runs), begun=True)):
            for do in (
                lambda s: s.write_bytes("trials/b", b"b"),
                lambda s: s.read_bytes("trials/a"),
                lambda s: s.names("trials"),
            ):
                with pytest.raises(Away, match="gone or was replaced"):
                    do(storage)
        assert not runs.exists() or not list(runs.iterdir())
    runs.rmdir()
    (tmp_path / "away").rename(runs)
    assert first.read_bytes("trials/a") == b"a" and first.read_bytes("trials/b") is None


def swept_through(
    config: Path,
    executor: str,
    done: Callable[[], int],
    away: Callable[[], None],
    back: Callable[[], None],
    **environment: str,
) -> None:
    """A sweep during which the storage is away, for three seconds after somebody has noticed."""
    said = config.with_suffix(".err")
    with (
        said.open("w") as err,
        ended(start_sweep(config, "--executor", executor, stderr=err, **RAY, **environment)) as process,
    ):
        wait_until(lambda: done() > 0, process)
        away()
        wait_until(lambda: "does not answer" in said.read_text(), process)
        time.sleep(3)
        back()
        out, _ = process.communicate(timeout=500)
    text = said.read_text()
    assert process.returncode == 0, text
    result = json.loads(out)
    assert (result["trials"], result["done"], result["failed"]) == (TRIALS, TRIALS, 0), text
    assert "Traceback" not in text and result["frontier_size"] > 0


def logged_once(uri: str) -> bool:
    client = MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("goodnet").experiment_id])
    trials = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    keys = {r.data.tags["goodnet.trial_key"] for r in trials}
    complete = {r.data.tags["goodnet.complete"] for r in trials}
    return len(keys) == len(trials) == TRIALS and complete == {"done"}


@pytest.mark.slow
def test_a_folder_goes_away_and_comes_back(config, tmp_path) -> None:
    """As a mount that is lost: in its place is an empty folder."""
    runs, kept = tmp_path / "runs", tmp_path / "kept"

    def away() -> None:
        runs.rename(kept)
        runs.mkdir()

    def back() -> None:
        runs.rmdir()  # fails where somebody has written into it
        kept.rename(runs)

    swept_through(config, "ray", lambda: len(list((runs / "trials").glob("*.parquet"))), away, back)
    assert len(Storage(str(runs)).names("trials")) == TRIALS
    assert logged_once(f"sqlite:///{runs}/mlflow.db")


class S3:
    """An S3-compatible server; what was stored is there when it starts again."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self.make = ThreadedMotoServer
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = self.make(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        _, self.port = self.server.get_host_and_port()

    def stop(self) -> None:
        self.server.stop()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "goodnet",
        "AWS_SECRET_ACCESS_KEY": "goodnet",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    server = S3()
    try:
        boto3.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}").create_bucket(Bucket="sweeps")
        yield server
    finally:
        server.stop()


@pytest.mark.slow
def test_an_s3_store_goes_away_and_comes_back(config, tmp_path, s3) -> None:
    place = f"s3://sweeps/runs?endpoint_override=127.0.0.1:{s3.port}&scheme=http&region=us-east-1"
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tree = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump(tree | {"storage": place, "tracking": {"uri": uri}}))
    storage = Storage(place)
    swept_through(config, "ray", lambda: len(storage.names("trials")), s3.stop, s3.start)
    names = storage.names("trials")
    found = [RecordStore(storage).read(name.removesuffix(".parquet")) for name in names]
    assert len(names) == TRIALS and all(record and record.status == "done" for record in found)
    assert logged_once(uri)
