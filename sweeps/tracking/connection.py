"""The way to an experiment of MLflow: its address, its client, its tags.

Imported before any other part of mlflow, which takes seconds: import it where it is needed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

# MLflow reads these when it is imported. By default it retries for minutes, prints run addresses
# and progress bars on standard output, and reports its use to its makers. Retries are ours
# (``background``): one inside the HTTP client could create a run twice.
for _name, _value in {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}.items():
    os.environ.setdefault(_name, _value)
for _noisy in ("alembic", "urllib3.connectionpool"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)
# A disk that fills up: both would print a traceback of what is raised to us all the same.
for _noisy in ("mlflow.store.db.utils", "sqlalchemy.pool"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Experiment, Run  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode  # noqa: E402

from prune_core.errors import InputError  # noqa: E402
from sweeps.tracking.address import SQLITE, check_address, shown, sqlite_path  # noqa: E402
from sweeps.tracking.experiment import missing_tags  # noqa: E402

_EXISTS = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)


class Connection:
    """An experiment at an address."""

    def __init__(self, uri: str, experiment: str, artifact_location: str | None = None) -> None:
        """Connects on first use. ``artifact_location`` counts only when the experiment is new;
        None leaves it to the server."""
        self.uri = uri
        self.experiment = experiment
        self.artifact_location = artifact_location

    def check(self, seconds: float = 8.0) -> None:
        """Raises InputError, within about ``seconds``, when MLflow does not answer at the address,
        or the experiment cannot be used. Logs nothing."""
        check_address(self.uri, seconds, lambda: self._usable(self._find_experiment()))

    @cached_property
    def _client(self) -> MlflowClient:
        if self.uri.startswith(SQLITE):
            _make_database(sqlite_path(self.uri))
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @cached_property
    def _experiment_id(self) -> str:
        found = self._find_experiment()
        self._usable(found)
        if found is not None:
            for key, value in missing_tags(found.tags, now()).items():
                self._client.set_experiment_tag(found.experiment_id, key, value)
            return str(found.experiment_id)
        try:
            return self._client.create_experiment(
                self.experiment, self.artifact_location, missing_tags({}, now())
            )
        except MlflowException as error:  # another sweep may have made it in between
            found = self._find_experiment()
            if error.error_code != _EXISTS or found is None:
                raise
            return str(found.experiment_id)

    def _find_experiment(self) -> Experiment | None:
        return self._client.get_experiment_by_name(self.experiment)

    def _usable(self, found: Experiment | None) -> None:
        """Raises InputError for a deleted one, in which nothing can be logged."""
        if found is not None and found.lifecycle_stage != "active":
            raise InputError(
                f"MLflow at {shown(self.uri)}: experiment {self.experiment!r} was deleted there; "
                "restore it, or name another one with tracking.experiment"
            )

    def _search(self, tags: Mapping[str, str]) -> list[Run]:
        """All runs with these tags, the oldest first."""
        wanted = " and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items())
        runs: list[Run] = []
        token = None
        while token is None or token:
            page = self._client.search_runs(
                [self._experiment_id],
                wanted,
                max_results=1000,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            runs += page
            token = page.token or ""
        return runs


def _make_database(path: Path) -> None:
    """MLflow's tables in a new SQLite file, which appears whole: a process that is killed while
    MLflow makes its tables would leave a file that MLflow can neither use nor mend."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        new = Path(folder) / path.name
        MlflowClient(tracking_uri=f"{SQLITE}{new}").search_experiments(max_results=1)
        with contextlib.suppress(FileExistsError):  # another process was faster
            path.hardlink_to(new)


def now() -> int:
    """Milliseconds since the epoch."""
    return int(1000 * time.time())
