"""Which channels carry the trigger: what it does to each channel's activation, and which were pruned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.orders.activations import activation_gap
from prune_core.orders.given import OrderInput

LAYERS = 12  # that are shown, those with the most pruned channels
NAMED = 10  # channels named in the table
IMAGES = 256  # of each kind are looked at

Json = dict[str, Any]


def carriers(model: PrunableModel, valid: Split, mask: ChannelMask, walked: Sequence[str] = ()) -> Json:
    """The channels of the layers that were walked or pruned.

    Returns:
        ``layers``: each with ``name``, ``channels``, ``pruned`` (indices) and ``gaps`` (one a channel:
        the activation gap of ``orders.activation_gap``, poisoned less clean, in standard deviations; None
        where it could not be had); ``named``: the pruned channels with the largest gaps; ``left_out``:
        layers that are not shown; ``images`` that were looked at, of each kind.
    """
    pruned = mask.by_layer()
    known = model.by_name
    names = [n for n in known if n in pruned or n in {w.partition("[")[0] for w in walked}]
    shown = sorted(names, key=lambda n: -len(pruned.get(n, ())))[:LAYERS]
    shown = [n for n in names if n in shown]  # in the network's order
    gaps, images = _gaps(model, valid, shown)
    layers: list[Json] = [
        {
            "name": name,
            "channels": known[name].channels,
            "pruned": list(pruned.get(name, ())),
            "gaps": None if gaps is None else [round(float(g), 4) for g in gaps[name]],
        }
        for name in shown
    ]
    rows = [
        {"layer": layer["name"], "channel": c, "gap": layer["gaps"][c], "rank": _rank(layer["gaps"], c)}
        for layer in layers
        if layer["gaps"] is not None
        for c in layer["pruned"]
    ]
    rows.sort(key=lambda row: (-row["gap"], row["layer"], row["channel"]))
    return {
        "layers": layers,
        "named": rows[:NAMED],
        "pruned": len(mask),
        "left_out": len(names) - len(shown),
        "images": images,
    }


def _gaps(
    model: PrunableModel, valid: Split, names: Sequence[str]
) -> tuple[dict[str, np.ndarray] | None, Json | None]:
    if not names:
        return None, None
    layers = [(name, list(range(model.layer(name).channels))) for name in names]
    given = OrderInput(model, valid.clean, valid.poisoned, layers, limit=IMAGES)
    clean, poisoned = given.some(given.clean), given.some(given.attacked())
    given = OrderInput(model, clean, poisoned, given.layer_set)
    try:
        scores = activation_gap(given)
    except InputError:
        return None, None
    found = {name: -scores[name] for name in names}  # largest first is how orders have it
    if not all(np.isfinite(gap).all() for gap in found.values()):
        return None, None
    return found, {"clean": len(clean), "poisoned": len(poisoned)}


def _rank(gaps: Sequence[float], channel: int) -> int:
    """1 for the channel of its layer that the trigger wakes most."""
    return 1 + sum(gap > gaps[channel] for gap in gaps)
