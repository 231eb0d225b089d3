"""What trials there are to do: one choice after the other, each asked only where it matters."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from prune_core.methods import Inverted, method_of, repairable
from prune_core.model.layer_sets import LayerSet, resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import find_order
from prune_core.policies.registry import RANKING
from sweeps.config.search import XRange
from sweeps.config.sweep import SweepConfig
from sweeps.records.settings import FINAL_LAYER, NO_ORDER, TrialSettings

Options = Sequence[Any] | XRange
Pick = Callable[[str, Options], Any]
ATTEMPTS = 1000  # draws in a row that are all known: then a range is taken to be used up


class Outside(Exception):
    """Settings that the space does not hold."""


@dataclass(frozen=True)
class SearchSpace:
    """The trials of a configuration as choices: policy, repair, layers, order, seed, X.

    The one place that knows which choices a trial has: published baselines are not repaired, policy
    ``final-layer`` walks the first layer of a set, policies that walk no order have one trial for all
    orders, and a seed is chosen only where chance is in it.
    """

    policies: tuple[str, ...]
    repairs: tuple[str, ...]
    layer_sets: tuple[tuple[str, ...], ...]
    first_layers: tuple[tuple[str, ...], ...]  # what of them policy final-layer walks
    orders: tuple[str, ...]
    seeds: tuple[int, ...]
    x: tuple[float, ...] | XRange
    rank_images: int | None = None
    screen: int | None = None
    inverted: Inverted | None = None

    @classmethod
    def of(cls, sweep: SweepConfig, model: PrunableModel, inverted: Inverted | None = None) -> SearchSpace:
        """``inverted`` as of ``TrialInputs``. Raises InputError for layers that the model does not have."""
        sets = [resolve_layer_set(spec, model) for spec in sweep.layer_sets]
        x = sweep.x_thresholds
        return cls(
            _once(sweep.policies),
            _once(sweep.repair),
            _once(spelled(layers, model) for layers in sets),
            _once(spelled(layers[:1], model) for layers in sets),
            _once(sweep.orders),
            _once(sweep.seeds),
            x if isinstance(x, XRange) else _once(x),
            sweep.rank_images,
            sweep.screen,
            inverted,
        )

    @property
    def rising(self) -> SearchSpace:
        """The same with the X of a list in rising order: neighbours are near."""
        return self if isinstance(self.x, XRange) else replace(self, x=tuple(sorted(self.x)))

    def settings(self, pick: Pick) -> TrialSettings:
        """The trial that ``pick`` chooses: it is given a choice's name and its options (X: a range or
        a rising list) and is asked only where there is more than one."""

        def choose(name: str, options: Options) -> Any:
            return (
                options[0] if not isinstance(options, XRange) and len(options) == 1 else pick(name, options)
            )

        policy = choose("policy", self.policies)
        repair = choose("repair", self.repairs) if repairable(policy) else "none"
        final = policy == FINAL_LAYER
        layers = choose("final layer", self.first_layers) if final else choose("layers", self.layer_sets)
        method = method_of(policy, repair)
        order = choose("order", self.orders) if method.ordered else NO_ORDER
        ranked, screen = (self.rank_images, self.screen) if policy in RANKING else (None, None)
        chance = method.seeded or ranked is not None or (method.ordered and find_order(order).chance)
        seed = choose("seed", self.seeds) if chance else 0
        x = choose("x", self.x)
        x = round(float(x), 2) if isinstance(self.x, XRange) else x
        return TrialSettings(order, layers, x, policy, seed, repair, ranked, screen, self.inverted)

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
        asked = self._enumerated("policy", "repair", "layers", "order", "seed", "x")
        left = [settings for settings in asked if not known(settings)]
        return left[int(rng.integers(len(left)))] if left else None

    @cached_property
    def all(self) -> list[TrialSettings]:
        """Every trial of a space without a range, in the order of the configuration: repair changes
        slowest, then policy, layers, order, seed, and X fastest."""
        return self._enumerated("repair", "policy", "layers", "order", "seed", "x")

    def _enumerated(self, *names: str) -> list[TrialSettings]:
        """Every trial once; the choice that is named first changes slowest."""
        options: dict[str, Any] = {
            "policy": self.policies,
            "repair": self.repairs,
            "layers": self.layer_sets,
            "order": self.orders,
            "seed": self.seeds,
            "x": self.x,
        }
        found: dict[TrialSettings, None] = {}
        for values in itertools.product(*(options[name] for name in names)):
            answers: dict[str, Any] = dict(zip(names, values, strict=True))
            answers["final layer"] = answers["layers"][:1]

            def answer(name: str, options: Options, answers: dict[str, Any] = answers) -> Any:
                return answers[name]

            found[self.settings(answer)] = None
        return list(found)


def _once(values: Any) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


def spelled(layer_set: LayerSet, model: PrunableModel) -> tuple[str, ...]:
    """The one way to write a layer set: equal sets, equal texts."""
    texts = []
    for name, channels in layer_set:
        whole = len(channels) == model.layer(name).channels
        texts.append(name if whole else f"{name}[{_ranges(channels)}]")
    return tuple(texts)


def _ranges(channels: Iterable[int]) -> str:
    runs = []
    for _, run in itertools.groupby(enumerate(channels), key=lambda pair: pair[1] - pair[0]):
        members = [channel for _, channel in run]
        runs.append(f"{members[0]}-{members[-1]}" if len(members) > 1 else str(members[0]))
    return ",".join(runs)
