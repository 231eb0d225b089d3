"""Optuna's samplers by name, with a random state for each suggestion."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial, TrialState


class NumberedSampler(BaseSampler):
    """A sampler with a random state of its own for each turn, so that an interrupted search goes on as if
    it had not been. ``turn``: set before each suggestion."""

    def __init__(self, seed: int, startup: int, name: str = "tpe") -> None:
        self.seed, self.startup, self.name = seed, startup, name
        self.turn: tuple[int, ...] = (0,)
        self._made: tuple[tuple[int, ...], BaseSampler] | None = None

    def _now(self) -> BaseSampler:
        if self._made is None or self._made[0] != self.turn:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of group, and gp
                sampler = make_sampler(self.name, digest(self.seed, *self.turn), self.startup)
            self._made = self.turn, sampler
        return self._made[1]

    @property
    def generations(self) -> bool:
        """Whether it breeds generations, and so has to know which trial is of which."""
        return self.name == "nsga2"

    def count_in(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Put a trial that it has not suggested into the generation that is bred now."""
        sampler = self._now()
        assert isinstance(sampler, NSGAIISampler)
        sampler.get_trial_generation(study, trial)

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._now().infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._now().sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._now().sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._now().before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self._now().after_trial(study, trial, state, values)


def make_sampler(name: str, seed: int, startup: int) -> BaseSampler:
    """``startup``: trials drawn at random first; of nsga2 also the size of each generation."""
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=startup)
    if name == "gp":
        return GPSampler(
            seed=seed, n_startup_trials=startup, deterministic_objective=True, warn_independent_sampling=False
        )
    return TPESampler(seed=seed, n_startup_trials=startup, multivariate=True, group=True, constant_liar=True)


def digest(*numbers: int) -> int:
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:4], "big")
