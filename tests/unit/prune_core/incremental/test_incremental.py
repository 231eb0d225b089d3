"""The incremental evaluator counts what the plain one counts, on any network and mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from networks import NETS, SHAPE, made, random_masks
from torch import nn
from walks import differences_free, largest_error, margin_error, same_walk

from prune_core.counts import Ask
from prune_core.data.form import Preprocessing
from prune_core.data.images import make_split
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.incremental.batches import times_a_block
from prune_core.incremental.dataflow import paths
from prune_core.incremental.evaluator import IncrementalEvaluator, margin_guard
from prune_core.incremental.output_bounds import GUARD
from prune_core.masks import Channel, ChannelMask
from prune_core.rules import RULES


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small run no faster on more, and far slower where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with differences_free():
        yield
    torch.set_num_threads(before)


@settings(
    max_examples=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(
    kind=st.sampled_from(sorted(NETS)),
    seed=st.integers(0, 3),
    walk=st.integers(0, 10**6),
    keep_bias=st.booleans(),
    memory_gb=st.sampled_from((4.0, 0.7503, 0.0)),
)
def test_counts_are_those_of_the_plain_evaluator(
    kind: str, seed: int, walk: int, keep_bias: bool, memory_gb: float
) -> None:
    model, split = made(kind, seed)
    before = {k: v.clone() for k, v in model.graph.state_dict().items()}
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split, memory_gb)
    assert fast._plain is None
    assert fast.badnet == plain.badnet and fast.margin_units == plain.margin_units
    assert (fast.badnet_classes == plain.badnet_classes).all()
    for position, mask in enumerate(random_masks(model, walk, keep_bias)):
        ask = Ask(margin=position % 3 != 1)
        assert fast.counts(mask, ask) == plain.counts(mask, ask), (position, mask)
    after = model.graph.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize("kind", sorted(NETS))
def test_every_kind_of_network(kind: str) -> None:
    model, split = made(kind, 0)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    for keep_bias in (False, True):
        for mask in random_masks(model, 1, keep_bias):
            assert fast.counts(mask) == plain.counts(mask)


def test_masks_that_treat_the_bias_differently_do_not_mix() -> None:
    model, split = made("Residual", 1)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    pairs = zip(random_masks(model, 2, True), random_masks(model, 2, False), strict=True)
    for mask in (m for pair in pairs for m in pair):
        assert fast.counts(mask) == plain.counts(mask)


def test_paths_tell_how_far_a_channel_stays_one() -> None:
    told = {kind: list(paths(made(kind, 0)[0], SHAPE).values()) for kind in NETS}
    assert all("one channel to" in way for ways in told.values() for way in ways)
    assert told["Residual"][0].count("node_") == 4  # ReLU, then three convolutions of two blocks
    assert "whole" in told["Ties"][-1] or "its part of" in told["Ties"][-1]


def test_channels_stay_pieces_where_the_paths_say_so() -> None:
    """The product of the predicate: a linear layer behind a chain is never run whole again."""
    model, split = made("Chain", 0)
    fast = IncrementalEvaluator(model, split)
    calls: list[str] = []
    hooks = [
        module.register_forward_hook(lambda m, a, o: calls.append(type(m).__name__))
        for module in model.graph.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    fast.counts(ChannelMask.of({model.layers[-1].name: [2]}), Ask(margin=False))
    for hook in hooks:
        hook.remove()
    assert calls == []


@pytest.mark.parametrize("policy", sorted({*RULES, "seed"}))
@pytest.mark.parametrize("kind", ["Chain", "Residual", "Ties"])
def test_walks_decide_the_same(policy: str, kind: str) -> None:
    """Refusals that stop early say what whole counts would."""
    model, split = made(kind, 2)
    order = [Channel(la.name, c) for la in reversed(model.layers) for c in range(la.channels)]
    same_walk(model, split, order, policy, 10.0)


def test_counts_after_an_interruption() -> None:
    model, split = made("Chain", 1)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    masks = list(random_masks(model, 3, False))
    for position, mask in enumerate(masks):
        if position == 6:
            run, fast.nets.run = fast.nets.run, interrupt  # type: ignore[method-assign, assignment]
            with pytest.raises(KeyboardInterrupt):
                fast.counts(mask)
            fast.nets.run = run  # type: ignore[method-assign]
        assert fast.counts(mask) == plain.counts(mask)


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_network_that_overflows_is_counted_plainly() -> None:
    model, split = made("Chain", 0)
    split = make_split(replace(split.clean, preprocessing=Preprocessing(1e38)), split.poisoned)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    mask = ChannelMask.of({model.layers[0].name: [1]})
    assert fast.badnet == plain.badnet and fast.counts(mask) == plain.counts(mask)


def test_an_unknown_evaluator_is_refused() -> None:
    model, split = made("Ties", 0)
    with pytest.raises(InputError, match="incremental, plain"):
        make_evaluator(model, split, "exact")


@pytest.mark.parametrize("kind", ["Chain", "Residual", "Fork", "Depthwise"])
def test_errors_stay_far_below_the_guard(kind: str) -> None:
    model, split = made(kind, 0)
    fast = IncrementalEvaluator(model, split)
    mask = ChannelMask()
    every = [Channel(la.name, c) for la in model.layers[1:] for c in range(la.channels)]
    order = np.random.default_rng(0).permutation(len(every))
    for position in order[: len(order) * 2 // 3]:
        mask = mask.adding(every[position])
        fast.counts(mask)
    assert len(fast.nets.bases[-1].mask) >= len(mask) - 1
    assert largest_error(fast) <= GUARD / 5
    assert margin_error(fast) <= margin_guard(len(split.poisoned)) / 2


def test_blocks_of_a_gpu_are_as_large_as_its_free_memory_bears() -> None:
    image = 10 * 2**20  # of all values of a ResNet-18 of full width, about
    assert times_a_block(None, image) == 1  # no GPU
    assert times_a_block(2**40, image) == 16 and times_a_block(2**30, image) == 1
    assert 512 * image * times_a_block(78 * 2**30, image) <= 26 * 2**30
    assert times_a_block(78 * 2**30, image) == 5
