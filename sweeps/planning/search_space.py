"""What a search draws from: one choice after the other, each asked only where it matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prune_core.methods import method_of, repairable
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import find_order
from sweeps.config.schema import SweepConfig
from sweeps.config.search import XRange
from sweeps.planning.grid import spelled
from sweeps.settings import NO_ORDER, TrialSettings

Options = Sequence[Any] | XRange
Pick = Callable[[str, Options], Any]
ATTEMPTS = 1000  # draws in a row that are all known: then a range is taken to be used up


class Outside(Exception):
    """Settings that the space does not hold."""


@dataclass(frozen=True)
class SearchSpace:
    """The trials of a configuration as choices: policy, repair, layers, order, seed, X.

    The grid's extra X = 100 of policy ``final-layer`` is a row of a table, not a choice.
    """

    policies: tuple[str, ...]
    repairs: tuple[str, ...]
    layer_sets: tuple[tuple[str, ...], ...]
    first_layers: tuple[tuple[str, ...], ...]  # what of them policy final-layer walks
    orders: tuple[str, ...]
    seeds: tuple[int, ...]
    x: tuple[float, ...] | XRange

    @classmethod
    def of(cls, sweep: SweepConfig, model: PrunableModel) -> SearchSpace:
        """Raises InputError for layers that the model does not have."""
        sets = [resolve_layer_set(spec, model) for spec in sweep.layer_sets]
        x = sweep.x_thresholds
        return cls(
            _once(sweep.policies),
            _once(sweep.repair),
            _once(spelled(layers, model) for layers in sets),
            _once(spelled(layers[:1], model) for layers in sets),
            _once(sweep.orders),
            _once(sweep.seeds),
            x if isinstance(x, XRange) else tuple(sorted(set(x))),
        )

    def settings(self, pick: Pick) -> TrialSettings:
        """The trial that ``pick`` chooses: it is given a choice's name and its options (X: a range or
        a rising list) and is asked only where there is more than one."""

        def choose(name: str, options: Options) -> Any:
            return (
                options[0] if not isinstance(options, XRange) and len(options) == 1 else pick(name, options)
            )

        policy = choose("policy", self.policies)
        repair = choose("repair", self.repairs) if repairable(policy) else "none"
        final = policy == "final-layer"
        layers = choose("final layer", self.first_layers) if final else choose("layers", self.layer_sets)
        method = method_of(policy, repair)
        order = choose("order", self.orders) if method.ordered else NO_ORDER
        chance = method.seeded or (method.ordered and find_order(order).chance)
        seed = choose("seed", self.seeds) if chance else 0
        x = choose("x", self.x)
        return TrialSettings(order, layers, round(float(x), 2), policy, seed, repair)

    def choices(self, settings: TrialSettings) -> dict[str, tuple[Options, Any]]:
        """What led to ``settings``: the options and the one taken, by name. Raises Outside."""
        taken: dict[str, tuple[Options, Any]] = {}
        values = {
            "policy": settings.policy,
            "repair": settings.repair,
            "layers": settings.layers,
            "final layer": settings.layers,
            "order": settings.order,
            "seed": settings.seed,
            "x": settings.x,
        }

        def look_up(name: str, options: Options) -> Any:
            if values[name] not in options:
                raise Outside
            taken[name] = (options, values[name])
            return values[name]

        if self.settings(look_up) != settings:
            raise Outside
        return taken

    def draw(self, rng: np.random.Generator) -> TrialSettings:
        """Each choice at even odds."""
        return self.settings(
            lambda name, options: (
                rng.uniform(options.low, options.high)
                if isinstance(options, XRange)
                else options[int(rng.integers(len(options)))]
            )
        )

    def draw_other(
        self, known: Callable[[TrialSettings], bool], rng: np.random.Generator
    ) -> TrialSettings | None:
        """One that is not known; None when there is none left."""
        if isinstance(self.x, XRange):
            drawn = (self.draw(rng) for _ in range(ATTEMPTS))
            return next((settings for settings in drawn if not known(settings)), None)
        left = [settings for settings in self.all if not known(settings)]
        return left[int(rng.integers(len(left)))] if left else None

    @cached_property
    def all(self) -> list[TrialSettings]:
        """Every trial of a space without a range."""
        found: dict[TrialSettings, None] = {}
        waiting: list[tuple[Any, ...]] = [()]
        while waiting:  # each answer so far, then every option of the next question
            answers = waiting.pop()
            given = iter(answers)
            asked: list[Options] = []

            def answer(name: str, options: Options, given: Any = given, asked: Any = asked) -> Any:
                for value in given:
                    return value
                asked.append(options)
                raise Outside

            try:
                found[self.settings(answer)] = None
            except Outside:
                waiting += [(*answers, option) for option in reversed(list(asked[0]))]
        return list(found)


def _once(values: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))
