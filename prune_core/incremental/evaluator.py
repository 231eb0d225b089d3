"""The incremental evaluator: the counts of ``PlainEvaluator``, for a small part of the work.

Activations of a *base* mask are kept (``kept_bases``). A mask that differs from it in few channels is
answered by what those channels change (``propagate``), for the images in which they change anything, and
only where a bound does not already prove that the decision stands (``output_bounds``).

Images whose decision lies within ``GUARD`` of a tie go to the float64 network, as the plain
evaluator sends its own; so both count the same.
"""

from __future__ import annotations

from collections import OrderedDict

import torch

from prune_core.counts import Ask, Counts
from prune_core.data.images import Split
from prune_core.evaluation.evaluator import EVERYTHING
from prune_core.evaluation.plain import PlainEvaluator, check_labels
from prune_core.evaluation.tally import counted, margin_units, mean_margins
from prune_core.incremental.bases import NotFinite, Outcome
from prune_core.incremental.kept_bases import KeptBases, Outcomes
from prune_core.incremental.query import Question
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.model.precision import full_float32

# Relative error of a mean margin of n images: MARGIN_GUARD, and MARGIN_SPREAD / sqrt(n) as errors of
# single images cancel. Seen on a walk through 100 channels of the lab's network: 2.4e-8 (the plain
# evaluator: 2.3e-8) for the mean of 676 images, 6e-7 for single ones.
MARGIN_GUARD = 1.2e-7
MARGIN_SPREAD = 4e-6
REMEMBERED = 8  # outcomes


class IncrementalEvaluator:
    """See the module. Interface and counts are those of ``PlainEvaluator``; the model is only read."""

    @full_float32()
    def __init__(self, model: PrunableModel, split: Split, memory_gb: float = 4.0) -> None:
        """One whole forward pass.

        Args:
            memory_gb: GiB that the process may take, images included; on a GPU also of its memory, at
                most half of what is free there. With less than the network needs, answers take longer and
                stay the same.

        Raises:
            InputError: images and network, or labels and classes, do not fit.
        """
        self.model, self.split = model, split
        classes = model.check_images(split.clean.shape, split.clean.name)
        for images in (split.clean, split.poisoned):
            check_labels(images, classes, model.name)
        self.nets = KeptBases(model, split, memory_gb)
        self._plain: PlainEvaluator | None = None
        self._outcomes: Outcomes = OrderedDict()
        try:
            self.nets.start()
        except NotFinite:
            self._give_up()
            return
        origin = self.nets.origin
        assert origin.margins is not None
        self.badnet_classes = self.nets.badnet_classes
        self.margin_units = margin_units(split, origin.margins.cpu().numpy())
        with torch.inference_mode():
            self.badnet = self._counted(self.nets.nothing, origin, margin=True)

    @full_float32()
    def counts(self, mask: ChannelMask, ask: Ask = EVERYTHING) -> Counts:
        """The counts of the network with ``mask`` pruned; bounds when a limit of ``ask`` is
        certain to be missed."""
        if self._plain is None:
            try:
                with torch.inference_mode():
                    return self._counts(mask, ask)
            except NotFinite:
                self._give_up()
            except BaseException:
                self.nets.forget()
                self._outcomes.clear()
                raise
        assert self._plain is not None
        return self._plain.counts(mask, ask)

    def expect(self, mask: ChannelMask) -> None:
        """Make sure that questions can go on from ``mask``."""
        if self._plain is None and mask not in self._outcomes:
            self.counts(mask, Ask(margin=False))

    def _give_up(self) -> None:
        """From here on, the plain evaluator answers."""
        self._plain = PlainEvaluator(self.model, self.split)
        self.badnet, self.badnet_classes = self._plain.badnet, self._plain.badnet_classes
        self.margin_units = self._plain.margin_units
        self.nets.forget()

    def _counts(self, mask: ChannelMask, ask: Ask) -> Counts:
        if not mask.channels:
            return ask.told(self.badnet)
        bases = {base.mask: base.outcome for base in self.nets.bases}
        known = self._outcomes.get(mask) or bases.get(mask)
        if known is None or (ask.margin and known.margins is None):
            found = Question(self.nets, self.nets.base_for(mask, self._outcomes), mask, ask).answer()
            if isinstance(found, Counts):
                return found
            known = found
        self._outcomes[mask] = known
        self._outcomes.move_to_end(mask)
        while len(self._outcomes) > REMEMBERED:
            self._outcomes.popitem(last=False)
        return ask.told(self._counted(mask, known, ask.margin))

    def _counted(self, mask: ChannelMask, outcome: Outcome, margin: bool) -> Counts:
        cut = self.nets.first_poisoned
        wins = outcome.wins.cpu().numpy()
        attacked = wins[cut:, 0]
        known = self.split.poisoned.true_labels is not None
        return counted(
            self.split,
            int(wins[:cut, 0].sum()),
            attacked,
            attacked & self.nets.agrees.cpu().numpy(),
            wins[cut:, 1] if known else None,
            self._rounded(mask, outcome) if margin else None,
        )

    def _rounded(self, mask: ChannelMask, outcome: Outcome) -> list[float]:
        if outcome.rounded is None:
            assert outcome.margins is not None
            outcome.rounded = mean_margins(
                self.split,
                outcome.margins.cpu().numpy(),
                self.margin_units,
                margin_guard,
                lambda rows: self.nets.exact.reply(self.split.poisoned.keeping(rows), mask).margins,
            )
        return outcome.rounded


def margin_guard(images: int) -> float:
    """How far a mean margin of so many images may be off, relative to the BadNet's."""
    return float(MARGIN_GUARD + MARGIN_SPREAD / images**0.5)
