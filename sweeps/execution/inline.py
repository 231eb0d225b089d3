"""Ways to run trials: in this process, or (in ``ray_executor``) on a Ray cluster.

An executor runs every trial it is given, has each record written to the storage as soon as the
trial ends, and tells whoever listens. It never raises because a trial failed. It raises KeyboardInterrupt
when it was told to stop (Ctrl-C) and StorageAway.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from sweeps.config.constraint import constraints_of
from sweeps.config.schema import ResourcesConfig
from sweeps.config.search import StopConfig
from sweeps.config.sweep import SweepConfig
from sweeps.evaluators import Evaluators
from sweeps.events import SweepEvents
from sweeps.execution.attempts import ATTEMPTS, given_up, recorded_trial
from sweeps.execution.gpu import take_gpu
from sweeps.execution.throttle import Throttle
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.objectives import objectives
from sweeps.planning.queue import TrialQueue
from sweeps.progress import Judge, Progress
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.trial import machine_fault, run_trial


class InlineExecutor:
    """One trial after the other, here: for tests, for debugging, for a sweep without Ray."""

    def __init__(self, evaluator: str, resources: ResourcesConfig, sweep: SweepConfig | None = None) -> None:
        """``evaluator``: its kind, as ``make_evaluator`` has it. ``sweep``: says which trials are stopped,
        and what a search learns from a trial."""
        sweep = sweep or SweepConfig()
        self.evaluator, self.resources, self.stop = evaluator, resources, sweep.stop
        self.constraints = constraints_of(sweep.constraint)

    def run(
        self,
        trials: TrialQueue,
        inputs: TrialInputs,
        storage: Storage,
        events: SweepEvents,
        before: Sequence[TrialRecord] = (),
    ) -> None:
        store, judged, told = RecordStore(storage), *_rule(self.stop, before)
        take_gpu(inputs.model.graph, self.resources.gpu)
        evaluators = Evaluators.of(inputs, self.evaluator, self.resources.memory_gb, storage)
        while (settings := trials.next()) is not None:
            key = inputs.key(settings)
            run = partial(
                run_trial, settings, inputs, evaluators, _Watch(key, events), judged(settings.policy, key)
            )
            for left in reversed(range(ATTEMPTS)):
                try:
                    record = recorded_trial(key, run, store, events.trouble)
                    break
                except Exception as error:
                    if not machine_fault(error):
                        raise
                    if not left:
                        record = given_up(key, settings, store, str(error), events.trouble)
            told(record)
            trials.ended(settings, objectives(record, self.constraints))
            events.ended(record)


def _rule(
    stop: StopConfig | None, before: Sequence[TrialRecord]
) -> tuple[Callable[[str, str], Judge | None], Callable[[TrialRecord], None]]:
    """What judges a trial, by policy and key, and what is told of its end."""
    if stop is None:
        return lambda policy, key: None, lambda record: None
    from sweeps.execution.behind import StoppingRule  # imports Ray, seconds

    rule = StoppingRule(stop, before)
    return rule.for_trial, rule.ended


class _Watch:
    """Tells of a trial's progress now and then."""

    def __init__(self, key: str, events: SweepEvents) -> None:
        self.key, self.events = key, events
        self.due = Throttle(0.2)

    def __call__(self, progress: Progress) -> None:
        if self.due():
            self.events.candidates(self.key, progress)
