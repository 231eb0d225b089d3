"""Ways to the same counts: which one is taken, and that the counts are the same."""

from __future__ import annotations

import pytest
from networks import NETS, made, random_masks
from walks import differences_free, same_walk

from prune_core.counts import Ask
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.incremental.evaluator import IncrementalEvaluator
from prune_core.masks import Channel, ChannelMask


@pytest.mark.parametrize("kind", sorted(NETS))
def test_the_cheaper_way_counts_the_same(kind: str) -> None:
    model, split = made(kind, 1)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    for keep_bias in (False, True):
        for position, mask in enumerate(random_masks(model, 2, keep_bias)):
            ask = Ask(margin=position % 3 != 1)
            assert fast.counts(mask, ask) == plain.counts(mask, ask), (position, mask)


@pytest.mark.parametrize("kind", ["Chain", "Residual"])
@pytest.mark.parametrize("policy", ["best-first", "seed", "prefix"])
def test_walks_decide_the_same_from_a_base_further_away(kind: str, policy: str) -> None:
    model, split = made(kind, 0)
    order = [Channel(la.name, c) for la in reversed(model.layers[1:]) for c in range(0, la.channels, 2)]
    same_walk(model, split, order, policy, 20)


def test_a_mask_becomes_a_base_when_that_has_come_to_pay() -> None:
    model, split = made("Chain", 0)
    first, last = model.layers[1], model.layers[-1]
    fast = IncrementalEvaluator(model, split)
    mask = ChannelMask.of({first.name: [0]})
    fast.counts(mask)
    # Behind the same layer there is as much work from the old base as from a new one.
    fast.counts(mask.adding(Channel(first.name, 1)))
    assert [base.mask for base in fast.nets.bases] == [ChannelMask()]
    # Behind a later one there is less, again and again.
    for channel in range(last.channels):
        fast.counts(mask.adding(Channel(last.name, channel)))
    assert mask in [base.mask for base in fast.nets.bases]


def test_costs_grow_with_what_lies_behind() -> None:
    model, split = made("Chain", 0)
    nets = IncrementalEvaluator(model, split).nets
    each = [nets.costs.of(ChannelMask(), ChannelMask.of({la.name: [0]})) for la in model.layers]
    assert each == sorted(each, reverse=True)
    everything = ChannelMask.of({la.name: range(la.channels) for la in model.layers})
    assert nets.costs.of(ChannelMask(), everything) > nets.costs.whole
    assert nets.costs.answer(ChannelMask(), everything) == nets.costs.whole
    with differences_free():
        assert nets.costs.of(ChannelMask(), everything) == 0.0
