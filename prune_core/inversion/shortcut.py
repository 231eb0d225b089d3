"""A copy of a network that a found trigger leads astray no more: what a shortcut is compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prune_core.data.images import LabeledImages
from prune_core.data.patterns import stamped
from prune_core.inversion.found import FoundTrigger
from prune_core.inversion.searches import Searches
from prune_core.masks import ChannelMask
from prune_core.orders import OrderInput, channel_order

GONE = 0.2  # success of the trigger, a fraction, from which its shortcut counts as gone
MOST = 0.3  # of the channels


@dataclass(frozen=True)
class Copy:
    """``mask``: the fewest channels, by the order ``across:activation-gap``, without which the trigger is
    gone. ``kept``: the fraction of clean images that get the class that they got before."""

    mask: ChannelMask
    kept: float
    success: float

    def to_json(self) -> dict[str, Any]:
        return {"channels_pruned": len(self.mask.channels), "clean_kept": self.kept, "success": self.success}


def without_shortcut(searches: Searches, trigger: FoundTrigger) -> Copy | None:
    """The copy; None where ``MOST`` of the channels are not enough."""
    net, clean = searches.net, searches.images
    others = clean.keeping(clean.labels != trigger.target)
    attacked = stamped(trigger, others, trigger.target, int(trigger.target) + 1, "trigger")
    layers = [(layer.name, list(range(layer.channels))) for layer in net.layers]
    ranked = channel_order("across:activation-gap", OrderInput(net, clean, attacked, layers))
    before = _classes(searches, clean)

    def tried(count: int) -> Copy:
        mask = ChannelMask(frozenset(ranked[:count]))
        with net.pruned(mask):
            kept = float((_classes(searches, clean) == before).mean())
            success = float((_classes(searches, attacked) == trigger.target).mean())
        return Copy(mask, kept, success)

    low, high = 0, 1
    most = max(1, int(MOST * len(ranked)))
    while (copy := tried(min(high, most))).success > GONE:
        if high >= most:
            return None
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        closer = tried(middle)
        if closer.success > GONE:
            low = middle
        else:
            high, copy = middle, closer
    return copy


def _classes(searches: Searches, images: LabeledImages) -> np.ndarray:
    said = []
    for start in range(0, len(images), 128):
        pixels = torch.from_numpy(images.floats(start, min(start + 128, len(images))))
        said.append(searches.net.logits(pixels.to(searches.net.device)).argmax(1).cpu().numpy())
    return np.concatenate(said)
