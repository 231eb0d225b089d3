"""MLflow in a thread of its own, so that a slow or dead server never slows or fails a trial."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeps.records.trial_record import TrialRecord
from sweeps.storage.manifest import Manifest
from sweeps.tracking.address import refused, shown, why
from sweeps.tracking.datasets import DataSet
from sweeps.tracking.notes import Places

if TYPE_CHECKING:
    from sweeps.tracking.mlflow_runs import Tracking

# Of one job while MLflow answers; a job that fails as often is left to the next sweep call. While MLflow
# does not answer, everything waits.
ATTEMPTS = 3
LONGEST_PAUSE = 60.0  # seconds between attempts while MLflow is down
# Drivers of one sweep get in each other's way, and each time one of them gets on.
REFUSALS = 8


@dataclass(eq=False)
class _Job:
    what: str
    do: Callable[[Tracking, str], None]
    last: bool = False  # done when no other job is left
    passing: bool = False  # of no use once there is a later one
    attempts: int = 0
    refusals: int = 0


class BackgroundTracking:
    """The same verbs as ``Tracking``, but they return at once and never raise.

    An error is told once through ``warn``. What could not be logged is what ``close`` returns; as
    logging is idempotent, offering all records again in the next sweep call completes it.
    """

    def __init__(
        self,
        connect: Callable[[], Tracking],
        manifest: Manifest,
        provenance: Mapping[str, Any],
        warn: Callable[[str], None],
        data: Sequence[DataSet] = (),
    ) -> None:
        """``connect`` is called in the thread, so it may also import mlflow there. ``data``: what the sweep
        works on."""
        self._connect = connect
        self._manifest = manifest
        self._provenance = provenance
        self._warn = warn
        self._data = data
        self._tracking: Tracking | None = None
        self._run_id: str | None = None
        self._jobs: list[_Job] = []  # waiting; guarded by _changed
        self._unlogged: list[_Job] = []  # handed in and not logged yet; guarded by _changed
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._finished = False  # a last job is logged
        self._abandoned = False
        self._failures = 0  # in a row
        self._warned = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()
        self._hand_in(_Job("the sweep's run", lambda tracking, run_id: None))

    def run_id(self, timeout: float = 0.0) -> str | None:
        """The sweep's run; None when MLflow has not answered within ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._run_id is not None or self._failures > 0, timeout)
            return self._run_id

    def log_trial(self, key: str, status: str, read: Callable[[], TrialRecord | None]) -> None:
        """The record is read when it is MLflow's turn: records are kept in the storage, not here, however
        long MLflow is away."""

        def log(to: Tracking, run_id: str) -> None:
            if not to.has_trial(run_id, key, status) and (record := read()) is not None:
                to.log_trial(run_id, record)

        self._hand_in(_Job(f"trial {key}", log))

    def settle(self) -> None:
        """Join with what another driver of the same sweep has logged; log all trials again after it."""

        def join(to: Tracking, run_id: str) -> None:
            found = to.settle(run_id)
            with self._changed:
                self._run_id = found

        self._hand_in(_Job("the sweep's run", join))

    def log_goodnet(self, trial_key: str, step: int, onnx: bytes) -> None:
        self._hand_in(
            _Job(
                f"GoodNet {trial_key} step {step}",
                lambda to, run_id: to.log_goodnet(run_id, trial_key, step, onnx),
            )
        )

    def renew(self, files: Mapping[str, bytes]) -> None:
        """Files of a sweep that goes on. Those that come later, and the end, take the place of what waits;
        what is not taken is not told."""
        with self._changed:
            self._forget_passing()
            self._add(_Job("the sweep so far", lambda to, run_id: to.log_files(run_id, files), passing=True))
            self._changed.notify_all()

    def _forget_passing(self) -> None:
        for job in [job for job in self._jobs if job.passing]:
            self._jobs.remove(job)
            self._unlogged.remove(job)

    def finish_sweep(
        self,
        metrics: Mapping[str, float],
        files: Mapping[str, bytes],
        note: Callable[[Places], str] | None = None,
        stopped: bool = False,
    ) -> None:
        """Done when all else is. Without it, ``close`` marks the sweep as interrupted."""
        with self._changed:
            self._forget_passing()
        self._hand_in(
            _Job(
                "the sweep's results",
                lambda to, run_id: to.finish_sweep(run_id, metrics, files, note, stopped),
                last=True,
            )
        )

    def close(self, timeout: float) -> list[str]:
        """Wait for what is under way, at most ``timeout`` seconds, and no longer than it takes to
        see that MLflow is down. Returns what was not logged, in words."""
        with self._changed:
            self._forget_passing()
            if not self._finished and not any(job.last for job in self._unlogged):
                self._add(_Job("the sweep's status", lambda to, run_id: to.stop_sweep(run_id), last=True))
            self._closing.set()
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()
            return list(dict.fromkeys(job.what for job in self._unlogged))

    def _hand_in(self, job: _Job) -> None:
        with self._changed:
            self._add(job)
            self._changed.notify_all()

    def _add(self, job: _Job) -> None:
        self._jobs.append(job)
        self._unlogged.append(job)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                if self._tracking is None:
                    self._tracking = self._connect()
                if self._run_id is None:
                    run_id = self._tracking.start_sweep(self._manifest, self._provenance, self._data)
                    with self._changed:
                        self._run_id = run_id
                        self._changed.notify_all()
                job.do(self._tracking, self._run_id)
            except Exception as error:  # MLflow raises all sorts; a sweep goes on without it
                self._failed(job, error)
            else:
                self._failures = 0
                with self._changed:
                    self._finished |= job.last
                    self._unlogged.remove(job)

    def _next(self) -> _Job | None:
        """The next job, when there is one; None when the thread is to end."""
        with self._changed:
            while not self._jobs and not self._closing.is_set():
                self._changed.wait()
            given_up = self._closing.is_set() and self._failures >= 2
            if not self._jobs or self._abandoned or given_up:
                return None
            if self._closing.is_set() and self._failures:  # one that never works holds up no other
                job = min(self._jobs, key=lambda j: (j.attempts, j.last))
            else:
                job = next((j for j in self._jobs if not j.last), self._jobs[0])
            self._jobs.remove(job)
            return job

    def _failed(self, job: _Job, error: Exception) -> None:
        if refused(error) and job.refusals < REFUSALS:
            self._again(job)
            return
        with self._changed:
            job.attempts += self._failures == 0 or self._closing.is_set()
            self._failures += 1
            self._changed.notify_all()
        if not self._warned:
            self._warned = True
            where = f"MLflow at {shown(self._tracking.uri)}" if self._tracking else "MLflow"
            self._warn(
                f"{where}: {why(error)}; the sweep goes on without it, and what is missing there "
                "is logged once it answers, at the latest when the sweep is run again"
            )
        with self._changed:
            if job.passing:
                self._unlogged.remove(job)
            elif job.attempts < ATTEMPTS:
                self._jobs.append(job)
        self._closing.wait(min(LONGEST_PAUSE, 2.0 ** (self._failures - 1)))

    def _again(self, job: _Job) -> None:
        """MLflow is there: no reason to say that it is away, or to give up at the end."""
        job.refusals += 1
        self._failures = 0
        with self._changed:
            self._run_id = None  # another driver may have deleted it; looked for again
            if job.passing:
                self._unlogged.remove(job)
            else:
                self._jobs.insert(0, job)
        time.sleep(random.uniform(0.02, 0.1) * job.refusals)  # uneven, so that they part
