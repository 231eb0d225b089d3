"""MLflow: a parent run a sweep, a child a trial, GoodNets in the registry.

Imports mlflow, which takes seconds: import it where it is needed. All writes can
be repeated: what is there already is found by tag and finished, never doubled.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweeps.tracking.connection import Connection, now  # isort: skip  # sets MLflow's environment

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
)

from sweeps.records.trial_record import TrialRecord
from sweeps.records.trial_report import TrialReport
from sweeps.reports.page.links import RunLinks, linked
from sweeps.storage.manifest import Manifest
from sweeps.tracking.datasets import DataSet
from sweeps.tracking.duplicates import PARENT, TRIAL, adopt, in_order, one_a_trial
from sweeps.tracking.facts import flat, found_in, shared_params, sweep_params
from sweeps.tracking.notes import (
    LONGEST,
    NOTE,
    Places,
    kept,
    registered,
    run_name,
    trial_note,
)
from sweeps.tracking.registry import new_version
from sweeps.tracking.trial_files import stepped_metrics, trial_files

BATCH = 1000  # values of all sorts that one log_batch takes
TAGS = 100  # tags that one log_batch takes
PAGE = "frontier.html"  # of a sweep's files, the one that leads to the runs
# Of a trial's run: 2 since steps are the numbers of candidates, 3 since it has data sets and links.
LOG, LOGGED, SAME_STEPS = "goodnet.log", "3", ("2", "3")
SWEEP, OF_SWEEP = "goodnet.sweep", "goodnet.of_sweep"  # of the sweep's run alone; of its trials' runs
_SOURCE = "mlflow.source.name"


@dataclass
class _Child:
    """A trial's run: its id, start in ms since the epoch, the status it was completed with, whether it was
    logged by a version whose steps meant something else, or by one that logged less; its description."""

    run_id: str
    started: int
    complete: str | None
    outdated: bool = False
    lacking: bool = False
    note: str = ""

    @classmethod
    def of(cls, run: Run) -> _Child:
        tags, info = run.data.tags, run.info
        log, complete = tags.get(LOG), tags.get("goodnet.complete")
        # Of thousands of runs only those that are logged again keep it.
        note = tags.get(NOTE, "") if complete is not None and log != LOGGED else ""
        return cls(info.run_id, info.start_time, complete, log not in SAME_STEPS, log != LOGGED, note)

    def holds(self, status: str) -> bool:
        """All that there is to log of a trial with this status."""
        return self.complete == status and not self.lacking


class Tracking(Connection):
    """An MLflow experiment. Not thread-safe. Methods raise whatever MLflow raises: callers that
    must not fail go through ``background.BackgroundTracking``."""

    def __init__(self, uri: str, experiment: str, artifact_location: str | None = None) -> None:
        """As of a ``Connection``."""
        super().__init__(uri, experiment, artifact_location)
        self._children: dict[str, dict[str, _Child]] = {}  # parent run id -> trial key -> child
        self._identities: dict[str, dict[str, str]] = {}  # parent run id -> tags by which it is found
        self._shared: dict[str, dict[str, str]] = {}  # parent run id -> params that all its trials have
        self._inputs: list[DatasetInput] = []  # of the sweep that was started last, and its trials

    def start_sweep(
        self, manifest: Manifest, provenance: Mapping[str, Any], data: Sequence[DataSet] = ()
    ) -> str:
        """The id of the sweep's parent run: the one there is, or a new one. Now RUNNING. ``data``: what it
        and its trials work on.

        A run belongs to a sweep when it has its name and was made with the same BadNet and data.
        What tells the sweep from another is a param; configuration and provenance are tags, since params
        cannot change when a sweep of the same name goes on with more trials.
        """
        identity = {
            SWEEP: manifest.name,
            "goodnet.inputs": _digest(json.dumps(manifest.digests, sort_keys=True).encode()),
        }
        found = in_order(self._search(identity))
        if found:
            run_id, run = found[0].info.run_id, found[0]
            self._client.update_run(run_id, status="RUNNING")
        else:
            tags = {**identity, _SOURCE: "goodnet sweep"}
            run = self._client.create_run(self._experiment_id, tags=tags, run_name=manifest.name)
            run_id = in_order([run, *self._search(identity)])[0].info.run_id
            if run_id != run.info.run_id:  # another driver was faster
                self._client.delete_run(run.info.run_id)
        self._identities[run_id] = identity
        self._shared[run_id] = shared_params(manifest)
        self._inputs = [_input(each) for each in data]
        there = run.data.params
        params = {k: v for k, v in sweep_params(manifest).items() if k not in there}
        config = manifest.config.model_dump(mode="json")
        facts = {
            **flat("config", config),
            **flat("digest", manifest.digests),
            **flat("goodnet", dict(provenance)),
            "goodnet.trials": len(manifest.trials),
            **found_in(manifest),
        }
        self._set_tags(run_id, facts)
        self._log(run_id, params=params)
        self._log_inputs(run_id)
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
            if not child.holds(record.status):
                self._fill(run_id, child, record)
        except Exception:
            self._children.pop(run_id, None)  # what is there is not known any more: look again
            raise

    def has_trial(self, run_id: str, key: str, status: str) -> bool:
        """Whether the trial's record of that status is logged whole."""
        child = self._known_children(run_id).get(key)
        return child is not None and child.holds(status)

    def settle(self, run_id: str) -> str:
        """What another driver of the same sweep has logged at the same time, and this one, become one
        (see ``duplicates``). The run that the sweep has now, which may be another than before; trials whose
        runs were left unfinished are to be logged again."""
        runs = in_order(self._search(self._identities[run_id]))
        stays = str(runs[0].info.run_id) if runs else run_id
        self._identities[stays] = self._identities[run_id]
        self._shared[stays] = self._shared[run_id]
        # Ours may be deleted already, and still have children.
        for other in {run_id, *(run.info.run_id for run in runs)} - {stays}:
            adopt(self._client, self._search({PARENT: other}), stays)
            self._client.delete_run(other)
        self._children.pop(stays, None)
        self._known_children(stays)
        return stays

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
        note: Callable[[Places], str] | None = None,
        stopped: bool = False,
    ) -> None:
        """Figures and files (by artifact path) of the whole sweep; ``note`` makes the Markdown that the UI
        shows as the run's description. The run is FINISHED, or KILLED when the sweep was ``stopped``."""
        at = now()
        self._log(run_id, [Metric(k, float(v), at, 0) for k, v in metrics.items()])
        self._log_files(run_id, files)
        if note is not None:
            trials = {key: child.run_id for key, child in self._known_children(run_id).items()}
            self._set_tags(run_id, {NOTE: note(Places(self._experiment_id, run_id, trials))})
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
        trial: tuple[str, int] | None = None,
    ) -> str:
        """A new version of registered model ``name``, which ``alias`` then points to; the version.

        Its source, where its files go, is the run of ``trial`` (key and step), and each links to the other;
        where that is not logged the sweep's ``run_id``, or a new run. ``beside`` are more files (by name) for
        the model's folder, such as its card. ``models:/<name>@<alias>`` opens with ``mlflow.onnx``
        and ``mlflow.pyfunc``, with a signature and an input example; the flavour is ONNX, nothing is
        pickled, and the bytes of ``model.onnx`` are the ones handed in.
        """
        found = [] if trial is None else in_order(self._search({TRIAL: trial[0]}))
        source = next((r for r in found if r.data.tags.get(PARENT) == run_id), found[0] if found else None)
        place = f"goodnets/registered-{_digest(onnx)}"
        if source is None or trial is None:
            home = self._active(run_id) or self._new_home(name)
            return new_version(self._client, home, place, onnx, name, alias, tags, description, beside or {})
        home, step = source.info.run_id, trial[1]
        places = Places(self._experiment_id, source.data.tags.get(PARENT, ""))
        about = f"\n\nStep {step} of [this trial]({places.run(home)}), "
        about += f"of [this sweep]({places.run(places.sweep)})."
        version = new_version(
            self._client, home, place, onnx, name, alias, tags, description + about, beside or {}
        )
        note = registered(source.data.tags.get(NOTE, ""), name, version, step)
        self._set_tags(home, {"goodnet.registered": f"{name}/{version}", NOTE: note})
        return version

    def _active(self, run_id: str | None) -> str | None:
        """The run, unless it was deleted."""
        if run_id is None or self._client.get_run(run_id).info.lifecycle_stage != "active":
            return None
        return run_id

    def _new_home(self, name: str) -> str:
        run = self._client.create_run(self._experiment_id, run_name=f"pick {name}")
        self._client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

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
            began = time.time() - record.seconds if record.ran is None else record.ran.started
            tags = {PARENT: run_id, TRIAL: record.key, LOG: LOGGED}
            made = self._search(tags)  # by another driver, since this one has looked
            run = (
                in_order(made)[0]
                if made
                else self._client.create_run(
                    self._experiment_id,
                    int(1000 * began),
                    {**tags, _SOURCE: "goodnet trial"},
                    run_name=run_name(record),
                )
            )
            children[record.key] = _Child.of(run)
        return children[record.key]

    def _fill(self, run_id: str, child: _Child, record: TrialRecord) -> None:
        places = Places(self._experiment_id, run_id)
        sweep = self._identities.get(run_id, {}).get(SWEEP)
        tags = {NOTE: kept(trial_note(record, places, sweep), child.note)}
        if sweep is not None:
            tags[OF_SWEEP] = sweep
        if record.reason is not None:
            tags["goodnet.reason"] = record.reason
        if record.status == "failed":
            tags["goodnet.failure"] = record.failure or "unknown"
        # Timestamps follow from the run's start, so that a metric logged again is the same metric.
        self._log(
            child.run_id,
            [
                Metric(m.name, m.value, child.started + int(1000 * m.seconds), m.step)
                for m in stepped_metrics(record)
            ],
            {**self._shared.get(run_id, {}), **TrialReport.of(record).params()},
            tags,
        )
        self._log_inputs(child.run_id)
        self._log_files(child.run_id, trial_files(record))
        if child.complete is not None:  # by a version before, or when it had failed
            self._client.update_run(child.run_id, name=run_name(record))
        if child.complete == "failed" and record.status != "failed":
            self._client.delete_tag(child.run_id, "goodnet.failure")
        if child.complete in ("failed", "stopped") and record.reason is None:
            self._client.delete_tag(child.run_id, "goodnet.reason")
        status = "FAILED" if record.status == "failed" else "FINISHED"
        ended = child.started + int(1000 * record.seconds)
        self._client.set_terminated(child.run_id, status, ended)
        if child.lacking:
            self._client.set_tag(child.run_id, LOG, LOGGED)
        self._client.set_tag(child.run_id, "goodnet.complete", record.status)
        child.complete, child.lacking = record.status, False

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, Any] | None = None,
    ) -> None:
        """In as few calls as there can be."""
        listed = [Param(key, value) for key, value in (params or {}).items()]
        first = BATCH - len(listed) - len(tags or {})
        self._client.log_batch(run_id, metrics[:first], listed, _run_tags(tags or {}))
        for start in range(first, len(metrics), BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + BATCH])

    def _log_inputs(self, run_id: str) -> None:
        if self._inputs:
            self._client.log_inputs(run_id, self._inputs)

    def _set_tags(self, run_id: str, values: Mapping[str, Any]) -> None:
        tags = _run_tags(values)
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


def _run_tags(values: Mapping[str, Any]) -> list[RunTag]:
    return [RunTag(key, str(value)[:LONGEST]) for key, value in values.items()]


def _input(data: DataSet) -> DatasetInput:
    made = Dataset(data.name, data.digest, "local", data.where, data.form, data.counts)
    return DatasetInput(
        made,
        [
            InputTag("mlflow.data.context", data.split),
            InputTag("kind", data.kind),
            InputTag("images", str(data.images)),
            InputTag("sha256", data.sha256),
        ],
    )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
