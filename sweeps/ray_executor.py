"""Trials over the workers of a Ray cluster, by Ray Tune."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

import torch
from ray import tune
from ray.tune.experiment import Trial

from sweeps.config import Config, ResourcesConfig
from sweeps.executors import Listener, Throttle
from sweeps.inputs import Parcel
from sweeps.nets import Progress
from sweeps.ray_cluster import connected, nodes_agree
from sweeps.records import RecordStore, TrialRecord
from sweeps.space import TrialSettings
from sweeps.storage import Storage
from sweeps.trial import Evaluators, TrialInputs, run_trial

# A worker process serves many trials of one sweep: network and caches are built once.
_opened: dict[str, tuple[TrialInputs, Evaluators]] = {}


class RayExecutor:
    """Ray Tune over the cluster at RAY_ADDRESS or one on this machine; or a local one, started
    here and ended with the sweep. Data and network lie in the object store once a node."""

    def run(
        self, trials: Sequence[TrialSettings], inputs: TrialInputs, config: Config,
        listener: Listener,
    ) -> None:
        with connected(), tempfile.TemporaryDirectory(prefix="goodnet-tune-") as scratch:
            nodes_agree(config)
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(
                        _trial, parcel=Parcel.of(inputs), place=Storage(config.storage).address,
                        kind=config.evaluator, resources=config.resources,
                    ),
                    {"cpu": config.resources.cpu, "gpu": config.resources.gpu},
                ),
                param_space={"settings": tune.grid_search([s.to_json() for s in trials])},
                tune_config=tune.TuneConfig(reuse_actors=True),
                run_config=tune.RunConfig(
                    name="goodnet",
                    # Records are the results and go to the storage; Tune's own state is scratch.
                    storage_path=scratch,
                    verbose=0,
                    failure_config=tune.FailureConfig(max_failures=2),
                    callbacks=[_Relay(listener, inputs, RecordStore(Storage(config.storage)))],
                ),
            )
            tuner.fit()


def _trial(
    config: dict[str, Any], parcel: Parcel, place: str, kind: str, resources: ResourcesConfig
) -> None:
    """What a worker does: the plain trial, its record to the storage, progress to the driver."""
    torch.set_num_threads(max(1, math.floor(resources.cpu)))
    inputs, evaluators = _open(parcel, kind, resources, Storage(place))
    settings = TrialSettings.from_json(config["settings"])
    due = Throttle(1.0)
    tried = 0

    def watch(progress: Progress) -> None:
        nonlocal tried
        tried = progress.done
        if due():
            tune.report({"tried": tried, "total": progress.total, "pruned": progress.pruned})

    record = run_trial(settings, inputs, evaluators, watch)
    RecordStore(Storage(place)).write(record)
    tune.report({"tried": tried, "total": max(tried, 1), "pruned": len(record.mask)})


def _open(
    parcel: Parcel, kind: str, resources: ResourcesConfig, storage: Storage
) -> tuple[TrialInputs, Evaluators]:
    if parcel.id not in _opened:
        _opened.clear()  # a reused worker keeps one sweep's data, not all it ever saw
        inputs = parcel.opened()
        if resources.gpu > 0 and torch.cuda.is_available():
            inputs.model.graph.to("cuda")
        _opened[parcel.id] = (inputs, Evaluators.of(inputs, kind, resources, storage))
    return _opened[parcel.id]


class _Relay(tune.Callback):
    """From Tune's events to the listener; a trial that Tune gave up gets its failed record here."""

    def __init__(self, listener: Listener, inputs: TrialInputs, store: RecordStore) -> None:
        self.listener, self.inputs, self.store = listener, inputs, store

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks to restore itself; we restore from records instead

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if "tried" in result:
            self.listener.candidates(
                self._key(trial), result["tried"], result["total"], result["pruned"]
            )

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        record = self.store.read(self._key(trial))
        if record is None:
            self._failed(trial, "its record is not in the storage; is that shared by all nodes?")
        else:
            self.listener.ended(record)

    def on_trial_error(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        lines = [line.strip() for line in str(trial.get_error() or "").splitlines() if line.strip()]
        self._failed(trial, "the worker was lost: " + (lines[-1][:300] if lines else "no message"))

    def _failed(self, trial: Trial, reason: str) -> None:
        settings = TrialSettings.from_json(trial.config["settings"])
        record = TrialRecord(self.inputs.key(settings), settings, "failed", reason)
        self.store.write(record)
        self.listener.ended(record)

    def _key(self, trial: Trial) -> str:
        return self.inputs.key(TrialSettings.from_json(trial.config["settings"]))
