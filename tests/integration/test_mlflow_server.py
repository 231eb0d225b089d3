"""An MLflow server on PostgreSQL, as infra/mlflow-server.sh starts it."""

from __future__ import annotations

import http.client
import os
import subprocess
from pathlib import Path

import pytest
from factories import make_manifest, make_record
from mlflow import MlflowClient
from servers import MISSING, ROOT, mlflow_on_postgres, postgres_programs
from small_nets import tiny_onnx

from sweeps.tracking.datasets import DataSet
from sweeps.tracking.mlflow_runs import Tracking

SCRIPT = str(ROOT / "infra" / "mlflow-server.sh")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if postgres_programs() is None:
        pytest.skip(MISSING)
    with mlflow_on_postgres(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.mark.slow
def test_takes_a_sweep_files_included_over_http(server, tmp_path) -> None:
    record = make_record("a")
    tracking = Tracking(server.uri, "over http")
    tracking.check()
    data = DataSet("clean", "test", "c" * 64, 1000, (3, 8, 8), "uint8", "clean.h5")
    for _ in range(2):  # all can be repeated
        run_id = tracking.start_sweep(make_manifest([record]), {}, [data])
        tracking.log_trial(run_id, record)
    tracking.finish_sweep(run_id, {"hypervolume": 0.5}, {"frontier.html": b"<p>"})
    client = MlflowClient(server.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.artifact_uri.startswith("mlflow-artifacts:/")
    path = client.download_artifacts(run_id, "frontier.html", str(tmp_path))
    assert Path(path).read_text() == "<p>"
    (child,) = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert len(client.get_metric_history(child.info.run_id, "clean_accuracy")) == 3
    assert [each.dataset.name for each in child.inputs.dataset_inputs] == ["clean test"]
    assert (child.data.params["order"], child.data.params["repair"]) == ("activation", "none")
    tags = client.get_experiment(run.info.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    tracking.register(tiny_onnx(), "net", "goodnet", run_id, {}, "why", None, ("a", 3))
    version = client.get_model_version_by_alias("net", "goodnet")
    assert version.run_id == child.info.run_id and version.source.startswith("mlflow-artifacts:/")
    assert "[net, version 1]" in client.get_run(child.info.run_id).data.tags["mlflow.note.content"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:{port}", 200),
        ("localhost:{port}", 200),
        ("evil.example:{port}", 403),
    ],
)
def test_answers_only_to_its_names(server, host, status) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "GET",
        "/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default",
        headers={"Host": host.format(port=server.port)},
    )
    assert connection.getresponse().status == status


@pytest.mark.slow
def test_listens_on_loopback_only(server) -> None:
    table = Path("/proc/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in table if line.split()[3] == "0A"]
    mine = [address for address in listening if int(address.partition(":")[2], 16) == server.port]
    assert mine == [f"0100007F:{server.port:04X}"]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "MLFLOW_BACKEND_STORE_URI is not set"),
        ({"MLFLOW_BACKEND_STORE_URI": "sqlite:///x.db"}, "expected postgresql+psycopg://"),
        ({"MLFLOW_BACKEND_STORE_URI": "postgresql://h/db", "HOST": "0.0.0.0"}, "set ALLOWED_HOSTS"),
    ],
)
def test_says_in_one_line_what_is_missing(environment, words) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("MLFLOW_BACKEND_STORE_URI", "HOST")}
    said = subprocess.run([SCRIPT], env={**kept, **environment}, capture_output=True, text=True)
    assert said.returncode == 2 and words in said.stderr and said.stderr.count("\n") == 1
