"""How a sweep stands while it runs, kept up from what its driver hears."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sweeps.config.constraint import constraints_of
from sweeps.events import SweepEvents
from sweeps.overview.figures import Figures, bounds_of
from sweeps.overview.standing import Standing, State

if TYPE_CHECKING:
    from sweeps.progress import Progress
    from sweeps.records.trial_record import TrialRecord
    from sweeps.storage.manifest import Manifest


class Course(SweepEvents):
    """Told of by one thread, asked by any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._figures = Figures(())
        self._name = ""
        self._there = self._failed = self._stopped = self.over = self.total = 0
        self._began = time.monotonic()
        self._under_way: dict[str, float] = {}

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        with self._lock:
            self._name, self.total = manifest.name, total
            sweep = manifest.config.sweep
            constraints = constraints_of(sweep.constraint)
            self._figures = Figures(bounds_of(sweep), manifest.target_share, constraints)
            for record in there:
                self._figures.add(record)
            self._stopped = sum(record.status == "stopped" for record in there)
            self.over = self._there = len(there)
            self._began = time.monotonic()

    def candidates(self, key: str, progress: Progress) -> None:
        with self._lock:
            self._under_way[key] = progress.done / max(progress.total, 1)

    def ended(self, record: TrialRecord) -> None:
        with self._lock:
            self._under_way.pop(record.key, None)
            self.over += 1
            self._failed += record.status == "failed"
            self._stopped += record.status == "stopped"
            self._figures.add(record)

    @property
    def done(self) -> float:
        """Trials that are over, and the parts of those under way that are done."""
        return self.over + sum(self._under_way.values())

    def standing(self, state: State = "running") -> Standing:
        """Now; who is not told of a plan knows of no sweep."""
        with self._lock:
            running = state == "running"
            return Standing(
                self._name,
                state,
                time.time(),
                self.total,
                self.over - self._failed - self._stopped,
                self._failed,
                self._stopped,
                len(self._under_way) if running else 0,
                self._left() if running else None,
                self._figures.hypervolume,
                len(self._figures.states),
                self._figures.best_json(),
                within=self._figures.within,
            )

    def _left(self) -> float | None:
        """Seconds, if trials go on as fast as those of this call did; None before the first is over."""
        if self.over == self._there:
            return None
        pace = (self.done - self._there) / max(time.monotonic() - self._began, 1e-9)
        return max(0.0, self.total - self.done) / pace
