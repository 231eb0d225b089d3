"""The policy ``seed``: the seed author's targeted code, to the letter, for comparison with his figures.

Only this policy may overshoot X, and only this one keeps the bias of a pruned channel.
"""

from __future__ import annotations

from collections.abc import Sequence

from prune_core.counts import Ask, exact_points
from prune_core.evaluation.evaluator import Evaluator
from prune_core.greedy import PruneStep, Steps
from prune_core.masks import Channel, ChannelMask
from prune_core.rules import fewest_correct

PADS = {2.0: 0.0, 4.0: 0.14, 10.0: 0.3}  # percentage points, by X


def prune_as_the_author(evaluator: Evaluator, order: Sequence[Channel], x: float) -> Steps:
    """A candidate is tried in a fresh BadNet with only its own layer's accepted channels; it is
    accepted when attack success there is below 100 % and clean accuracy within ``x`` points. Only the
    kernel is zeroed. Channel 0 of every layer after the first is skipped. The walk ends when the
    accumulated net falls below original - X + pad. So an accepted set can break the bound. With several
    triggers, which the author has not, all their images count alike."""
    badnet = evaluator.badnet
    mask, now = ChannelMask(keep_bias=True), badnet
    pad = exact_points(PADS.get(float(x), 0.0))
    ask = Ask(
        margin=False,
        clean_correct=fewest_correct(x, badnet),
        attacked_agreeing=badnet.in_all.poisoned_total,
    )
    for channel in order:
        if channel.index == 0 and channel.layer != order[0].layer:
            continue
        tried = evaluator.counts(mask.only(channel.layer).adding(channel), ask)
        fell = tried.clean_accuracy_fell(since=badnet)
        attack = tried.in_all
        accepted = attack.attacked_agreeing < attack.poisoned_total and fell <= exact_points(x)
        if accepted:
            mask = mask.adding(channel)
            now = evaluator.counts(mask, ask.complete)
        yield PruneStep(channel, accepted, tried, mask, now)
        if now.clean_accuracy_fell(since=badnet) > exact_points(x) - pad:
            return
