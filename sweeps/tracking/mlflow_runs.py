"""MLflow: a parent run a sweep, a child a trial, GoodNets in the registry.

The only file that imports mlflow, which takes seconds: import it where it is needed. All writes can
be repeated: what is there already is found by tag and finished, never doubled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

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
from mlflow.entities import Experiment, Metric, Param, Run, RunTag  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode  # noqa: E402

from prune_core.errors import InputError  # noqa: E402
from sweeps.records.trial_record import TrialRecord  # noqa: E402
from sweeps.records.trial_report import TrialReport  # noqa: E402
from sweeps.reports.page.links import RunLinks, linked  # noqa: E402
from sweeps.storage.manifest import Manifest  # noqa: E402
from sweeps.tracking.address import SQLITE, check_address, shown, sqlite_path  # noqa: E402
from sweeps.tracking.duplicates import PARENT, TRIAL, adopt, in_order, one_a_trial  # noqa: E402
from sweeps.tracking.facts import flat, found_in  # noqa: E402
from sweeps.tracking.onnx_model import save_onnx_model  # noqa: E402
from sweeps.tracking.trial_files import stepped_metrics, trial_files  # noqa: E402

BATCH = 1000  # metrics that one log_batch takes
TAGS = 100  # tags that one log_batch takes
PAGE = "frontier.html"  # of a sweep's files, the one that leads to the runs
NOTE = "mlflow.note.content"  # what the UI shows as a run's description
LOG, LOGGED = "goodnet.log", "2"  # of a trial's run: 2 since steps are the numbers of candidates
_NOTE_LENGTH = 8000  # longest tag value
_EXISTS = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)


@dataclass
class _Child:
    """A trial's run: its id, start in ms since the epoch, the status it was completed with, and whether
    it was logged by a version whose steps meant something else."""

    run_id: str
    started: int
    complete: str | None
    outdated: bool = False

    @classmethod
    def of(cls, run: Run) -> _Child:
        tags = run.data.tags
        return cls(
            run.info.run_id, run.info.start_time, tags.get("goodnet.complete"), tags.get(LOG) != LOGGED
        )


class Tracking:
    """An MLflow experiment. Not thread-safe. Methods raise whatever MLflow raises: callers that
    must not fail go through ``background.BackgroundTracking``."""

    def __init__(self, uri: str, experiment: str, artifact_location: str | None = None) -> None:
        """Connects on first use. ``artifact_location`` counts only when the experiment is new;
        None leaves it to the server."""
        self.uri = uri
        self.experiment = experiment
        self.artifact_location = artifact_location
        self._children: dict[str, dict[str, _Child]] = {}  # parent run id -> trial key -> child
        self._identities: dict[str, dict[str, str]] = {}  # parent run id -> tags by which it is found
        self._pixels: dict[str, dict[str, Any]] = {}  # parent run id -> what its trials do to pixels

    def check(self, seconds: float = 8.0) -> None:
        """Raises InputError, within about ``seconds``, when MLflow does not answer at the address,
        or the experiment cannot be used. Logs nothing."""
        check_address(self.uri, seconds, lambda: self._usable(self._find_experiment()))

    def start_sweep(self, manifest: Manifest, provenance: Mapping[str, Any]) -> str:
        """The id of the sweep's parent run: the one there is, or a new one. Now RUNNING.

        A run belongs to a sweep when it has its name and was made with the same BadNet and data.
        Configuration and provenance are tags, not params: params cannot change when a sweep of the
        same name goes on with more trials.
        """
        identity = {
            "goodnet.sweep": manifest.name,
            "goodnet.inputs": _digest(json.dumps(manifest.digests, sort_keys=True).encode()),
        }
        found = in_order(self._search(identity))
        if found:
            run_id = found[0].info.run_id
            self._client.update_run(run_id, status="RUNNING")
        else:
            run = self._client.create_run(self._experiment_id, tags=identity, run_name=manifest.name)
            run_id = in_order([run, *self._search(identity)])[0].info.run_id
            if run_id != run.info.run_id:  # another driver was faster
                self._client.delete_run(run.info.run_id)
        self._identities[run_id] = identity
        # A trial's own: its digests are of pixels as the network gets them.
        self._pixels[run_id] = flat("data", manifest.config.data.form.preprocessing.to_json())
        config = manifest.config.model_dump(mode="json")
        facts = {
            **flat("config", config),
            **flat("digest", manifest.digests),
            **flat("goodnet", dict(provenance)),
            "goodnet.trials": len(manifest.trials),
            **found_in(manifest),
        }
        self._set_tags(run_id, facts)
        text = yaml.safe_dump(config, sort_keys=False)
        self._log_files(run_id, {"config.yaml": text.encode()})
        return run_id

    def log_trial(self, run_id: str, record: TrialRecord) -> None:
        """The record as a child of the sweep's run: settings and what is done to pixels as params, a
        value of every stepped metric for each accepted state, the final counts, mask and steps as artifacts.

        Does nothing for a record that is there; finishes what an earlier attempt left half done.
        """
        try:
            child = self._child_for(run_id, record)
            if child.complete == record.status:
                return
            self._fill(child, record, self._pixels.get(run_id, {}))
        except Exception:
            self._children.pop(run_id, None)  # what is there is not known any more: look again
            raise

    def has_trial(self, run_id: str, key: str, status: str) -> bool:
        """Whether the trial's record of that status is logged whole."""
        child = self._known_children(run_id).get(key)
        return child is not None and child.complete == status and not child.outdated

    def settle(self, run_id: str) -> str:
        """What another driver of the same sweep has logged at the same time, and this one, become one
        (see ``duplicates``). The run that the sweep has now, which may be another than before; trials whose
        runs were left unfinished are to be logged again."""
        runs = in_order(self._search(self._identities[run_id]))
        kept = str(runs[0].info.run_id) if runs else run_id
        self._identities[kept] = self._identities[run_id]
        self._pixels[kept] = self._pixels[run_id]
        # Ours may be deleted already, and still have children.
        for other in {run_id, *(run.info.run_id for run in runs)} - {kept}:
            adopt(self._client, self._search({PARENT: other}), kept)
            self._client.delete_run(other)
        self._children.pop(kept, None)
        self._known_children(kept)
        return kept

    def log_goodnet(self, run_id: str, trial_key: str, step: int, onnx: bytes) -> None:
        """A frontier member's model, in the child that found it: ``goodnets/step-<step>.onnx``."""
        child = self._known_children(run_id).get(trial_key)
        if child is None:
            raise LookupError(f"trial {trial_key} is not in MLflow yet")
        self._log_files(child.run_id, {f"goodnets/step-{step}.onnx": onnx})

    def log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        """Files, by artifact path, in place of those that the run may have there."""
        self._log_files(run_id, files)

    def finish_sweep(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
        note: str | None = None,
        stopped: bool = False,
    ) -> None:
        """Figures and files (by artifact path) of the whole sweep; ``note`` is Markdown that the UI shows
        as the run's description. The run is FINISHED, or KILLED when the sweep was ``stopped``."""
        now = _now()
        self._log_metrics(run_id, [Metric(k, float(v), now, 0) for k, v in metrics.items()])
        self._log_files(run_id, files)
        if note is not None and len(note) <= _NOTE_LENGTH:
            self._client.set_tag(run_id, NOTE, note)
        self._client.set_terminated(run_id, "KILLED" if stopped else "FINISHED")

    def stop_sweep(self, run_id: str) -> None:
        """The sweep was interrupted: its run is KILLED until ``start_sweep`` takes it up again."""
        self._client.set_terminated(run_id, "KILLED")

    def register(
        self,
        onnx: bytes,
        name: str,
        alias: str,
        run_id: str | None,
        tags: Mapping[str, str],
        description: str,
        beside: Mapping[str, bytes] | None = None,
    ) -> str:
        """A new version of registered model ``name``, which ``alias`` then points to; the version.

        The files go into run ``run_id``, or into a new one; ``beside`` are more files (by name) for
        the model's folder, such as its card. ``models:/<name>@<alias>`` opens with ``mlflow.onnx``
        and ``mlflow.pyfunc``, with a signature and an input example; the flavour is ONNX, nothing is
        pickled, and the bytes of ``model.onnx`` are the ones handed in.
        """
        if run_id is None or self._client.get_run(run_id).info.lifecycle_stage != "active":
            run = self._client.create_run(self._experiment_id, run_name=f"pick {name}")
            run_id = run.info.run_id
            self._client.set_terminated(run_id)
        place = f"goodnets/registered-{_digest(onnx)}"
        with tempfile.TemporaryDirectory() as folder:
            save_onnx_model(onnx, Path(folder) / "model")
            for file, data in (beside or {}).items():
                (Path(folder) / "model" / file).write_bytes(data)
            self._client.log_artifacts(run_id, f"{folder}/model", place)
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{place}"
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != _EXISTS:
                raise
        version = self._client.create_model_version(
            name,
            source,
            run_id,
            tags=dict(tags),
            description=description,
            await_creation_for=30,
        ).version
        self._client.set_registered_model_alias(name, alias, version)
        return str(version)

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
            return str(found.experiment_id)
        try:
            return self._client.create_experiment(self.experiment, self.artifact_location)
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

    def _known_children(self, run_id: str) -> dict[str, _Child]:
        if run_id not in self._children:
            runs = one_a_trial(self._client, self._search({PARENT: run_id}))
            self._children[run_id] = {key: _Child.of(run) for key, run in runs.items()}
        return self._children[run_id]

    def _child_for(self, run_id: str, record: TrialRecord) -> _Child:
        children = self._known_children(run_id)
        if record.key in children and children[record.key].outdated:
            # Values of other steps cannot be taken out of a run: the trial gets a new one.
            self._client.delete_run(children.pop(record.key).run_id)
        if record.key not in children:
            started = _now() - int(1000 * record.seconds)
            tags = {PARENT: run_id, TRIAL: record.key, LOG: LOGGED}
            made = self._search(tags)  # by another driver, since this one has looked
            run = (
                in_order(made)[0]
                if made
                else self._client.create_run(
                    self._experiment_id, started, tags, run_name=str(record.settings)
                )
            )
            children[record.key] = _Child.of(run)
        return children[record.key]

    def _fill(self, child: _Child, record: TrialRecord, pixels: Mapping[str, Any]) -> None:
        known = {**TrialReport.of(record).params(), **pixels}
        params = [Param(key, str(value)) for key, value in known.items()]
        self._client.log_batch(child.run_id, params=params)
        # Timestamps follow from the run's start, so that a metric logged again is the same metric.
        self._log_metrics(
            child.run_id,
            [
                Metric(m.name, m.value, child.started + int(1000 * m.seconds), m.step)
                for m in stepped_metrics(record)
            ],
        )
        self._log_files(child.run_id, trial_files(record))
        if record.reason is not None:
            # Four spaces: code, since the UI shows Markdown, and a reason may name what a file holds.
            note = "    " + " ".join(record.reason.split())
            facts = {"goodnet.reason": record.reason, "goodnet.failure": record.failure or "unknown"}
            self._set_tags(child.run_id, {**facts, NOTE: note})
        elif child.complete == "failed":
            for tag in ("goodnet.reason", "goodnet.failure", NOTE):
                self._client.delete_tag(child.run_id, tag)
        status = "FINISHED" if record.status == "done" else "FAILED"
        ended = child.started + int(1000 * record.seconds)
        self._client.set_terminated(child.run_id, status, ended)
        self._client.set_tag(child.run_id, "goodnet.complete", record.status)
        child.complete = record.status

    def _log_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def _set_tags(self, run_id: str, values: Mapping[str, Any]) -> None:
        tags = [RunTag(key, str(value)[:_NOTE_LENGTH]) for key, value in values.items()]
        for start in range(0, len(tags), TAGS):
            self._client.log_batch(run_id, tags=tags[start : start + TAGS])

    def _linked(self, run_id: str, page: bytes) -> bytes:
        """The page of a sweep, with links to its trials' runs."""
        trials = {key: child.run_id for key, child in self._known_children(run_id).items()}
        return linked(page, RunLinks(self.uri, self._experiment_id, run_id, trials))

    def _log_files(self, run_id: str, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, data in files.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self._linked(run_id, data) if name == PAGE else data)
            self._client.log_artifacts(run_id, folder)


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


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _now() -> int:
    return int(1000 * time.time())
