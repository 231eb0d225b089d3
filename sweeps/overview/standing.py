"""How a sweep stands: what its driver writes down while it runs, for whoever looks at the storage.

``sweeps/<name>.now``, renewed every few seconds. It is no part of the sweep: without it, or where it is
damaged, the same is worked out from the records. A second driver of the same sweep writes beside the first
one, ``sweeps/<name>.2.now``; each knows of its own trials, so while there are several all is worked out from
the records.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

from sweeps.config.constraint import constraints_of
from sweeps.limits import DAMAGE
from sweeps.overview.figures import BEST, bounds_of, figures_of
from sweeps.records.trial_record import TrialRecord
from sweeps.storage.manifest import Manifest, read_records
from sweeps.storage.storage import Storage

State = Literal["running", "finished", "interrupted"]
SILENT = 120.0  # seconds without a sign of life, after which a driver is taken to be gone
DRIVERS = 4  # of one sweep, that tell of themselves at a time
SILENT_HERE = 20.0  # the same where its process is looked for on this machine, and is not there


@dataclass(frozen=True)
class Standing:
    """How a sweep stands.

    Attributes:
        state: "running", "finished", or "interrupted" (stopped, killed, or its budget spent).
        date: of the last change, seconds since the epoch.
        total: trials that are planned; of a search, at most. done, failed, stopped (by ``sweep.stop``): those
            with a record.
        running: trials under way. seconds_left: as an estimate; None where nothing is known.
        hypervolume, frontier_size, best: on validation, see ``Figures``.
        host, pid: the driver, where it has said so.
        within: states of the frontier within ``sweep.constraint``; None without one.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)

    sweep: str
    state: State
    date: float
    total: int
    done: int
    failed: int = 0
    stopped: int = 0
    running: int = 0
    seconds_left: float | None = None
    hypervolume: float = 0.0
    frontier_size: int = 0
    best: list[dict[str, Any]] = field(default_factory=list)
    host: str | None = None
    pid: int | None = None
    within: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The contract's form: as the commands print it."""
        told = asdict(self)
        for inner in ("host", "pid", *_FATES):
            del told[inner]
        trials = {name: getattr(self, name) for name in _FATES}
        return {**told, "date": _iso(self.date), "trials": trials}

    def signed(self) -> Standing:
        """Written by this process."""
        return replace(self, host=platform.node(), pid=os.getpid())

    def alive(self, now: float) -> bool:
        """Whether its driver may still be there."""
        silent = now - self.date
        if self.host == platform.node() and self.pid is not None and silent > SILENT_HERE:
            return silent <= SILENT and _is_there(self.pid)
        return silent <= SILENT


_FATES = ("total", "done", "failed", "stopped", "running")
_FORM = TypeAdapter(Standing)


def write_standing(storage: Storage, standing: Standing) -> None:
    """Where this driver has written before, or else where no other one does. The last place of all is taken
    when all others are."""
    told = _all_told(storage, standing.sweep)
    free = (path for path, there in told if there is None or not _running(there))
    own = (path for path, there in told if there is not None and _by_one(there, standing))
    path = next(own, None) or next(free, told[-1][0])
    storage.write_bytes(path, json.dumps(asdict(standing)).encode())


def alone(storage: Storage, name: str) -> None:
    """What drivers that are gone have left beside the place of the first one is taken away."""
    for path, there in _all_told(storage, name)[1:]:
        if there is not None and not _running(there):
            storage.delete(path)


def read_standing(storage: Storage, manifest: Manifest) -> Standing:
    """As the driver has written it; worked out from the records where it has not, where the driver went
    away without a word, or where several drivers know a part each."""
    told = [there for _, there in _all_told(storage, manifest.name) if there is not None]
    running = [there for there in told if _running(there)]
    if len(told) == 1 and (running or told[0].state != "running"):
        return told[0]
    last = max(told, key=lambda there: there.date, default=None)
    if running:
        left = [there.seconds_left for there in running if there.seconds_left is not None]
        return replace(
            standing_of(storage, manifest, max(there.date for there in running)),
            state="running",
            total=max(there.total for there in running),
            running=sum(there.running for there in running),
            seconds_left=min(left, default=None),  # each would run all that it has not seen end
        )
    if last is not None and last.state == "finished":
        return last
    return standing_of(storage, manifest, None if last is None else last.date)


