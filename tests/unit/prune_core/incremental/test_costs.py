"""Ways to the same counts: which one is taken, and that the counts are the same."""

from __future__ import annotations

import pytest
from networks import NETS, made, random_masks
from walks import differences_free, same_walk

from prune_core.counts import Ask
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.incremental import costs
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
def test_walks_decide_the_same(kind: str, policy: str) -> None:
    model, split = made(kind, 0)
    order = [Channel(la.name, c) for la in reversed(model.layers[1:]) for c in range(0, la.channels, 2)]
    same_walk(model, split, order, policy, 20)


def test_costs_grow_with_what_lies_behind() -> None:
    model, split = made("Chain", 0)
    nets = IncrementalEvaluator(model, split).nets
    each = [nets.costs.of(ChannelMask(), ChannelMask.of({la.name: [0]})) for la in model.layers]
    assert each == sorted(each, reverse=True)
    everything = ChannelMask.of({la.name: range(la.channels) for la in model.layers})
    assert nets.costs.of(ChannelMask(), everything) >= max(each)
    nothing_kept = IncrementalEvaluator(model, split, 0.0).nets
    assert nothing_kept.costs.of(ChannelMask(), everything) > nothing_kept.costs.whole
    with differences_free():
        assert nothing_kept.costs.of(ChannelMask(), everything) == 0.0


@pytest.mark.parametrize("kind", sorted(NETS))
def test_of_its_own_convolution_a_channel_costs_nothing_where_its_values_are_kept(kind: str) -> None:
    model, split = made(kind, 0)
    nets = IncrementalEvaluator(model, split).nets
    for layer in model.layers[1:]:
        chain = nets.flow.chains.get(layer.name)
        if chain is None or not any(node in nets.kept.nodes for node in chain.nodes):
            continue
        behind = nets.flow.behind([layer.name], nets.output.goal)
        work = sum(nets.costs.work[step.name] for step in behind if layer.name in step.upstream)
        told = nets.costs.of(ChannelMask(), ChannelMask.of({layer.name: [0]}))
        kept = {step.name for step in behind} <= {*nets.kept.nodes, *chain.nodes}
        assert told <= costs.DIFFERENCES * work or not kept, layer.name
