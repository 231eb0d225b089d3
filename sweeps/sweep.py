"""A whole sweep: what is missing is run, all of it is logged, the frontier is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from prune_core.counts import Counts
from prune_core.evaluation.net_counter import NetCounter
from sweeps.config.schema import Config
from sweeps.evaluators import remembering
from sweeps.events import Everyone, SweepEvents
from sweeps.execution.executor import Executor
from sweeps.inputs.load import load_inputs
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.plan import close, plan, queue_of
from sweeps.records import State, TrialRecord
from sweeps.results import Frontier, measured_frontier
from sweeps.storage.evaluation_cache import EvaluationCache
from sweeps.storage.manifest import Manifest, read_records, write_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.retry import patiently
from sweeps.storage.storage import Storage


@dataclass(frozen=True)
class SweepResult:
    """A finished call: how its trials stand, and the frontier over all of them."""

    manifest: Manifest
    records: list[TrialRecord]
    frontier: Frontier
    skipped: int  # records that an earlier call, or another sweep, had made
    stopped: bool = False  # by Ctrl-C or SIGTERM, before every trial had its record
    ended_by: str | None = None  # the part of the budget that was spent
    left: int = 0  # trials that the budget has left for the next call

    def _whose(self) -> list[str]:
        """Of each failed trial: input, machine or fault; unknown in records of version 0.1."""
        return [r.failure or "unknown" for r in self.records if r.status == "failed"]

    def to_json(self, storage: Storage) -> dict[str, Any]:
        """The contract's form: done by this call, failed, skipped (done before); trials is their sum,
        and those of a grid that a stopped call, or one whose budget was spent, has not come to."""
        failed = sum(r.status == "failed" for r in self.records)
        return {
            "sweep": self.manifest.name,
            "trials": len(self.manifest.trials),
            "done": len(self.records) - failed - self.skipped,
            "failed": failed,
            "skipped": self.skipped,
            "frontier_size": len(self.frontier.points),
            "hypervolume": self.frontier.hypervolume,
            "mlflow_run_id": self.manifest.mlflow_run_id,
            "records": storage.full("trials"),
            **({"failures": dict(Counter(self._whose()))} if failed else {}),
            **({"stopped": True} if self.stopped else {}),
            **({"ended_by": self.ended_by, "left": self.left} if self.ended_by else {}),
            **self.frontier.control_json(),
        }


class Log(SweepEvents, ABC):
    """Where a sweep is logged."""

    @abstractmethod
    def start(self, manifest: Manifest) -> str | None:
        """Raises InputError when the place of logging does not answer. Returns the run's id."""


def run_sweep(
    config: Config, storage: Storage, executor: Executor, watcher: SweepEvents, log: Log | None = None
) -> SweepResult:
    """Run the trials that have no record yet (or a failed one). Raises InputError before the
    first trial when configuration, files, storage or tracking are not usable, and later when the
    storage is away for long. ``log`` is where the sweep is logged, if anywhere.

    Ctrl-C and SIGTERM stop the trials; what is done by then is logged and drawn all the same. A second
    one, or one before the first trial is done, comes through as KeyboardInterrupt.
    """
    events = watcher if log is None else Everyone(watcher, log)
    storage.check_writable()
    storage.begin()
    inputs = load_inputs(config, events.preparing)
    manifest = plan(config, inputs, storage)
    manifest = replace(manifest, mlflow_run_id=None if log is None else log.start(manifest))
    write_manifest(storage, manifest)
    there = {r.key: r for r in read_records(storage, manifest.trials) if r.status == "done"}

    def found(record: TrialRecord) -> None:
        there[record.key] = record
        events.ended(record)

    queue = queue_of(manifest, inputs, storage, there, found, events.trouble)
    events.planned(manifest, list(there.values()), len(there) + queue.left)
    stopped = False
    if queue.left:
        try:
            executor.run(queue, inputs, config, storage, events)
        except KeyboardInterrupt:
            stopped = True
    closed = patiently(lambda: close(manifest, storage), storage.place, events.trouble)
    records = patiently(lambda: read_records(storage, closed.trials), storage.place, events.trouble)
    if stopped and not records:
        raise KeyboardInterrupt
    counter = TestCounter(inputs, config, storage)
    frontier = patiently(
        lambda: measured_frontier(storage, closed.name, records, counter, closed.target_share),
        storage.place,
        events.trouble,
    )
    for memory in (counter.memory, EvaluationCache(inputs.model.digest, inputs.valid.digest, storage)):
        memory.tidy()
    result = SweepResult(closed, records, frontier, len(there), stopped, queue.spent, queue.left)
    events.finished(result, inputs)
    return result


class TestCounter:
    """Counts of a state on the test split; the network runs only for what no trial has asked."""

    __test__ = False

    def __init__(self, inputs: TrialInputs, config: Config, storage: Storage) -> None:
        memory_gb = config.resources.memory_gb
        self.evaluator, self.memory = remembering(
            inputs.model, inputs.test, config.evaluator, memory_gb, storage
        )
        self.counter = NetCounter(inputs.model, self.evaluator)
        self.store = RecordStore(storage)

    def __call__(self, state: State) -> Counts:
        """Raises InputError when the state's weights are lost."""
        return self.counter(state.mask, self.store.weights(state.trial_key, state.step, state.weights))
