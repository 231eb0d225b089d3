"""What is known of a net that others are compared with."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from prune_core.masks import ChannelMask, channels_apart


class NotFinite(ArithmeticError):
    """Logits overflow; bounds and differences mean nothing there."""


@dataclass
class Outcome:
    """What a net does with every image, clean ones first.

    Attributes:
        wins: (N, k) bool, whether image i gets its label; second column: its true label.
        margins: (poisoned images,) float64, or None when not asked for.
        rounded: their mean for each trigger, in its whole ``margin_unit``, once it is known.
    """

    wins: torch.Tensor
    margins: torch.Tensor | None
    rounded: list[float] | None = None


@dataclass
class Base:
    """A mask whose activations are kept, its outcome, and where each image is anchored."""

    mask: ChannelMask
    outcome: Outcome
    anchor: torch.Tensor  # (N, d)
    radius: torch.Tensor  # (N, k)
    slack: torch.Tensor  # (N,) of the radius, how much the base's own distance leaves


def apart(a: ChannelMask, b: ChannelMask) -> int:
    """In how many channels two masks differ."""
    return len(channels_apart(a, b))


def layers_apart(a: ChannelMask, b: ChannelMask) -> set[str]:
    return {c.layer for c in channels_apart(a, b)}


def check_finite(margin: torch.Tensor) -> None:
    if not torch.isfinite(margin).all():
        raise NotFinite
