"""Ways to run trials: in this process, or (in ``ray_executor``) on a Ray cluster.

An executor runs every trial it is given, has each record written to the storage as soon as the
trial ends, and tells a listener. It never raises because a trial failed. It raises KeyboardInterrupt
when it was told to stop (Ctrl-C) and StorageAway.
"""

from __future__ import annotations

import time
from typing import Protocol

from prune_core.errors import InputError
from sweeps.config.schema import Config
from sweeps.execution.attempts import ATTEMPTS, given_up, recorded_trial
from sweeps.planning.objectives import objectives
from sweeps.planning.queue import HandOut
from sweeps.records import RecordStore, TrialRecord
from sweeps.storage.storage import Storage
from sweeps.trial import Evaluators, TrialInputs, machine_fault
from sweeps.trial_nets import Progress


class Listener(Protocol):
    """Told of progress, from the driver's thread."""

    def candidates(self, key: str, tried: int, total: int, pruned: int) -> None:
        """A trial has tried that many of its candidates and pruned that many."""
        ...

    def ended(self, record: TrialRecord) -> None:
        """A trial is over and its record is stored."""
        ...

    def trouble(self, line: str) -> None:
        """Something outside the trials is amiss, and is being waited for."""
        ...


class Executor(Protocol):
    def run(self, trials: HandOut, inputs: TrialInputs, config: Config, listener: Listener) -> None: ...


class InlineExecutor:
    """One trial after the other, here: for tests, for debugging, for a sweep without Ray."""

    def run(self, trials: HandOut, inputs: TrialInputs, config: Config, listener: Listener) -> None:
        storage = Storage(config.storage).begin()
        store = RecordStore(storage)
        evaluators = Evaluators.of(inputs, config.evaluator, config.resources, storage)
        while (settings := trials.next()) is not None:
            watch = _Watch(inputs.key(settings), listener)
            for left in reversed(range(ATTEMPTS)):
                try:
                    record = recorded_trial(settings, inputs, evaluators, store, watch, listener.trouble)
                    break
                except Exception as error:
                    if not machine_fault(error):
                        raise
                    if not left:
                        record = given_up(settings, inputs, store, str(error), listener.trouble)
            trials.ended(settings, objectives(record))
            listener.ended(record)


class LateRayExecutor:
    """``ray_executor.RayExecutor``, imported (seconds) only when there are trials to run."""

    def run(self, trials: HandOut, inputs: TrialInputs, config: Config, listener: Listener) -> None:
        from sweeps.execution.ray_executor import RayExecutor

        RayExecutor().run(trials, inputs, config, listener)


class _Watch:
    """Tells the listener of a trial's progress now and then."""

    def __init__(self, key: str, listener: Listener) -> None:
        self.key, self.listener = key, listener
        self.due = Throttle(0.2)

    def __call__(self, progress: Progress) -> None:
        if self.due():
            self.listener.candidates(self.key, progress.done, progress.total, progress.pruned)


class Throttle:
    """True at most once in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.last = seconds, 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


def make_executor(name: str) -> Executor:
    """Raises InputError for a name that is none."""
    if name == "inline":
        return InlineExecutor()
    if name == "ray":
        return LateRayExecutor()
    raise InputError(f"--executor {name}: expected ray or inline")
