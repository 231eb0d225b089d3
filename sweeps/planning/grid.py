"""From a configuration to the list of trials, without repeats."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from prune_core import ALGORITHM_VERSION
from prune_core.errors import InputError
from prune_core.methods import Method, method_of, repairable
from prune_core.model.layer_sets import LayerSet, resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import ACROSS, ORDERS, find_order
from sweeps.config.schema import SweepConfig
from sweeps.config.search import XRange

NO_ORDER = "none"  # stands for the order where none is walked


@dataclass(frozen=True)
class TrialSettings:
    """All that tells one trial of a sweep from another.

    ``layers``: layer set in walking order, each ``name`` or ``name[ranges]``; ``x``: points.
    ``seed`` is 0 where nothing depends on it; ``repair``: what is done after pruning.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid")

    order: str
    layers: tuple[str, ...]
    x: float
    policy: str
    seed: int = 0
    repair: str = "none"

    def to_json(self) -> dict[str, Any]:
        """Without ``repair`` where there is none, so that trials keep the keys that they had."""
        fields = {**asdict(self), "layers": list(self.layers)}
        if self.repair == "none":
            del fields["repair"]
        return fields

    @property
    def method(self) -> Method:
        """What is done to the BadNet, and what has to be known for it."""
        known = ORDERS.get(self.order.removeprefix(ACROSS))
        return method_of(self.policy, self.repair, known.needs if known is not None else None)

    @property
    def procedure(self) -> str:
        """Policy and repair, as people read them."""
        return self.policy if self.repair == "none" else f"{self.policy}, then {self.repair}"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrialSettings:
        """Inverse of ``to_json``. Raises ValueError when ``value`` has not that form."""
        return _FORM.validate_json(json.dumps(value))

    def __str__(self) -> str:
        known = ORDERS.get(self.order.removeprefix(ACROSS))
        chance = self.method.seeded or (known is not None and known.chance)
        seed = f", seed {self.seed}" if chance else ""
        order = "" if self.order == NO_ORDER else f", {self.order}"
        return f"{self.procedure}{order}{seed}, {'+'.join(self.layers)}, X = {self.x:g}"


_FORM = TypeAdapter(TrialSettings)


def trial_key(settings: TrialSettings, badnet: str, valid: str, test: str) -> str:
    """What a trial is: a digest of settings, BadNet, data (digests) and the algorithm's version."""
    parts = [settings.to_json(), badnet, valid, test, ALGORITHM_VERSION]
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]


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
