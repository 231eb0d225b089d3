"""Trials over the workers of a Ray cluster, by Ray Tune."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # we say it in a line

import ray
import torch
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback

from prune_core.errors import InputError, Unavailable
from sweeps.config.constraint import Constraint, constraints_of
from sweeps.config.schema import ResourcesConfig
from sweeps.config.search import StopConfig
from sweeps.config.sweep import SweepConfig
from sweeps.evaluators import Evaluators
from sweeps.events import SweepEvents
from sweeps.execution.attempts import ATTEMPTS_BY_RAY, given_up, recorded_trial
from sweeps.execution.behind import Milestones, StoppingRule
from sweeps.execution.gpu import take_gpu
from sweeps.execution.ray_cluster import connected, get, nodes_agree, put
from sweeps.execution.ray_private import every_loss_is_one_trial
from sweeps.execution.ray_searcher import (
    ForgettingScheduler,
    QueueSearcher,
    by_optuna_search,
    needs,
)
from sweeps.execution.ray_stopping import Board, JudgingScheduler, RemoteJudge
from sweeps.execution.stopping import stoppable
from sweeps.execution.throttle import Throttle
from sweeps.execution.travelling import Travelling
from sweeps.inputs.load import Parcel
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.objectives import objectives
from sweeps.planning.queue import TrialQueue
from sweeps.progress import Progress, Tell
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.record_store import RecordStore, keep, packed, unpacked
from sweeps.storage.retry import patiently
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial

MOST_CARRIED = 2**20  # bytes of a record that a worker sends to the driver

# A worker process serves many trials of one sweep: network and caches are built once.
_opened: dict[str, tuple[TrialInputs, Evaluators]] = {}


@dataclass(frozen=True)
class RayExecutor:
    """Ray Tune over the cluster at RAY_ADDRESS or one on this machine; or a local one, started
    here and ended with the sweep. Data and network lie in the object store once a node.

    Attributes:
        evaluator: its kind, as ``make_evaluator`` has it. resources: of each trial.
        sweep: names the orders and policies that workers have to know.
    """

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
        store, travelling = RecordStore(storage), Travelling.of(self.sweep)
        # Ray takes SIGTERM for itself: taken back inside, as it was before outside.
        aside = tempfile.TemporaryDirectory(prefix="goodnet-tune-")
        with stoppable(), connected(), stoppable(), aside as scratch:
            nodes_agree(storage)
            need = needs(self.resources)
            by_optuna_search(trials)
            handed = QueueSearcher(trials, need)
            scheduler, judge = _scheduler(self.sweep.stop, before)
            relay = _Relay(events, inputs, store, handed, scheduler)
            parcel = Parcel.of(inputs)
            tuner = tune.Tuner(
                tune.with_resources(
                    tune.with_parameters(
                        _trial,
                        work=_Work(
                            parcel.id,
                            put(parcel, events.trouble),
                            store.storage.address,
                            self.evaluator,
                            self.resources,
                            travelling,
                            judge,
                            constraints_of(self.sweep.constraint),
                        ),
                    ),
                    {kind.lower(): amount for kind, amount in need.items()},
                ),
                tune_config=tune.TuneConfig(
                    search_alg=handed, scheduler=scheduler, num_samples=-1, reuse_actors=True
                ),
                run_config=tune.RunConfig(
                    name="goodnet",
                    # Records are the results and go to the storage; Tune's own state is scratch.
                    storage_path=scratch,
                    verbose=0,
                    callbacks=[relay],
                ),
            )
            try:
                with every_loss_is_one_trial():
                    tuner.fit()  # returns early, and says nothing, on Ctrl-C
            except Exception as failure:
                if (error := relay.error or handed.error) is not None:
                    raise error from None
                if isinstance(failure, OSError) and failure.errno == errno.ENOSPC:
                    raise Unavailable(  # of Tune's state, which lies where Ray's own files do
                        f"no space is left for Ray's files on {platform.node()}; free some on the disk of "
                        "/tmp/ray, and the same command goes on"
                    ) from None
                raise
            if handed.unfinished:
                raise KeyboardInterrupt


@dataclass(frozen=True)
class _Work:
    """What a worker is told of a sweep; the data themselves it fetches once."""

    parcel_id: str
    parcel: ray.ObjectRef[Parcel]
    place: str
    evaluator: str
    resources: ResourcesConfig
    travelling: Travelling
    judge: RemoteJudge | None = None
    constraints: tuple[Constraint, ...] = ()


def _scheduler(
    stop: StopConfig | None, before: Sequence[TrialRecord]
) -> tuple[ForgettingScheduler, RemoteJudge | None]:
    """And what asks it in the workers; None where no trial is stopped."""
    if stop is None:
        return ForgettingScheduler(), None
    board = Board.remote()  # type: ignore[attr-defined]
    return JudgingScheduler(StoppingRule(stop, before), board), RemoteJudge(Milestones.of(stop), board)


def _trial(config: dict[str, Any], work: _Work) -> None:
    """What a worker does: the plain trial, its record to the storage, progress to the driver."""
    torch.set_num_threads(max(1, math.floor(work.resources.cpu)))

    def tell(line: str) -> None:
        tune.report({"trouble": f"a worker on {platform.node()}: {line}"})

    settings = TrialSettings.from_json(config["settings"])
    due = Throttle(1.0)
    now: Progress | None = None

    def watch(progress: Progress) -> None:
        nonlocal now
        now = progress
        if due():
            tune.report({"progress": asdict(progress)})

    try:
        work.travelling.unpack()
        storage = patiently(lambda: Storage(work.place, begun=True), work.place, tell)
        inputs, evaluators = _open(work, storage, tell)
        key = inputs.key(settings)
        judge = None if work.judge is None else work.judge.of(settings.policy, key, lambda: now)
        run = partial(run_trial, settings, inputs, evaluators, watch, judge)
        record = recorded_trial(key, run, RecordStore(storage), tell)
    except (InputError, Unavailable) as error:  # no other worker would fare better with either
        whose = "input" if isinstance(error, InputError) else "machine"
        tune.report({"refused": f"on {platform.node()}: {error}", "failure": whose})
        return
    found = objectives(record, work.constraints) or {}
    tried = 0 if now is None else now.done
    last = Progress("done", tried, max(tried, 1), len(record.mask))
    tune.report({"progress": asdict(last), **found, **_carried(record, storage)})


def _carried(record: TrialRecord, storage: Storage) -> dict[str, bytes]:
    """The record itself where the driver would wait for a storage by network, while other workers wait for
    the driver. A folder it reads: there it sees at once where the nodes do not share one."""
    if storage.local is not None:
        return {}
    data = packed(record)
    return {"record": data} if len(data) <= MOST_CARRIED else {}


def _open(work: _Work, storage: Storage, tell: Tell) -> tuple[TrialInputs, Evaluators]:
    if work.parcel_id not in _opened:
        _opened.clear()  # a reused worker keeps one sweep's data, not all it ever saw
        inputs = get(work.parcel, tell).opened()
        take_gpu(inputs.model.graph, work.resources.gpu)
        evaluators = Evaluators.of(inputs, work.evaluator, work.resources.memory_gb, storage)
        _opened[work.parcel_id] = (inputs, evaluators)
    return _opened[work.parcel_id]


class _Relay(TrialProgressCallback):
    """From Tune's events to whoever listens; a trial that is lost too often gets its failed record here.

    It is of the kind that Tune would add by itself otherwise: one that keeps every trial for ever (ray issue
    64231).
    """

    def __init__(
        self,
        events: SweepEvents,
        inputs: TrialInputs,
        store: RecordStore,
        handed: QueueSearcher,
        scheduler: ForgettingScheduler,
    ) -> None:
        self.scheduler = scheduler
        self.events, self.inputs, self.store, self.handed = events, inputs, store, handed
        self.begun: set[str] = set()  # trials that a worker is up for
        self.error: Exception | None = None  # what ended the sweep

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its callbacks to restore itself; we restore from records instead

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        if "trouble" in result:
            self.events.trouble(result["trouble"])
        if "progress" in result:
            self.events.candidates(self._key(trial), Progress(**result["progress"]))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.begun.discard(trial.trial_id)
        with self._watched():
            key, tell = self._key(trial), self.events.trouble
            told = trial.last_result or {}
            carried = told.pop("record", None)
            record = None if carried is None else unpacked(key, carried)
            if record is None:
                record = patiently(lambda: self.store.read(key), self.store.storage.place, tell)
            if record is None:
                reason = told.get("refused", "its record is not in the storage; is that shared by all nodes?")
                whose = told.get("failure", "input")
                settings = TrialSettings.from_json(trial.config["settings"])
                record = keep(TrialRecord(key, settings, "failed", reason, failure=whose), self.store, tell)
            self.scheduler.ended(record)
            self.events.ended(record)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self.begun.add(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """What ``run_trial`` makes no failed record of: lost workers and the like."""
        if self.error is not None:  # ours; to Tune it is the trial's
            raise self.error
        error = trial.get_pickled_error()
        lines = [line.strip() for line in str(error or "").splitlines() if line.strip()]
        reason = lines[-1] if lines else "no message"
        counts = trial.trial_id in self.begun and not getattr(error, "preempted", False)
        self.begun.discard(trial.trial_id)
        settings = TrialSettings.from_json(trial.config["settings"])
        pause = self.handed.failed(trial.trial_id, counts)
        if pause is not None:
            self.events.trouble(
                f"{settings}: lost with its worker ({reason[:200]}); run again in {pause:g} s"
            )
            return
        with self._watched():
            key, tell = self._key(trial), self.events.trouble
            record = given_up(key, settings, self.store, reason, tell, ATTEMPTS_BY_RAY)
            self.scheduler.ended(record)
            self.events.ended(record)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Tune wraps what a callback raises in errors of its own; ours is kept as it is."""
        try:
            yield
        except Exception as error:
            self.error = error
            raise

    def _key(self, trial: Trial) -> str:
        return self.inputs.key(TrialSettings.from_json(trial.config["settings"]))
