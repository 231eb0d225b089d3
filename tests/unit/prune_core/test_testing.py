"""The conformance checks: the built-in orders and policies pass, and each way to be wrong is told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
import torch

from prune_core.greedy import PruneStep
from prune_core.masks import Channel, ChannelMask
from prune_core.orders import ORDERS, KnownOrder
from prune_core.policies.registry import POLICIES, prune
from prune_core.testing.checks import check_order, check_policy
from prune_core.testing.net import images_for, tiny_net

CALLS = iter(range(10**6))


# test_orders holds learned-mask to the same; here it would take minutes.
@pytest.mark.parametrize("name", [n for n in ORDERS if n != "learned-mask"])
def test_built_in_orders_pass(name: str) -> None:
    check_order(ORDERS[name])


@pytest.mark.parametrize("policy", [p for p in POLICIES if p not in ("seed", "prefix")])
def test_built_in_policies_pass(policy: str) -> None:
    check_policy(lambda evaluator, order, x: prune(policy, x, evaluator, order))


def test_the_seed_policy_is_the_authors_and_does_not() -> None:
    with pytest.raises(AssertionError, match="the net is another one"):
        check_policy(lambda evaluator, order, x: prune("seed", x, evaluator, order))


def test_the_prefix_policy_leaps_and_is_tested_on_its_own() -> None:
    with pytest.raises(AssertionError, match="is not the one before with that channel pruned"):
        check_policy(lambda evaluator, order, x: prune("prefix", x, evaluator, order))


def zeros(given, dtype=np.float64):
    return {name: np.zeros(given.model.layer(name).channels, dtype) for name in given.layers}


def kernels(given) -> dict[str, torch.Tensor]:
    return {name: given.model.conv(given.model.layer(name)).weight for name in given.layers}


def wrong_layers(given):
    return {name: scores for name, scores in zeros(given).items() if name != "first"}


def wrong_shape(given):
    return {name: np.zeros(2) for name in given.layers}


def not_finite(given):
    return {name: scores + np.nan for name, scores in zeros(given).items()}


def by_call(given):
    return {n: s + (np.arange(len(s)) if next(CALLS) % 2 else 0) for n, s in zeros(given).items()}


def by_global_generator(given):
    return {n: np.random.random(len(s)) for n, s in zeros(given).items()}


def by_seed(given):
    draw = np.random.default_rng(given.seed)
    return {n: draw.random(len(s)) for n, s in zeros(given).items()}


def weights_changed(given):
    with torch.no_grad():
        kernels(given)["third"][0] += 1
    return zeros(given)


def mode_changed(given):
    given.model.graph.train()
    return zeros(given)


def gradients_left(given):
    kernels(given)["third"].requires_grad_(True)
    return zeros(given)


def hook_left(given):
    given.model.conv(given.model.layer("third")).register_forward_hook(lambda *a: None)
    return zeros(given)


def hook_left_after_an_error(given):
    handle = given.model.conv(given.model.layer("third")).register_forward_hook(lambda *a: None)
    given.model.logits(torch.zeros(2, 2, 6, 6))
    handle.remove()
    return zeros(given)


def images_changed(given):
    given.clean.pixels[0] = 0
    return zeros(given)


def clean_images(given):
    return {n: s + np.arange(len(s)) * given.clean.pixels[0, 0, 0, 0] for n, s in zeros(given).items()}


def poisoned_images(given):
    return {n: s + float(given.attacked().pixels[0, 0, 0, 0]) for n, s in zeros(given).items()}


def true_labels(given):
    given.truly_labelled()
    return zeros(given)


@pytest.mark.parametrize(
    ("function", "declared", "line"),
    [
        ("no function", {}, "expected a function of"),
        (zeros, {"needs": "luck"}, "needs 'luck' is unknown"),
        (zeros, {"scale": "wide"}, "scale 'wide' is unknown"),
        (lambda given: [1, 2], {}, "returned a list"),
        (wrong_layers, {}, "no scores for layer 'first'"),
        (wrong_shape, {}, r"have shape \(2,\); expected \(4,\)"),
        (not_finite, {}, "not all finite"),
        (by_call, {}, "another one at a second call"),
        (by_global_generator, {}, "another one at a second call"),
        (by_seed, {}, "depends on the seed"),
        (weights_changed, {}, "as found: its weights have changed"),
        (mode_changed, {}, "as found: it is in another mode"),
        (gradients_left, {}, "as found: parameters require gradients"),
        (hook_left, {}, "as found: hooks have stayed"),
        (
            hook_left_after_an_error,
            {},
            "when the network fails half-way, does not leave .* hooks have stayed",
        ),
        (images_changed, {}, "read-only"),
        (clean_images, {"needs": "nothing"}, "looks at more than 'nothing'"),
        (poisoned_images, {"needs": "clean images"}, "needs more than 'clean images'"),
        (true_labels, {"needs": "clean and poisoned images"}, "needs the true labels"),
    ],
)
def test_a_wrong_order_is_told(function, declared, line) -> None:
    with pytest.raises((AssertionError, ValueError), match=line):
        check_order(function, **declared)


def test_right_orders_pass() -> None:
    check_order(zeros, needs="nothing")
    check_order(KnownOrder(by_seed, "nothing", chance=True))
    check_order(clean_images, needs="clean images", scale=None)


def honest(evaluator, order, x) -> Iterator[PruneStep]:
    yield from prune("in-order", x, evaluator, order)


def endless(evaluator, order, x):
    while order:
        yield PruneStep(order[0], False, evaluator.badnet, ChannelMask(), evaluator.badnet)


def foreign(evaluator, order, x):
    yield PruneStep(Channel("second", 5), False, evaluator.badnet, ChannelMask(), evaluator.badnet)


def no_steps(evaluator, order, x):
    yield from order


def too_far(evaluator, order, x):
    yield from prune("in-order", 100.0, evaluator, order)


def other_mask(evaluator, order, x):
    for step in honest(evaluator, order, x):
        yield PruneStep(step.channel, step.accepted, step.tried, ChannelMask(), step.now)


def other_counts(evaluator, order, x):
    for step in honest(evaluator, order, x):
        yield PruneStep(step.channel, step.accepted, step.tried, step.mask, evaluator.badnet)


def by_lot(evaluator, order, x):
    yield from honest(evaluator, order[next(CALLS) % 2 :], x)


def steps_of_nothing(evaluator, order, x):
    channel = order[0] if order else Channel("first", 1)
    yield PruneStep(channel, False, evaluator.badnet, ChannelMask(), evaluator.badnet)


def swallowing(evaluator, order, x):
    for channel in order:
        try:
            tried = evaluator.counts(ChannelMask().adding(channel))
        except Exception:
            tried = evaluator.badnet
        yield PruneStep(channel, False, tried, ChannelMask(), evaluator.badnet)


@pytest.mark.parametrize(
    ("walk", "line"),
    [
        (endless, "does not end"),
        (foreign, "not of the order"),
        (no_steps, "yields a Channel"),
        (too_far, "points of clean accuracy are lost; at most X = 0"),
        (other_mask, "mask after"),
        (other_counts, "counts that it gives"),
        (by_lot, "other steps at a second call"),
        (steps_of_nothing, "not of the order"),
        (swallowing, "hides it"),
    ],
)
def test_a_wrong_policy_is_told(walk, line) -> None:
    with pytest.raises(AssertionError, match=line):
        check_policy(walk)


def test_the_images_hold_an_attack_that_can_be_weakened() -> None:
    from prune_core.evaluation.plain import PlainEvaluator

    evaluator = PlainEvaluator(tiny_net(), images_for("poisoned images with true labels"))
    assert evaluator.badnet.attack_success > 0.5 and evaluator.badnet.clean_accuracy > 0.7
    order = [Channel("first", k) for k in range(5)]
    steps = list(partial(prune, "margin", 30.0)(evaluator, order))
    assert any(s.accepted for s in steps) and any(not s.accepted for s in steps)
