"""Executors by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_core.errors import InputError
from sweeps.config.schema import Config, ResourcesConfig
from sweeps.config.sweep import SweepConfig
from sweeps.events import SweepEvents
from sweeps.execution.executor import Executor
from sweeps.execution.inline import InlineExecutor
from sweeps.extras import need
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.queue import TrialQueue
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class LateRayExecutor:
    """``ray_executor.RayExecutor``, imported (seconds) only when there are trials to run."""

    evaluator: str
    resources: ResourcesConfig
    sweep: SweepConfig

    def run(
        self,
        trials: TrialQueue,
        inputs: TrialInputs,
        storage: Storage,
        events: SweepEvents,
        before: Sequence[TrialRecord] = (),
    ) -> None:
        from sweeps.execution.ray_executor import RayExecutor

        executor = RayExecutor(self.evaluator, self.resources, self.sweep)
        executor.run(trials, inputs, storage, events, before)


def make_executor(name: str, config: Config) -> Executor:
    """What runs the trials of ``config``. Raises InputError for a name that is none, and for Ray where it
    is not installed."""
    if name == "inline":
        if config.sweep.stop is not None:
            need("sweep", "sweep.stop (its rules are Ray Tune's)")
        return InlineExecutor(config.evaluator, config.resources, config.sweep)
    if name == "ray":
        need("sweep", "--executor ray (--executor inline runs in this process)")
        return LateRayExecutor(config.evaluator, config.resources, config.sweep)
    raise InputError(f"--executor {name}: expected ray or inline")
