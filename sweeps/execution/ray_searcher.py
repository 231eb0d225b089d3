"""How Ray Tune comes by its trials: one at a time from a ``TrialQueue``, as many as the cluster can run."""

from __future__ import annotations

import os
import time
from typing import Any

# Tune writes all that it knows of all trials into snapshots; nothing is ever restored from them.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", str(10**9))
# Trials that wait for a node: an autoscaler goes by them.
os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "64")

import ray
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from prune_core.errors import InputError
from sweeps.config.schema import ResourcesConfig
from sweeps.execution.attempts import Lost
from sweeps.execution.ray_private import forget
from sweeps.execution.throttle import Throttle
from sweeps.planning.objectives import DIRECTIONS, violations_in
from sweeps.planning.queue import TrialQueue
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord

GIB = 2**30


class QueueSearcher(Searcher):
    """A TrialQueue as Tune asks it, and again the trials that were lost with their worker: Tune itself would
    run them again at once, before anybody can know that their node is dead."""

    def __init__(self, trials: TrialQueue, resources: dict[str, float]) -> None:
        super().__init__()
        self.trials, self.resources = trials, resources
        self.out: dict[str, TrialSettings] = {}
        self.lost, self.again = Lost(), dict[TrialSettings, float]()  # and from when on
        self.error: Exception | None = None  # what ended the handing out
        self.due, self.most = Throttle(2.0), 1

    def suggest(self, trial_id: str) -> Any:
        if self.due():
            now = max(1, slots(self.resources))
            # More than can run, so that a cluster that can grow knows that it should.
            self.most = now + (max(4, now // 4) if can_grow() else 0)
        if len(self.out) >= self.most:
            return None
        try:
            settings = self._again() or self.trials.next()
        except Exception as error:
            self.error = error  # Tune makes an error of its own of it
            raise
        if settings is None:
            return None if self.unfinished else self.FINISHED
        self.out[trial_id] = settings
        return {"settings": settings.to_json()}

    @property
    def unfinished(self) -> bool:
        """Trials are out, or will be."""
        return bool(self.out or self.again) or not self.trials.finished

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Of one that was lost ``failed`` tells more."""
        settings = None if error else self.out.pop(trial_id, None)
        if settings is None:
            return
        told = result is not None and all(name in result for name in DIRECTIONS)
        if told and result:
            self.trials.ended(settings, {**{n: result[n] for n in DIRECTIONS}, **violations_in(result)})
        else:
            self.trials.ended(settings, None)

    def failed(self, trial_id: str, counts: bool) -> float | None:
        """Seconds until a lost trial is run again; None when it is given up. ``counts``: as an attempt."""
        settings = self.out.pop(trial_id)
        pause = self.lost.pause(settings, counts)
        if pause is None:
            self.trials.ended(settings, None)
        else:
            self.again[settings] = time.monotonic() + pause
        return pause

    def _again(self) -> TrialSettings | None:
        now = time.monotonic()
        due = next((settings for settings, at in self.again.items() if at <= now), None)
        if due is not None:
            del self.again[due]
        return due

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles what it might restore; records are what a sweep goes on from

    def save(self, checkpoint_path: str) -> None:
        """Nothing, as above."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class ForgettingScheduler(FIFOScheduler):
    """First come, first served; and Tune lets go of what is over.

    A scheduler is the place where its controller can be reached (see ``ray_private.forget``).
    """

    def __init__(self) -> None:
        super().__init__()
        self.over: list[Trial] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def ended(self, record: TrialRecord) -> None:
        """A trial is over and its record is stored."""

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        self._let_go(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        self._let_go(tune_controller, trial)

    def _let_go(self, tune_controller: Any, trial: Trial) -> None:
        """Tune is not quite done with ``trial``, but with those that ended before."""
        for old in [t for t in self.over if t.is_finished()]:
            self.over.remove(old)
            forget(tune_controller, old)
        self.over.append(trial)


def by_optuna_search(trials: TrialQueue) -> None:
    """Suggestions by Ray's OptunaSearch, over the study that the queue has filled."""
    from sweeps.planning.optuna_queue import STUDY, Suggested

    if isinstance(trials, Suggested):
        study = trials.study
        trials.suggester = OptunaSearch(
            space=study.define,
            metric=list(DIRECTIONS),
            mode=["max", "min"],
            sampler=study.sampler,
            study_name=STUDY,
            storage=study.storage,
        )


def slots(need: dict[str, float]) -> int:
    """How many trials with these needs the nodes that are alive can run at a time."""
    return sum(
        int(min(node["Resources"].get(kind, 0.0) / amount + 1e-6 for kind, amount in need.items()))
        for node in ray.nodes()
        if node["Alive"]
    )


def can_grow() -> bool:
    """A Ray that a sweep has started for itself listens on this machine only."""
    return any(not node["NodeManagerAddress"].startswith("127.") for node in ray.nodes())


def needs(resources: ResourcesConfig) -> dict[str, float]:
    """What one trial takes of a node, as ray.nodes() names it. Raises InputError when trials could
    never run because the only node is too small.

    Memory is asked of Ray where the configuration says how much: so that a node does not take more
    trials than fit. A node that has less of it than one trial may take runs one all the same, alone.
    """
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    largest = max((node.get("memory", 0.0) for node in alive), default=0.0)
    said = "memory_gb" in resources.model_fields_set
    wanted = {
        "CPU": resources.cpu,
        "GPU": resources.gpu,
        "memory": int(min(resources.memory_gb * GIB, largest)) if said else 0,
    }
    need = {kind: amount for kind, amount in wanted.items() if amount > 0}
    if len(alive) == 1:
        for kind, field in (("CPU", "cpu"), ("GPU", "gpu")):
            has = alive[0].get(kind, 0.0)
            if has < need.get(kind, 0.0):
                raise InputError(
                    f"resources.{field} is {need[kind]:g}, but the only node has {has:g} {kind}s; "
                    f"expected at most that, or a cluster of larger nodes"
                )
    return need
