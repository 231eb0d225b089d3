"""What a score may look at, and what it says when something is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from prune_core.data.images import LabeledImages, Split
from prune_core.data.pairs import find_pairs, known_truth
from prune_core.errors import InputError
from prune_core.model.layer_sets import LayerSet

if TYPE_CHECKING:
    from prune_core.model.model import PrunableModel

# {layer: (channels,) float64}, the channel to prune first has the lowest; for the layers of a set.
Scores = dict[str, np.ndarray]
Score = Callable[["OrderInput"], Scores]


@dataclass(frozen=True, eq=False)
class OrderInput:
    """The net, validation images, a seed. Never the test split.

    Attributes:
        model: the net to score, with channels pruned already where it is scored again.
        clean: clean validation images.
        poisoned: poisoned validation images, of all triggers; the target of each is its label. None: not to
            be had.
        layer_set: the layers and channels in question, in walking order.
        seed: of those orders that draw lots.
        limit: images of a kind that a score may look at, where all of them would take long. They
            are taken evenly over the file.
    """

    model: PrunableModel
    clean: LabeledImages
    poisoned: LabeledImages | None
    layer_set: LayerSet
    seed: int = 0
    limit: int = 512
    order: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, model: PrunableModel, split: Split, layer_set: LayerSet, seed: int = 0) -> OrderInput:
        return cls(model, split.clean, split.poisoned, layer_set, seed)

    @property
    def layers(self) -> list[str]:
        return [name for name, _ in self.layer_set]

    def attacked(self) -> LabeledImages:
        """The poisoned images. Raises InputError without them."""
        if self.poisoned is None:
            raise InputError(
                f"order {self.order!r} needs poisoned validation images; give data.poisoned_valid "
                "or data.trigger"
            )
        return self.poisoned

    @property
    def target(self) -> int:
        """The target that all poisoned images share. Raises InputError where they do not."""
        return Split(self.clean, self.attacked()).target

    @cached_property
    def _pairs(self) -> np.ndarray | None:
        return find_pairs(Split(self.clean, self.attacked()))

    def pairs(self) -> tuple[LabeledImages, LabeledImages]:
        """Clean images and the same with the trigger on, row by row. Raises InputError when it is
        not known which clean image a poisoned one was made from."""
        self.attacked()
        if self._pairs is None:
            raise InputError(
                f"order {self.order!r} needs pairs: row i of the poisoned validation images must be "
                "row i of the clean ones (all, or those not of the target class) with the trigger "
                "on; give such files, or the trigger picture under data.trigger"
            )
        return self.clean.keeping(self._pairs), self.attacked()

    def truly_labelled(self) -> LabeledImages:
        """The poisoned images labelled with what they show. Raises InputError when not known."""
        poisoned = self.attacked()
        truth = known_truth(Split(self.clean, poisoned), self._pairs)
        if truth is None:
            raise InputError(
                f"order {self.order!r} needs the true labels of the poisoned validation images; give "
                "them as field 'true_label' of the file, or clean images row by row with them"
            )
        return replace(poisoned, labels=truth, true_labels=truth)

    def some(self, images: LabeledImages) -> LabeledImages:
        """At most ``limit`` of the images, evenly over the file."""
        if len(images) <= self.limit:
            return images
        return images.keeping(np.linspace(0, len(images) - 1, self.limit).round().astype(int))
