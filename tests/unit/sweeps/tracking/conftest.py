"""One MLflow on SQLite for the tests of this folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeps.tracking.mlflow_runs import Tracking

FIRST_USE = """
import sys
from factories import make_manifest, make_record
from sweeps.tracking.mlflow_runs import Tracking
tracking = Tracking(f"sqlite:///{sys.argv[1]}/mlflow.db", "first use", f"{sys.argv[1]}/artifacts")
record = make_record()
run_id = tracking.start_sweep(make_manifest([record]), {})
tracking.log_trial(run_id, record)
tracking.finish_sweep(run_id, {}, {})
"""


@pytest.fixture(scope="session")
def first_use(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A store that another process has just made, and what that process said."""
    store, here = tmp_path_factory.mktemp("store"), Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parent}"}
    said = subprocess.run(
        [sys.executable, "-c", FIRST_USE, str(store)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
    )
    return store, said


@pytest.fixture
def store(first_use) -> Path:
    """One database for all tests, since making one takes seconds; each has its own experiment."""
    return first_use[0]


@pytest.fixture
def connect(store: Path, request):
    """Makes a new Tracking, as another process would, on this test's own experiment."""

    def make() -> Tracking:
        return Tracking(f"sqlite:///{store}/mlflow.db", request.node.name, f"{store}/artifacts")

    return make


@pytest.fixture
def client(store: Path) -> MlflowClient:
    uri = f"sqlite:///{store}/mlflow.db"
    return MlflowClient(uri, registry_uri=uri)
