"""In which order channels are tried: one small function per score.

An order is a permutation of the channels of a layer set, the lowest score first, equal scores by
index. ``NAME`` goes layer by layer, in the order in which the set lists them; ``across:NAME``
compares channels of all its layers with each other.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace

import numpy as np

from prune_core.errors import InputError
from prune_core.masks import Channel
from prune_core.orders.given import OrderInput, Score, Scores
from prune_core.threads import fixed_threads

__all__ = [
    "ACROSS",
    "ORDERS",
    "KnownOrder",
    "OrderInput",
    "Scores",
    "by_chance",
    "channel_order",
    "find_order",
]

ACROSS = "across:"


@dataclass(frozen=True)
class KnownOrder:
    """A score and what it means.

    ``chance``: it depends on the seed. ``scale``: how channels of different layers compare:
    "common" as they are, "layer" by their distance from their layer's mean in its standard
    deviations (as CLP does it), None not at all. ``needs``: in words, beyond the net.
    """

    score: Score
    needs: str
    scale: str | None = "common"
    chance: bool = False


def _late(module: str, name: str) -> Score:
    """A score of this folder; its module, and torch with it, is imported when it is first asked for."""

    def score(given: OrderInput) -> Scores:
        found: Score = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        return found(given)

    score.__name__ = name
    return score


ORDERS: dict[str, KnownOrder] = {
    "index": KnownOrder(_late("plain", "index"), "nothing", None),
    "reverse-index": KnownOrder(_late("plain", "reverse_index"), "nothing", None),
    "random": KnownOrder(_late("plain", "random"), "nothing", chance=True),
    "l1": KnownOrder(_late("plain", "l1"), "nothing", "layer"),
    "clp": KnownOrder(_late("plain", "clp"), "nothing", "layer"),
    "activation": KnownOrder(_late("activations", "activation"), "clean images", "layer"),
    "activation-gap": KnownOrder(_late("activations", "activation_gap"), "clean and poisoned images"),
    "tac": KnownOrder(_late("activations", "tac"), "pairs of clean and poisoned images", "layer"),
    "bnp": KnownOrder(_late("activations", "bnp"), "clean and poisoned images", "layer"),
    "ablation": KnownOrder(_late("removals", "ablation"), "clean and poisoned images"),
    "taylor": KnownOrder(_late("gradients", "taylor"), "poisoned images with true labels"),
    "attack-clean-ratio": KnownOrder(
        _late("gradients", "attack_clean_ratio"), "poisoned images with true labels"
    ),
    "shapley": KnownOrder(_late("removals", "shapley"), "clean and poisoned images", chance=True),
    "learned-mask": KnownOrder(
        _late("learned_mask", "learned_mask"), "clean and poisoned images", chance=True
    ),
}


def find_order(name: str) -> KnownOrder:
    """By ``NAME`` or ``across:NAME``. Raises InputError for one that is not there."""
    plain = name.removeprefix(ACROSS)
    if plain not in ORDERS:
        raise InputError(f"order {name!r} is unknown; expected one of {', '.join(ORDERS)}")
    if name != plain and ORDERS[plain].scale is None:
        raise InputError(
            f"order {name!r}: {plain} does not compare channels of different layers; "
            f"write {plain!r}, which goes layer by layer"
        )
    return ORDERS[plain]


def by_chance(name: str) -> bool:
    """Whether the order depends on the seed; False for one that is not known (any more)."""
    known = ORDERS.get(name.removeprefix(ACROSS))
    return known is not None and known.chance


def channel_order(name: str, given: OrderInput) -> list[Channel]:
    """The channels of the layer set by order ``name``. Raises InputError for an unknown order, and
    for one that needs what is not there. The number of torch's threads does not change it."""
    known = find_order(name)
    with fixed_threads():
        scores = known.score(replace(given, order=name))
    if not name.startswith(ACROSS):
        return [
            Channel(layer, k)
            for layer, channels in given.layer_set
            for k in sorted(channels, key=lambda k: (scores[layer][k], k))
        ]
    ranked = []
    for position, (layer, channels) in enumerate(given.layer_set):
        values = _comparable(scores[layer], known.scale)
        ranked += [(values[k], position, k, layer) for k in channels]
    return [Channel(layer, k) for _, _, k, layer in sorted(ranked)]


def _comparable(scores: np.ndarray, scale: str | None) -> np.ndarray:
    if scale == "common":
        return scores
    spread = float(scores.std())
    return (scores - scores.mean()) / (spread if spread > 0 else 1.0)
