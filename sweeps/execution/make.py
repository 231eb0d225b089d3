"""Executors by name."""

from __future__ import annotations

from prune_core.errors import InputError
from sweeps.config.schema import Config
from sweeps.events import SweepEvents
from sweeps.execution.executor import Executor
from sweeps.execution.inline import InlineExecutor
from sweeps.extras import need
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.queue import TrialQueue
from sweeps.storage.storage import Storage


class LateRayExecutor:
    """``ray_executor.RayExecutor``, imported (seconds) only when there are trials to run."""

    def run(
        self, trials: TrialQueue, inputs: TrialInputs, config: Config, storage: Storage, events: SweepEvents
    ) -> None:
        from sweeps.execution.ray_executor import RayExecutor

        RayExecutor().run(trials, inputs, config, storage, events)


def make_executor(name: str) -> Executor:
    """Raises InputError for a name that is none, and for Ray where it is not installed."""
    if name == "inline":
        return InlineExecutor()
    if name == "ray":
        need("sweep", "--executor ray (--executor inline runs in this process)")
        return LateRayExecutor()
    raise InputError(f"--executor {name}: expected ray or inline")
