"""What policies that make nets are given, and what they give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from prune_core.data.images import Split
from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel


@dataclass(frozen=True, eq=False)
class Given:
    """The BadNet, the validation split and a seed. Never the test split."""

    model: PrunableModel
    valid: Split
    seed: int = 0


@dataclass(frozen=True, eq=False)
class MadeNet:
    """The BadNet with changed weights and pruned channels; ``note`` says which it is."""

    mask: ChannelMask
    weights: Weights
    note: str


# (pieces done, of how many, what is being done)
Tell = Callable[[int, int, str], None]
