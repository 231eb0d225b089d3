"""What an evaluator is: something that counts what a mask does to a network on a split."""

from __future__ import annotations

from typing import Protocol

from prune_core.counts import Ask, Counts
from prune_core.data.images import Split
from prune_core.masks import ChannelMask

EVERYTHING = Ask()


class Evaluator(Protocol):
    """Counts what a split's images become under a mask. ``badnet`` is the empty mask's result."""

    split: Split

    @property
    def badnet(self) -> Counts: ...

    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        """``Ask.told`` of the counts of the network with ``mask`` pruned."""
        ...

    def expect(self, mask: ChannelMask) -> None:
        """A hint: questions about masks near this one come next."""
        ...
