"""From a configuration to the list of trials, without repeats."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from prune_core.errors import InputError
from prune_core.methods import method_of, repairable
from prune_core.model.layer_sets import LayerSet, resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import find_order
from sweeps.config.schema import SweepConfig
from sweeps.config.search import XRange
from sweeps.settings import NO_ORDER, TrialSettings


def trials_of(sweep: SweepConfig, model: PrunableModel) -> list[TrialSettings]:
    """Every combination once, X being a list. Raises InputError for layers that the model does not
    have.

    Policy ``final-layer`` walks one layer, so of each set only the first one listed counts, and a
    trial with X = 100 is added: the report's row where the whole layer is gone. Policies that walk
    no order have one trial for all orders.
    """
    assert not isinstance(sweep.x_thresholds, XRange)  # ``search_space`` draws from it
    sets = [resolve_layer_set(spec, model) for spec in sweep.layer_sets]
    found: dict[TrialSettings, None] = {}
    for repair, policy, layer_set, order, seed, x in itertools.product(
        sweep.repair, sweep.policies, sets, sweep.orders, sweep.seeds, sweep.x_thresholds
    ):
        if repair != "none" and not repairable(policy):
            repair = "none"
        method = method_of(policy, repair)
        final = policy == "final-layer"
        layers = spelled(layer_set[:1] if final else layer_set, model)
        seed = seed if method.seeded or (method.ordered and find_order(order).chance) else 0
        order = order if method.ordered else NO_ORDER
        found[TrialSettings(order, layers, x, policy, seed, repair)] = None
    for settings in [s for s in found if s.policy == "final-layer" and s.repair == "none"]:
        found[replace(settings, x=100.0)] = None
    trials = list(found)
    if sweep.search == "random" and sweep.samples is not None and sweep.samples < len(trials):
        drawn = np.random.default_rng(sweep.seeds[0]).permutation(len(trials))[: sweep.samples]
        trials = [trials[i] for i in sorted(drawn)]
    return trials


def only_trial(sweep: SweepConfig, model: PrunableModel) -> TrialSettings:
    """The one trial of a configuration whose lists have one entry each. Raises InputError."""
    for field in ("orders", "layer_sets", "x_thresholds", "policies", "repair", "seeds"):
        entries = getattr(sweep, field)
        if isinstance(entries, XRange):
            raise InputError(
                "goodnet prune does one trial, but sweep.x_thresholds is a range; choose one with "
                "--set sweep.x_thresholds=4"
            )
        if len(entries) != 1:
            shown = ", ".join(map(str, entries[:4]))
            raise InputError(
                f"goodnet prune does one trial, but sweep.{field} has {len(entries)} entries "
                f"({shown}); choose one with --set sweep.{field}=[...]"
            )
    return trials_of(sweep, model)[0]


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
