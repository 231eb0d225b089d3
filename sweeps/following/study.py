"""A sweep as an Optuna study, for ``optuna-dashboard`` and Optuna's own plots: of any search, grids too.

A copy of what the records tell, filled trial by trial in a thread. The records stay the truth: a study that
is lost, or does not fit any more, is made anew.
"""

from __future__ import annotations

import queue
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sweeps.events import SweepEvents
from sweeps.extras import command, installed
from sweeps.following.optuna_rows import add_trials
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.overview.rows import trial_row
from sweeps.planning.objectives import DIRECTIONS, objectives
from sweeps.planning.search_space import SearchSpace
from sweeps.records.settings import NO_ORDER
from sweeps.storage.manifest import Manifest
from sweeps.storage.storage import Storage

if TYPE_CHECKING:
    import optuna

    from sweeps.progress import Tell
    from sweeps.records.trial_record import TrialRecord

FILE = "optuna.db"  # in a storage that is a folder: all its sweeps, a study each
GATHERED = 5.0  # seconds in which trials end that are written together
LAST = 120.0  # seconds that a sweep's end waits for what is not written yet
AT_ONCE = 500  # trials of one transaction
_COMPLETE = "COMPLETE"
PARAMS = ("policy", "repair", "layers", "order", "seed", "x")


def study_address(given: str | None, storage: Storage) -> str | None:
    """Where the study is kept, as Optuna names it: ``sweep.study``, or SQLite in a storage that is a folder;
    None where it is to be kept nowhere."""
    if given is not None:
        return None if given == "none" else given
    folder = storage.local
    return (
        None if folder is None or any(sign in str(folder) for sign in "%?") else f"sqlite:///{folder}/{FILE}"
    )


@dataclass(frozen=True)
class Row:
    """What the study keeps of a trial; ``values`` by ``DIRECTIONS``, None of a failed one."""

    key: str
    params: dict[str, Any]
    values: list[float] | None
    attributes: dict[str, Any]
    started: float | None
    seconds: float

    @classmethod
    def of(cls, record: TrialRecord) -> Row:
        settings, found = record.settings, objectives(record)
        told = {name: value for name, value in trial_row(record).items() if value is not None}
        return cls(
            record.key,
            {**{name: getattr(settings, name) for name in PARAMS}, "layers": "+".join(settings.layers)},
            None if found is None else [found[name] for name in DIRECTIONS],
            {name: value for name, value in told.items() if name not in PARAMS},
            None if record.ran is None else record.ran.started,
            record.seconds,
        )


class StudyCopy(SweepEvents):
    """Fills the study of a sweep. What goes wrong costs one line, and never a trial."""

    def __init__(self, manifest: Manifest, inputs: TrialInputs, address: str, tell: Tell) -> None:
        self.manifest, self.inputs, self.address, self.tell = manifest, inputs, address, tell
        self._rows: queue.Queue[Row | None] = queue.Queue()
        self._before: list[Row] = []
        self._thread: threading.Thread | None = None

    def planned(self, manifest: Manifest, there: Sequence[TrialRecord], total: int) -> None:
        self._before = [Row.of(record) for record in there] if installed("sweep") else []

    def ended(self, record: TrialRecord) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="study", daemon=True)
            self._thread.start()
        self._rows.put(Row.of(record))

    def close(self) -> None:
        """Wait for what is not written yet."""
        if self._thread is not None:
            self._rows.put(None)
            self._thread.join(LAST)

    def _work(self) -> None:
        if not installed("sweep"):
            self.tell(f"no Optuna study is kept: {command('sweep')}")
            return
        try:
            study = OpenStudy(self.address, self.manifest, self.inputs)
            study.add(self._before)
            for rows in self._gathered():
                study.add(rows)
        except Exception as error:  # SQLAlchemy raises all sorts; an address may hold a password
            self.tell(
                f"the Optuna study of the sweep is not kept ({type(error).__name__}); the sweep goes on "
                "without it, and the next goodnet sweep with a trial to run fills it again"
            )

    def _gathered(self) -> Iterator[list[Row]]:
        """What came within a few seconds of each first, until the end."""
        while (first := self._rows.get()) is not None:
            rows, until = [first], time.monotonic() + GATHERED
            while (left := until - time.monotonic()) > 0:
                try:
                    more = self._rows.get(timeout=left)
                except queue.Empty:
                    break
                if more is None:
                    yield rows
                    return
                rows.append(more)
            yield rows


class OpenStudy:
    """The study of one sweep, and which of its trials it has."""

    def __init__(self, address: str, manifest: Manifest, inputs: TrialInputs) -> None:
        import optuna  # a second to import

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.name = manifest.name
        space = SearchSpace.of(manifest.config.sweep, inputs.model, inputs.inverted)
        self.distributions = _distributions(space)
        self.storage = optuna.storages.RDBStorage(address)
        self.study = self._made()
        there = self.study.get_trials(deepcopy=False)
        if any(d != self.distributions.get(n) for t in there for n, d in t.distributions.items()):
            optuna.delete_study(
                study_name=self.name, storage=self.storage
            )  # of a search that had other choices
            self.study, there = self._made(), []
        self.known = {trial.user_attrs.get("trial_key"): trial.state.name for trial in there}

    def _made(self) -> optuna.Study:
        import optuna

        study = optuna.create_study(
            storage=self.storage,
            study_name=self.name,
            directions=list(DIRECTIONS.values()),
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(DIRECTIONS))
        return study

    def add(self, rows: Sequence[Row]) -> None:
        """Those that the study does not have; a trial that failed or was stopped before is added once it is
        done."""
        states: dict[str, str] = {}  # by trial, the last word on it
        trials = []
        for row in rows:
            known = states.get(row.key, self.known.get(row.key))
            if known not in (_COMPLETE, _state(row)):
                states[row.key] = _state(row)
                trials.append(self._trial(row))
        for start in range(0, len(trials), AT_ONCE):
            add_trials(self.study, self.storage, trials[start : start + AT_ONCE])
        self.known.update(states)

    def _trial(self, row: Row) -> optuna.trial.FrozenTrial:
        import optuna

        trial = optuna.trial.create_trial(
            state=optuna.trial.TrialState[_state(row)],
            values=row.values,
            params=row.params,
            distributions=self.distributions,
            user_attrs=row.attributes,
        )
        if row.started is not None:
            trial.datetime_start = datetime.fromtimestamp(row.started)
        else:
            trial.datetime_start = datetime.now() - timedelta(seconds=row.seconds)
        trial.datetime_complete = trial.datetime_start + timedelta(seconds=row.seconds)
        return trial


def _state(row: Row) -> str:
    """Optuna calls a trial that was stopped pruned."""
    if row.values is None:
        return "FAIL"
    return "PRUNED" if row.attributes["status"] == "stopped" else _COMPLETE


def _distributions(space: SearchSpace) -> dict[str, Any]:
    """What Optuna is told of a sweep's choices. X is a number, also that of the extra trial of policy
    ``final-layer``; so is the seed, as Optuna keeps the list of all choices with every trial."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    choices: dict[str, set[Any]] = {
        "policy": set(space.policies),
        "repair": {*space.repairs, "none"},
        "layers": {"+".join(layers) for layers in (*space.layer_sets, *space.first_layers)},
        "order": {*space.orders, NO_ORDER},
    }
    seeds = {*space.seeds, 0}
    return {
        **{name: CategoricalDistribution(sorted(options)) for name, options in choices.items()},
        "seed": IntDistribution(min(seeds), max(seeds)),
        "x": FloatDistribution(0.0, 100.0),
    }
