"""What pruning a channel would do to a net, estimated for all channels at once.

A gate of 1 behind every channel multiplies it; the slope of an image's margin in a gate is, to first order,
what the margin falls by when the channel goes (Molchanov et al. 2017, arXiv 1611.06440). So one forward and
one backward pass over some images stand for a question about each channel. Estimates only choose whom a
policy asks about; what is asked is answered in whole counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.evaluation.numerics import target_margin
from prune_core.greedy import ATTACK_WEIGHT, LEAST_COST
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.model.precision import full_float32
from prune_core.orders.passes import Tail
from prune_core.threads import fixed_threads

IMAGES = 128  # of each kind, always the same ones
BATCH = 32  # activations of so many images stand in memory for the backward pass
# An image counts as won by a sigmoid of its margin, this wide as a share of the mean margin: most channels
# alone turn no image, and still differ in how near they bring it.
WIDTH = 0.1


class Screen:
    """Estimates for the channels of an order, on a part of a split's images. The model is only read."""

    def __init__(self, model: PrunableModel, split: Split, count: int, order: Sequence[Channel]) -> None:
        """The part of the net before the first layer of ``order`` is computed here, once. ``count``: how many
        channels a policy is to ask about at a time."""
        self.count, self.order = count, tuple(order)
        named = {channel.layer for channel in order}
        self.layers = {la.name: la.channels for la in model.layers if la.name in named}
        self.place = {
            channel: i
            for i, channel in enumerate(Channel(n, k) for n in self.layers for k in range(self.layers[n]))
        }
        split = subset(split, IMAGES, 0) or split
        self.triggers = split.rows_by_trigger
        with fixed_threads(), full_float32():
            self.clean = Tail(model, list(self.layers), split.clean, BATCH)
            self.poisoned = Tail(model, list(self.layers), split.poisoned, BATCH)
        badnet = self._slopes(self.poisoned, ChannelMask()).margins
        self.units = [float(badnet[rows].mean().abs()) or 1.0 for rows in self.triggers]

    def ranked(self, mask: ChannelMask) -> list[Channel]:
        """The channels that the net with ``mask`` still has, the most promising first; equal ones as the
        order has them."""
        worth = self.worths(mask)
        left = [channel for channel in self.order if channel not in mask.channels]
        return sorted(left, key=lambda channel: -worth[channel])

    def worths(self, mask: ChannelMask) -> dict[Channel, float]:
        """``Walk.worth`` as estimated of each channel of the order, in the net with ``mask``; of one without
        gain the gain, at most 0."""
        clean, poisoned = self._slopes(self.clean, mask), self._slopes(self.poisoned, mask)
        lost = _won_less(clean, slice(None), float(clean.margins.abs().mean()))
        gains = torch.zeros(len(self.place), dtype=torch.float64)
        for rows, unit in zip(self.triggers, self.units, strict=True):
            margin = poisoned.falls[rows].mean(dim=0) / unit
            gains += (margin + ATTACK_WEIGHT * _won_less(poisoned, rows, unit)) / len(self.triggers)
        worth = torch.where(gains > 0, gains / (lost.clamp_min(0) + LEAST_COST), gains).tolist()
        return {channel: worth[self.place[channel]] for channel in self.order}

    @fixed_threads()
    @full_float32()
    def _slopes(self, tail: Tail, mask: ChannelMask) -> _Slopes:
        alive = {name: torch.ones(channels) for name, channels in self.layers.items()}
        for channel in mask.channels:
            if channel.layer in alive:
                alive[channel.layer][channel.index] = 0
        margins, falls = [], []
        for batch, labels in enumerate(tail.labels):
            gates = {
                name: gate.to(labels.device).repeat(len(labels), 1).requires_grad_()
                for name, gate in alive.items()
            }
            with torch.enable_grad():
                margin = target_margin(tail.logits(gates, batch), labels)
                slopes = torch.autograd.grad(margin.sum(), list(gates.values()))
            margins.append(margin.detach().double().cpu())
            falls.append(torch.cat(slopes, dim=1).double().cpu())
        return _Slopes(torch.cat(margins), torch.cat(falls))


@dataclass(frozen=True)
class _Slopes:
    """(n,) margins of the images' labels, in logits; (n, channels) what each falls by without a channel."""

    margins: torch.Tensor
    falls: torch.Tensor


def _won_less(side: _Slopes, rows: slice | object, unit: float) -> torch.Tensor:
    """(channels,) by which fraction of the images fewer are won without each channel."""
    margins, falls = side.margins[rows][:, None], side.falls[rows]  # type: ignore[index]
    width = WIDTH * unit or 1.0
    return (torch.sigmoid(margins / width) - torch.sigmoid((margins - falls) / width)).mean(dim=0)
