"""Which channels the frontier prunes: those in all of its states are the suspects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prune_core.masks import ChannelMask


def pruned_in(masks: Iterable[ChannelMask]) -> dict[str, dict[int, int]]:
    """``{layer: {channel: in how many masks it is pruned}}``, layers and channels in order; a channel that
    none prunes is left out."""
    found: dict[str, Counter[int]] = {}
    for mask in masks:
        for channel in mask:
            found.setdefault(channel.layer, Counter())[channel.index] += 1
    return {layer: dict(sorted(found[layer].items())) for layer in sorted(found)}


def most_pruned(counts: Mapping[str, Mapping[int, int]], most: int = 20) -> list[tuple[str, int, int]]:
    """(layer, channel, masks) of the channels that are pruned in most masks."""
    rows = [(layer, index, n) for layer, found in counts.items() for index, n in found.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))[:most]