def _running(standing: Standing) -> bool:
    return standing.state == "running" and standing.alive(time.time())


def _by_one(a: Standing, b: Standing) -> bool:
    return (a.host, a.pid) == (b.host, b.pid)


def standing_of(storage: Storage, manifest: Manifest, date: float | None = None) -> Standing:
    """From the records alone: of a sweep that is not running. ``date``: of its last sign of life."""
    records = read_records(storage, manifest.trials)
    learns = manifest.config.sweep.search == "optuna"  # and does not know its trials beforehand
    total = max(len(manifest.trials), (manifest.config.sweep.samples or 0) if learns else 0)
    state: State = "finished" if len(records) >= total else "interrupted"
    date = date or storage.modified(f"sweeps/{manifest.name}.json") or 0.0
    return ended_standing(manifest, records, state, total, date)


def ended_standing(
    manifest: Manifest, records: Sequence[TrialRecord], state: State, total: int, date: float
) -> Standing:
    """Of a sweep that has ended, with all of its records."""
    sweep = manifest.config.sweep
    constraints = constraints_of(sweep.constraint)
    figures = figures_of(records, bounds_of(sweep), manifest.target_share, constraints)
    fates = fates_of(records)
    return Standing(
        manifest.name,
        state,
        date,
        total,
        fates["done"],
        fates["failed"],
        fates["stopped"],
        hypervolume=figures.hypervolume,
        frontier_size=len(figures.states),
        best=figures.best_json(),
        within=figures.within,
    )


def _all_told(storage: Storage, name: str) -> list[tuple[str, Standing | None]]:
    """What stands in each of the places, the first driver's first."""
    parts = ("", *(f".{number}" for number in range(2, DRIVERS + 1)))
    return [(path, _told(storage, path, name)) for path in (f"sweeps/{name}{part}.now" for part in parts)]


def _told(storage: Storage, path: str, name: str) -> Standing | None:
    try:
        told = _FORM.validate_json(storage.read_bytes(path) or b"")
        json.dumps(told.to_json(), allow_nan=False), words(told.to_json())  # as whoever shows it will
        if any(set(best) != {"x", *BEST} for best in told.best):
            return None
    except DAMAGE:
        return None
    return told if told.sweep == name else None


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def words(standing: dict[str, Any]) -> str:
    """One line of how a sweep stands: trials, hypervolume, the best state within each X (clean accuracy and
    attack success on validation), workers, time left."""
    trials = standing["trials"]
    return f"{over(trials)} of {trials['total']} trials, {progress_words(standing)}"


def over(trials: dict[str, int]) -> int:
    """Trials with a record: done, stopped or failed."""
    return trials["done"] + trials["stopped"] + trials["failed"]


def fates_of(records: Sequence[TrialRecord]) -> dict[str, int]:
    """How many trials are done, failed, stopped."""
    fates = Counter(record.status for record in records)
    return {fate: fates[fate] for fate in ("done", "failed", "stopped")}


def progress_words(standing: dict[str, Any]) -> str:
    """The same behind a bar that shows the trials."""
    trials, left = standing["trials"], standing["seconds_left"]
    parts = [f"{trials[fate]} {fate}" for fate in ("failed", "stopped") if trials[fate]]
    parts.append(f"hypervolume {standing['hypervolume']:.4f}")
    if standing.get("within") is not None:
        parts.append(within_words(standing["within"]))
    parts += best_words(standing["best"])
    if standing["state"] == "running":
        parts.append(f"{trials['running']} running")
        parts += [] if left is None else [f"{span(left)} left"]
    return ", ".join(parts)


def within_words(states: int) -> str:
    return f"within the constraint: {states} state{'s' if states != 1 else ''}"


def best_words(best: list[dict[str, Any]]) -> list[str]:
    """``X 4: 96.50%/3.21%`` for each X that a state keeps."""
    return [
        f"X {b['x']:g}: {b['clean_accuracy']:.2%}/{b['attack_success']:.2%}"
        for b in best
        if b["trial_key"] is not None
    ]


def span(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
