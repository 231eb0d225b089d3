"""In which order channels are tried: one small function per score.

An order is a permutation of the channels of a layer set, the lowest score first, equal scores by
index. ``NAME`` goes layer by layer, in the order in which the set lists them; ``across:NAME``
compares channels of all its layers with each other.
"""

from __future__ import annotations

import importlib
from dataclasses import replace as replaced
from typing import Literal

import numpy as np

from prune_core.errors import InputError
from prune_core.masks import Channel
from prune_core.model.layer_sets import LayerSet
from prune_core.orders.given import OrderInput, Score, Scores
from prune_core.orders.known import KnownOrder
from prune_core.orders.registered import MOST_NEEDED, check_known, checked_scores, order_plugins
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
    "known_order",
    "order_names",
    "order_version",
    "register_order",
]

ACROSS = "across:"


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


OTHERS = order_plugins(ORDERS)


def order_names() -> tuple[str, ...]:
    """Built in, registered, offered by packages."""
    return (*ORDERS, *OTHERS.names())


def find_order(name: str) -> KnownOrder:
    """By ``NAME`` or ``across:NAME``. Raises InputError for one that is not there."""
    plain = name.removeprefix(ACROSS)
    known = ORDERS.get(plain)
    if known is None:
        other = OTHERS.find(plain)
        if other is None:
            raise InputError(OTHERS.unknown(name))
        known = other.value
    if name != plain and known.scale is None:
        raise InputError(
            f"order {name!r}: {plain} does not compare channels of different layers; "
            f"write {plain!r}, which goes layer by layer"
        )
    return known


def known_order(name: str) -> KnownOrder | None:
    """The same, and None for one that is not known (any more), as in records of other machines."""
    try:
        return find_order(name)
    except InputError:
        return None


def order_version(name: str) -> str | None:
    """Of an order that is not built in; None of one that is, or is not known."""
    plain = name.removeprefix(ACROSS)
    if plain in ORDERS or known_order(plain) is None:
        return None
    other = OTHERS.find(plain)
    return None if other is None else other.version


def register_order(
    name: str,
    function: Score,
    *,
    needs: str = MOST_NEEDED,
    scale: Literal["common", "layer"] | None = "common",
    chance: bool = False,
    version: str | None = None,
    replace: bool = False,
) -> None:
    """Make an order of your own known to this process, as ``NAME`` and ``across:NAME``, in calls and
    configurations alike. The workers of a sweep that this process starts get it too; commands and other
    processes do not: a package offers it to those by an entry point ``goodnet.orders``, whose value is
    the function, or a ``KnownOrder`` that says more of it.

    Args:
        name: small letters, digits, '.', '_' and '-'; one that exists is refused.
        function: from an ``OrderInput`` to scores, ``{layer: (channels,) array of floats}`` for every
            layer of ``given.layers`` and all its channels; the lowest is pruned first, of equal ones the
            channel of the lower index. It must leave the network as found: see
            ``goodnet.testing.check_order``.
        needs: what it looks at beyond the network, in words: "nothing", "clean images", "clean and
            poisoned images", "pairs of clean and poisoned images" or "poisoned images with true labels".
            It goes into what is said of a GoodNet's assumptions; the default is the most there is.
        scale: how ``across:NAME`` compares channels of different layers: "common" takes scores as they
            are, "layer" their distance from their layer's mean in its standard deviations; with None
            there is no ``across:NAME``.
        chance: whether it depends on ``given.seed``.
        version: a text that changes whenever results do; it is a part of the key of every trial with
            this order. Left out, it is a digest of the file that ``function`` is written in.
        replace: take the place of one that was registered before, as in a notebook's cell run again.

    Raises:
        InputError: a name that is taken or is no name, words that are not known, no function, or no
            version where none can be worked out.
    """
    known = KnownOrder(function, needs, scale, chance, version)
    check_known(f"order {name!r}", known)
    OTHERS.register(name, known, function, version, replace)


def by_chance(name: str) -> bool:
    """Whether the order depends on the seed; False for one that is not known (any more)."""
    known = known_order(name.removeprefix(ACROSS))
    return known is not None and known.chance


def channel_order(name: str, given: OrderInput) -> list[Channel]:
    """The channels of the layer set by order ``name``. Raises InputError for an unknown order, and
    for one that needs what is not there. The number of torch's threads does not change it."""
    from prune_core.model.precision import full_float32  # torch: whoever names an order does not wait for it

    known = find_order(name)
    with fixed_threads(), full_float32():
        scores = known.score(replaced(given, order=name))
    if name.removeprefix(ACROSS) not in ORDERS:
        scores = checked_scores(name, scores, given)
    return rank(scores, given.layer_set, known.scale if name.startswith(ACROSS) else None)


def rank(scores: Scores, layer_set: LayerSet, scale: str | None = None) -> list[Channel]:
    """The channels of a layer set, the lowest score first, equal scores by index: layer by layer, or
    with a ``scale`` (as of ``KnownOrder``) all layers together."""
    if scale is None:
        return [
            Channel(layer, k)
            for layer, channels in layer_set
            for k in sorted(channels, key=lambda k: (scores[layer][k], k))
        ]
    ranked = []
    for position, (layer, channels) in enumerate(layer_set):
        values = _comparable(scores[layer], scale)
        ranked += [(values[k], position, k, layer) for k in channels]
    return [Channel(layer, k) for _, _, k, layer in sorted(ranked)]


def _comparable(scores: np.ndarray, scale: str | None) -> np.ndarray:
    if scale == "common":
        return scores
    spread = float(scores.std())
    return (scores - scores.mean()) / (spread if spread > 0 else 1.0)
