"""One trial done once: not again when its record is there, again when the machine failed it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from sweeps.progress import Tell
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.record_store import RecordStore, finished, keep
from sweeps.storage.retry import PATIENCE

ATTEMPTS = 3  # of a trial that the machine fails; a trial that fails by its settings has one
ATTEMPTS_BY_RAY = 10  # on a cluster, where a trial may be lost with its worker or its node
LONGEST_PAUSE = 60.0  # seconds before a lost trial is run again


def recorded_trial(key: str, run: Callable[[], TrialRecord], store: RecordStore, tell: Tell) -> TrialRecord:
    """The trial's record, stored: the one there is (another sweep may have made it since this one was
    planned, or a worker that died before it could say so), or the one that ``run`` makes. ``tell`` gets a
    line when the storage is away. Raises StorageAway, and what ``run`` raises."""
    return finished(key, store, tell) or keep(run(), store, tell)


def given_up(
    key: str,
    settings: TrialSettings,
    store: RecordStore,
    reason: str,
    tell: Tell,
    attempts: int = ATTEMPTS,
) -> TrialRecord:
    """The failed record, stored, of a trial that the machine has failed ``attempts`` times."""
    reason = f"failed {attempts} times, the last time: {' '.join(reason.split())[:300] or 'no message'}"
    return keep(TrialRecord(key, settings, "failed", reason, failure="machine"), store, tell)


class Lost:
    """When trials that were lost with their worker are run again.

    After growing pauses: it takes Ray up to a minute to know that a node is dead, and until then it sends
    trials there. What never began on a worker, or was told to leave, is not held against a trial, unless it
    has not got anywhere for as long as anyone waits for a storage.
    """

    def __init__(self) -> None:
        self.losses: Counter[TrialSettings] = Counter()
        self.attempts: Counter[TrialSettings] = Counter()
        self.since: dict[TrialSettings, float] = {}

    def pause(self, trial: TrialSettings, counts: bool) -> float | None:
        """Seconds until it is to run again; None: it is given up."""
        self.losses[trial] += 1
        waited = time.monotonic() - self.since.setdefault(trial, time.monotonic())
        self.attempts[trial] += counts or waited > PATIENCE
        if self.attempts[trial] >= ATTEMPTS_BY_RAY:
            return None
        return min(LONGEST_PAUSE, 2.0 ** (self.losses[trial] - 1))
