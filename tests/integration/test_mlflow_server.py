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
    run_id = tracking.start_sweep(make_manifest([record]), {})
    tracking.log_trial(run_id, record)
    tracking.finish_sweep(run_id, {"hypervolume": 0.5}, {"frontier.html": b"<p>"})
    client = MlflowClient(server.uri)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.info.artifact_uri.startswith("mlflow-artifacts:/")
    path = client.download_artifacts(run_id, "frontier.html", str(tmp_path))
    assert Path(path).read_text() == "<p>"
    (child,) = client.search_runs([run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'")
    assert len(client.get_metric_history(child.info.run_id, "clean_accuracy")) == 3


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
