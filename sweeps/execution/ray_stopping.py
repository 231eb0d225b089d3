"""Stopping a trial under Ray Tune without losing what it found.

Tune's STOP ends the worker's call, or the worker, wherever it happens to be: the record would not be written,
and the next trial would share evaluators with one that still runs. So a decision to stop is put on a board
where the trial reads it right after its report; it ends by itself then, like any other, with a record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from sweeps.execution.behind import METRIC, TIME, Milestones, StoppingRule
from sweeps.execution.ray_searcher import ForgettingScheduler
from sweeps.progress import Judge, Progress
from sweeps.records.trial_record import TrialRecord

KEY, POLICY = "trial_key", "policy"


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)
class Board:
    """Trials that are to stop, and why."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def stop(self, key: str, why: str) -> None:
        self.reasons[key] = why

    def why(self, key: str) -> str | None:
        return self.reasons.get(key)

    def forget(self, key: str) -> None:
        self.reasons.pop(key, None)


class JudgingScheduler(ForgettingScheduler):
    """First come, first served; trials that lie behind are told so."""

    def __init__(self, rule: StoppingRule, board: Any) -> None:
        super().__init__()
        self.rule, self.board = rule, board

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        if METRIC in result:
            why = self.rule.judge(result[POLICY], result[KEY], result[TIME], result[METRIC])
            if why is not None:  # before Tune lets the trial go on and look
                ray.get(self.board.stop.remote(result[KEY], why))
        return TrialScheduler.CONTINUE

    def ended(self, record: TrialRecord) -> None:
        """A trial is over."""
        self.rule.ended(record)
        self.board.forget.remote(record.key)


@dataclass(frozen=True)
class RemoteJudge:
    """What a worker asks: the rule in the driver."""

    milestones: Milestones
    board: Any

    def of(self, policy: str, key: str, progress: Callable[[], Progress | None]) -> Judge:
        """``progress``: how far the trial is, told along."""

        def judge(questions: int, volume: Callable[[], float]) -> str | None:
            if not self.milestones(questions):
                return None
            now = progress()
            told = {} if now is None else {"progress": asdict(now)}
            tune.report({POLICY: policy, KEY: key, TIME: questions, METRIC: volume(), **told})
            why: str | None = ray.get(self.board.why.remote(key))
            return why

        return judge
