"""A whole sweep: what is missing is run, all of it is logged, the frontier is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from prune_core.counts import Counts
from prune_core.data.checks.findings import refuse_errors
from prune_core.errors import InputError
from prune_core.evaluation.look import LOOK_VERSION
from prune_core.evaluation.net_counter import NetCounter
from sweeps.config.schema import Config
from sweeps.evaluators import remembering
from sweeps.events import Everyone, SweepEvents
from sweeps.execution.executor import Executor
from sweeps.following.follow import followed
from sweeps.inputs.load import input_files, load_inputs
from sweeps.inputs.look import look_before
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.overview.shown import keep_shown, shown, stamp
from sweeps.planning.plan import close, over, plan, queue_of
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import measured_frontier
from sweeps.storage.evaluation_cache import EvaluationCache
from sweeps.storage.manifest import Manifest, read_records, write_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.retry import patiently
from sweeps.storage.storage import Storage
from sweeps.sweep_result import SweepResult


class Log(SweepEvents, ABC):
    """Where a sweep is logged."""

    @abstractmethod
    def start(self, manifest: Manifest, inputs: TrialInputs) -> str | None:
        """``inputs``: what its trials work on. Returns the run's id. Raises InputError when the place of
        logging does not answer."""

    def renew(self, files: Mapping[str, bytes]) -> None:
        """Files, by name, that show the sweep as it stands; told in a thread of its own. Those of the end
        take their place."""


def run_sweep(
    config: Config, storage: Storage, executor: Executor, watcher: SweepEvents, log: Log | None = None
) -> SweepResult:
    """Run the trials that have no record yet (or a failed one). Raises InputError before the
    first trial when configuration, files, storage or tracking are not usable, or where the look at the
    data has found an error; and later when the
    storage is away for long. ``log`` is where the sweep is logged, if anywhere.

    Ctrl-C and SIGTERM stop the trials; what is done by then is logged and drawn all the same. A second
    one, or one before the first trial is done, comes through as KeyboardInterrupt.
    """
    if len(config.sweep.search_seeds) > 1:
        raise InputError(
            "sweep.search_seeds: several seeds are a sweep each; expected one in a call from Python, as "
            f"[{config.sweep.search_seeds[0]}] (the commands goodnet sweep and study run them in turn)"
        )
    events = watcher if log is None else Everyone(watcher, log)
    storage.check_writable()
    storage.begin()
    inputs = load_inputs(input_files(config, events.preparing), config.sweep.repair)
    name, trials = plan(config.name, config.sweep, inputs, storage)
    manifest = Manifest(name, config, trials, inputs.digests, target_share=inputs.valid.target_share)
    findings = look_before(manifest, inputs, storage)
    refuse_errors(findings)
    manifest = replace(manifest, findings=findings, looked=LOOK_VERSION)
    manifest = replace(manifest, mlflow_run_id=None if log is None else log.start(manifest, inputs))
    write_manifest(storage, manifest)
    events.looked(findings)
    renew = (lambda files: None) if log is None else log.renew
    with followed(manifest, inputs, storage, renew, events.trouble) as followers:
        return _run(manifest, inputs, storage, executor, Everyone(followers, events))


def _run(
    manifest: Manifest, inputs: TrialInputs, storage: Storage, executor: Executor, events: SweepEvents
) -> SweepResult:
    config = manifest.config
    kept = over(config.sweep)
    there = {r.key: r for r in read_records(storage, manifest.trials) if r.status in kept}

    def found(record: TrialRecord) -> None:
        there[record.key] = record
        events.ended(record)

    queue = queue_of(manifest, inputs, storage, there, found, events.trouble)
    events.planned(manifest, list(there.values()), len(there) + queue.left)
    stopped = False
    if queue.left:
        try:
            executor.run(queue, inputs, storage, events, list(there.values()))
        except KeyboardInterrupt:
            stopped = True
    closed = patiently(lambda: close(manifest, storage), storage.place, events.trouble)
    made_of = patiently(lambda: stamp(storage, closed), storage.place, events.trouble)
    records = patiently(lambda: read_records(storage, closed.trials), storage.place, events.trouble)
    if stopped and not records:
        raise KeyboardInterrupt
    counter = TestCounter(inputs, config.evaluator, config.resources.memory_gb, storage)
    frontier = patiently(
        lambda: measured_frontier(storage, closed.name, records, counter, closed.target_share),
        storage.place,
        events.trouble,
    )
    if records:
        keep_shown(storage, closed, made_of, shown(closed, records, frontier))
    for memory in (counter.memory, EvaluationCache(inputs.model.digest, inputs.valid.digest, storage)):
        memory.tidy()
    skipped = sum(record.status == "done" for record in there.values())
    result = SweepResult(closed, records, frontier, skipped, stopped, queue.spent, queue.left)
    events.finished(result, inputs)
    return result


class TestCounter:
    """Counts of a state on the test split; the network runs only for what no trial has asked."""

    __test__ = False

    def __init__(self, inputs: TrialInputs, kind: str, memory_gb: float, storage: Storage) -> None:
        """``kind``: of the evaluator, as ``make_evaluator`` has it."""
        self.evaluator, self.memory = remembering(inputs.model, kind, storage, inputs.test, memory_gb)
        self.counter = NetCounter(inputs.model, self.evaluator)
        self.store = RecordStore(storage)

    def __call__(self, state: State) -> Counts:
        """Raises InputError when the state's weights are lost."""
        return self.counter(state.mask, self.store.weights(state.trial_key, state.weights))
