"""What a sweep leaves in its storage while it runs: how it stands, and its page.

Both are written by a thread, so that the driver never waits for them. How often the page is drawn follows
from what it costs: all of it takes at most a fiftieth of one core.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from prune_core.data.checks.findings import Finding
from sweeps.events import SweepEvents
from sweeps.extras import installed
from sweeps.following.course import Course
from sweeps.overview.standing import Standing, State, alone, ended_standing, write_standing
from sweeps.results import known_frontier
from sweeps.storage.manifest import Manifest, page_path, read_records
from sweeps.storage.storage import Storage

if TYPE_CHECKING:
    from sweeps.inputs.trial_inputs import TrialInputs
    from sweeps.progress import Progress
    from sweeps.records.trial_record import TrialRecord
    from sweeps.results import Frontier
    from sweeps.sweep_result import SweepResult

BEAT = 5.0  # seconds between two writings of how it stands
PAGE_EVERY = 15.0  # seconds between two pages, at least
LAST = 30.0  # seconds that the sweep's end waits for a page, or for a storage that is away
SHARE = 0.02  # of a core that pages may take; and of the time that has passed, an old sweep changes slowly
Renew = Callable[[Mapping[str, bytes]], None]

_log = logging.getLogger(__name__)


class Live(SweepEvents):
    """``renew`` gets the page each time that it is drawn, before the sweep's end."""

    def __init__(self, manifest: Manifest, storage: Storage, renew: Renew) -> None:
        self.manifest, self.storage, self.renew = manifest, storage, renew
        self.course = Course()
        self.pause = Pause()
        self.channels: Mapping[str, int] | None = None  # of each layer
        self.new = False  # a trial is over since the last page
        self.ran = False  # a trial is over in this call
        self.begun = False
        self.last: Standing | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="live", daemon=True)

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        self.manifest = manifest
        self.course.planned(manifest, there, total)
        self.begun = True
        with contextlib.suppress(OSError, pa.ArrowException):
            alone(self.storage, manifest.name)
        self._write()
        self._thread.start()

    def candidates(self, key: str, progress: Progress) -> None:
        self.course.candidates(key, progress)

    def ended(self, record: TrialRecord) -> None:
        self.course.ended(record)
        self.new = self.ran = True

    def finished(self, result: SweepResult, inputs: TrialInputs) -> None:
        self._join()
        state: State = "interrupted" if result.stopped or result.left else "finished"
        total = max(self.course.total, len(result.records))
        # Of all records: a trial that ended while the sweep was stopped may not have been told of.
        self.last = ended_standing(result.manifest, result.records, state, total, time.time())
        name = result.manifest.name
        if installed("plots") and (self.ran or self.storage.modified(page_path(name)) is None):
            self.channels = {la.name: la.channels for la in inputs.model.layers}
            self._keep(name, self._drawn(result.records, result.frontier))

    def close(self) -> None:
        """The last word; without an end, that the sweep was interrupted."""
        self._join()
        if self.begun:
            self._write(self.last or self.course.standing("interrupted"))

    def _join(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(LAST)

    def _work(self) -> None:
        while not self._ending.wait(BEAT):
            self._write()
            if self.new and installed("plots") and self.pause.over():
                self.new = False
                try:
                    with self.pause.measured():
                        self.draw()
                except Exception as error:  # a page less; the sweep and its end have nothing to do with it
                    _log.debug("no page: %s", error)

    def draw(self) -> None:
        """The page of the sweep as it stands."""
        name = self.manifest.name
        records = read_records(self.storage, list(self.manifest.trials))
        frontier = known_frontier(self.storage, name, records, self.manifest.target_share)
        standing = self.course.standing()
        so_far = Finding(
            "note",
            "running",
            f"the sweep is running: {standing.done + standing.failed} of {standing.total} trials are over; "
            "its frontier has the states that are counted on test by now, its hypervolume is of all",
        )
        self._keep(name, page := self._drawn(records, frontier, so_far))
        self.renew({"frontier.html": page})

    def _drawn(self, records: Sequence[TrialRecord], frontier: Frontier, *so_far: Finding) -> bytes:
        from sweeps.reports.frontier_html import frontier_page  # plotly takes its time

        place = self.storage.place
        return frontier_page(
            records,
            frontier,
            self.manifest.name,
            findings=[*so_far, *(self.manifest.findings or ())],
            channels=self.channels,
            storage=None if place == "runs" else place,
            running=bool(so_far),
        ).encode()

    def _keep(self, name: str, page: bytes) -> None:
        try:
            self.storage.write_bytes(page_path(name), page)
        except (OSError, pa.ArrowException):
            _log.debug("no page: the storage is away")

    def _write(self, standing: Standing | None = None) -> None:
        standing = replace(standing or self.course.standing(), sweep=self.manifest.name).signed()
        try:
            write_standing(self.storage, standing)
        except (OSError, pa.ArrowException):
            _log.debug("how the sweep stands is not written: the storage is away")


class Pause:
    """Whether it is time for another page."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began = clock()
        self.last, self.cost = -PAGE_EVERY, 0.0

    def over(self) -> bool:
        """Since the last one was begun, or since the start."""
        now = self.clock()
        least = max(PAGE_EVERY, self.cost / SHARE, SHARE * (now - self.began))
        return now - max(self.last, self.began) >= least

    def measured(self) -> Pause:
        return self

    def __enter__(self) -> Pause:
        self.last = self.clock()
        return self

    def __exit__(self, *exc: object) -> None:
        self.cost = self.clock() - self.last
