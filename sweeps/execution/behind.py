"""Which trials lie behind others: Ray Tune's own rules for stopping, as any executor asks them.

Tune's AsyncHyperBandScheduler and MedianStoppingRule decide. They are told of a trial what it has come to
after so many questions, and of nothing else, so they serve without a cluster too. What they know follows
from the records: a sweep that goes on tells them of the trials that are over, and they decide as if it had
not been interrupted.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule, TrialScheduler

from sweeps.config.search import StopConfig
from sweeps.progress import Judge
from sweeps.records.trial_record import TrialRecord
from sweeps.trial import judged, volume_of

TIME, METRIC = "questions", "volume"
MOST = 10**7  # questions, more than any trial asks


@dataclass(frozen=True)
class Milestones:
    """After how many questions a trial is looked at: under asha at each rung, else every ``grace``."""

    grace: int
    factor: float | None

    @classmethod
    def of(cls, stop: StopConfig) -> Milestones:
        return cls(stop.grace_period, stop.factor if stop.rule == "asha" else None)

    def __call__(self, questions: int) -> bool:
        if self.factor is None:
            return questions % self.grace == 0
        rung = max(0, round(math.log(max(questions, 1) / self.grace, self.factor)))
        return questions == math.ceil(self.grace * self.factor**rung)


@dataclass(frozen=True)
class _Trial:
    """What the rules want to know of a trial: its name."""

    trial_id: str


class _NoOthers:
    """Where the rules look for trials that wait: a trial that runs is never put aside for them."""

    def get_live_trials(self) -> set[Any]:
        return set()


_NOBODY = _NoOthers()


class StoppingRule:
    """``sweep.stop``. Told by one thread.

    A trial is compared with those of its own policy: a walk that goes to and fro asks ten times what one pass
    does, and would always lie behind it early on.
    """

    def __init__(self, stop: StopConfig, before: Iterable[TrialRecord] = ()) -> None:
        """``before``: trials that are over; those that are never stopped are not compared with."""
        self.stop, self.due = stop, Milestones.of(stop)
        self._rules: dict[str, Any] = defaultdict(lambda: _made(stop))  # by policy
        self._last: dict[str, int] = {}  # questions, of trials that are not over
        self._stopped: dict[str, str] = {}
        for record in before:
            self._tell_all(record)

    def judge(self, policy: str, key: str, questions: int, volume: float) -> str | None:
        """Why the trial is stopped; None: it goes on. Questions after which it was looked at before (in an
        attempt that was lost) decide nothing new."""
        trial, rule = _Trial(key), self._rules[policy]
        if key not in self._last:
            self._last[key] = 0
            rule.on_trial_add(_NOBODY, trial)
        if key in self._stopped or questions <= self._last[key]:
            return self._stopped.get(key)
        self._last[key] = questions
        told = {TIME: questions, METRIC: volume}
        if rule.on_trial_result(_NOBODY, trial, told) == TrialScheduler.STOP:
            self._stopped[key] = (
                f"{self.stop.rule}: hypervolume {volume:.4f} after {questions:,} questions, "
                f"behind other trials of policy {policy}"
            )
        return self._stopped.get(key)

    def ended(self, record: TrialRecord) -> None:
        """The trial is over, stopped or not. What it has come to is there for others to be compared with."""
        self._stopped.pop(record.key, None)
        if self._last.pop(record.key, None) is not None and record.status != "failed":
            self._complete(record, len(record.steps))

    def _tell_all(self, record: TrialRecord) -> None:
        """As if the trial had run now; it is over, so nothing of it is decided."""
        if record.status == "failed" or not judged(record.settings):
            return
        for asked in filter(self.due, range(1, len(record.steps))):
            self._complete(record, asked, add=True)
        self._complete(record, len(record.steps), add=True)

    def _complete(self, record: TrialRecord, asked: int, add: bool = False) -> None:
        rule, trial = self._rules[record.settings.policy], _Trial(record.key)
        if add:
            rule.on_trial_add(_NOBODY, trial)
        rule.on_trial_complete(_NOBODY, trial, {TIME: asked, METRIC: volume_of(record.steps[:asked])})

    def for_trial(self, policy: str, key: str) -> Judge:
        """Its judge, in this process."""

        def asked(questions: int, volume: Callable[[], float]) -> str | None:
            return self.judge(policy, key, questions, volume()) if self.due(questions) else None

        return asked


def _made(stop: StopConfig) -> AsyncHyperBandScheduler | MedianStoppingRule:
    common: dict[str, Any] = {
        "time_attr": TIME,
        "metric": METRIC,
        "mode": "max",
        "grace_period": stop.grace_period,
    }
    if stop.rule == "median":
        return MedianStoppingRule(**common, min_samples_required=stop.samples)
    return AsyncHyperBandScheduler(**common, max_t=MOST, reduction_factor=stop.factor, stop_last_trials=False)
