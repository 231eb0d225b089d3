"""From a number for every channel to the nets along a threshold on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.repair.nets import MadeNet


def pruned_below(
    values: Mapping[str, np.ndarray], layer_set: LayerSet, thresholds: Sequence[float], name: str
) -> Iterator[MadeNet]:
    """A net for each of the ``thresholds`` (ascending): channels of the layer set whose value, by layer
    and channel, is at or under it are pruned. Thresholds that add no channel are passed over."""
    last = ChannelMask()
    for threshold in thresholds:
        mask = ChannelMask.of(
            {layer: [c for c in channels if values[layer][c] <= threshold] for layer, channels in layer_set}
        )
        if len(mask) > len(last):
            yield MadeNet(mask, {}, f"{name}, threshold {threshold:g}")
        last = mask
