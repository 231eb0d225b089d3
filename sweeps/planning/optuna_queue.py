"""Search by Optuna: learn from what trials found which to try next.

The records are the study's store: a study is made anew from them whenever a sweep is started, so
nothing that a killed driver knew is lost. Suggestion n of a search depends on its seed, on n and on
what is known by then, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    IntDistribution,
)
from optuna.trial import TrialState

from sweeps.config.search import BudgetConfig, XRange
from sweeps.planning.objectives import DIRECTIONS, violations_in
from sweeps.planning.queue import Found, TrialQueue
from sweeps.planning.samplers import NumberedSampler, digest
from sweeps.planning.search_space import Options, SearchSpace
from sweeps.records.settings import TrialSettings

REPEATS = 20  # suggestions in a row that are known; then one that is not known is drawn
STUDY = "goodnet"
Known = Iterable[tuple[TrialSettings, Found]]

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Suggester(Protocol):
    """What Ray's OptunaSearch does, and ``AskTell`` without Ray."""

    def suggest(self, trial_id: str) -> dict[str, Any] | None: ...

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None: ...


class Study:
    """An Optuna study of a search space, filled with what is known."""

    def __init__(
        self, space: SearchSpace, seed: int, startup: int, known: Known = (), sampler: str = "tpe"
    ) -> None:
        """``startup``: trials drawn at random before the first is suggested; ``sampler``: its name."""
        self.space = space.rising
        self.sampler = NumberedSampler(seed, startup, sampler)
        self.defined: Any = None  # the trial that was suggested last, as Optuna has it
        self.storage = optuna.storages.InMemoryStorage()
        self.study = optuna.create_study(
            storage=self.storage,
            sampler=self.sampler,
            study_name=STUDY,
            directions=list(DIRECTIONS.values()),
        )
        for settings, found in known:
            self.add(settings, found)

    def add(self, settings: TrialSettings, found: Found) -> None:
        """A trial that nobody suggested. Raises Outside when the space does not hold it."""
        taken = self.space.choices(settings)
        params = {name: _stored(options, value) for name, (options, value) in taken.items()}
        values = [found[name] for name in DIRECTIONS]
        if self.sampler.generations:
            self.study.enqueue_trial(params)
            trial = self.study.ask()
            self.sampler.count_in(self.study, self.study.trials[trial.number])
            self.define(trial)
            constrain(trial, found)
            self.study.tell(trial, values)
            return
        self.study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={name: _distribution(options) for name, (options, _) in taken.items()},
                values=values,
                constraints=violations_in(found),
            )
        )

    def define(self, trial: Any) -> None:
        """Optuna's define-by-run form of the space."""
        self.defined = trial
        self.space.settings(lambda name, options: _value(options, _suggested(trial, name, options)))

    def settings(self, params: dict[str, Any]) -> TrialSettings:
        return self.space.settings(lambda name, options: _value(options, params[name]))


def constrain(trial: optuna.Trial, found: Found) -> None:
    """Tell Optuna how far a trial is from ``sweep.constraint``; before it is told of its end."""
    for name, violation in violations_in(found).items():
        trial.set_constraint(name, violation)


class AskTell:
    """Suggestions straight from Optuna."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self.asked: dict[str, optuna.Trial] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        trial = self.asked[trial_id] = self.study.study.ask()
        self.study.define(trial)
        return trial.params

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self.asked.pop(trial_id)
        if error or result is None:
            self.study.study.tell(trial, state=TrialState.FAIL)
        else:
            self.study.study.tell(trial, [result[name] for name in DIRECTIONS])


class Suggested(TrialQueue):
    """Trials that Optuna suggests, none twice."""

    def __init__(
        self,
        study: Study,
        samples: int,
        members: Sequence[TrialSettings] = (),
        missing: Sequence[TrialSettings] = (),
        budget: BudgetConfig | None = None,
        asked: Callable[[TrialSettings], Found | None] = lambda settings: None,
    ) -> None:
        """
        Args:
            samples: how many to suggest yet.
            members: what must not be suggested again. missing: those of them to be run first.
            asked: told of every new member before it runs; returns what it finds when that is
                known already, and then it is not run.
        """
        super().__init__(budget or BudgetConfig())
        self.study, self.new, self.asked = study, max(0, samples), asked
        self.members, self.missing = set(members), list(missing)
        self.suggester: Suggester = AskTell(study)
        self.out: dict[TrialSettings, str] = {}
        self.trials: dict[str, Any] = {}  # those that are out, as Optuna has them
        self.number = len(self.members)

    def _next(self) -> TrialSettings | None:
        if self.missing:
            return self.missing.pop(0)
        while self.new > 0:
            settings = self._new()
            if settings is None:
                self.new = 0  # the space is used up
                return None
            self.new -= 1
            self.number += 1
            self.members.add(settings)
            found = self.asked(settings)
            if found is None:
                return settings
            self.ended(settings, found)
        return None

    def _new(self) -> TrialSettings | None:
        for repeat in range(REPEATS):
            name = f"{self.number}-{repeat}"
            self.study.sampler.turn = (self.number, repeat)
            params = self.suggester.suggest(name)
            assert params is not None  # OptunaSearch sets no limit of its own
            settings = self.study.settings(params)
            if settings not in self.members:
                self.out[settings], self.trials[name] = name, self.study.defined
                return settings
            # It tells nothing new, so it must not weigh twice.
            self.suggester.on_trial_complete(name, error=True)
        rng = np.random.default_rng(digest(self.study.sampler.seed, self.number))
        return self.study.space.draw_other(self.members.__contains__, rng)

    def ended(self, settings: TrialSettings, found: Found | None) -> None:
        name = self.out.pop(settings, None)
        if name is not None:
            result, trial = None if found is None else dict(found), self.trials.pop(name)
            if found is not None:
                constrain(trial, found)
            self.suggester.on_trial_complete(name, result, error=found is None)
        elif found is not None:  # drawn, or missing from an earlier call
            self.study.add(settings, found)

    @property
    def left(self) -> int:
        return len(self.missing) + self.new


# Optuna keeps an X as a whole number, of hundredths of a point or its place in the rising list, so that
# neighbours are known to be near; what else there is to choose as text.
def _distribution(options: Options) -> BaseDistribution:
    if isinstance(options, XRange):
        return IntDistribution(*_hundredths(options))
    if _rising(options):
        return IntDistribution(0, len(options) - 1)
    return CategoricalDistribution([_text(option) for option in options])


def _suggested(trial: Any, name: str, options: Options) -> Any:
    if isinstance(options, XRange):
        return trial.suggest_int(name, *_hundredths(options))
    if _rising(options):
        return trial.suggest_int(name, 0, len(options) - 1)
    return trial.suggest_categorical(name, [_text(option) for option in options])


def _stored(options: Options, value: Any) -> Any:
    if isinstance(options, XRange):
        return round(100 * value)
    return list(options).index(value) if _rising(options) else _text(value)


def _value(options: Options, stored: Any) -> Any:
    if isinstance(options, XRange):
        return stored / 100
    return options[stored] if _rising(options) else next(o for o in options if _text(o) == stored)


def _hundredths(options: XRange) -> tuple[int, int]:
    return round(100 * options.low), round(100 * options.high)


def _rising(options: Options) -> bool:
    return isinstance(options, tuple) and all(isinstance(option, float) for option in options)


def _text(option: Any) -> str:
    return "+".join(option) if isinstance(option, tuple) else str(option)
