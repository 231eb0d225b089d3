"""What is known of an order: its score, and what the score means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prune_core.orders.given import Score


@dataclass(frozen=True)
class KnownOrder:
    """A score and what it means.

    Attributes:
        score: from an ``OrderInput`` to ``{layer: (channels,) scores}``; the lowest is pruned first.
        needs: in words, beyond the network: one of ``plugins.NEEDS``.
        scale: how channels of different layers compare in ``across:NAME``: "common" as they are,
            "layer" by their distance from their layer's mean in its standard deviations (as CLP does
            it), None not at all: then there is no ``across:NAME``.
        chance: it depends on the seed.
        version: of a plugin; a text that changes whenever its results do.
    """

    score: Score
    needs: str
    scale: Literal["common", "layer"] | None = "common"
    chance: bool = False
    version: str | None = None
