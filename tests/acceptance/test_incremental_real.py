"""The incremental evaluator on the real networks, against the plain one and against float64."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import random_masks
from onnx import helper
from walks import differences_free, largest_error, margin_error, same_walk

from prune_core.counts import Ask
from prune_core.data.images import Split, make_split, read_images
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.incremental.evaluator import IncrementalEvaluator, margin_guard
from prune_core.incremental.output_bounds import GUARD
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import PrunableModel, build_model, load_model


@pytest.fixture(autouse=True, scope="module")
def by_differences() -> Iterator[None]:
    with differences_free():
        yield


def subset(folder: Path, count: int) -> Split:
    clean, poisoned = (read_images(folder / f"{name}_valid.h5") for name in ("cl", "bd"))
    rows = np.arange(count)
    return make_split(clean.keeping(rows), poisoned.keeping(rows))


@pytest.mark.acceptance
@pytest.mark.parametrize(("policy", "x"), [("margin", 4), ("attack-success", 10), ("seed", 10)])
def test_walks_through_the_lab_network(shared_data: Path, policy: str, x: float) -> None:
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    split = subset(shared_data / "csaw", 70)
    picks = {"conv_4": range(0, 80, 10), "conv_3": range(1, 60, 7), "conv_2": range(2, 40, 6)}
    order = [Channel(layer, c) for layer, channels in picks.items() for c in channels]
    fast = same_walk(model, split, order, policy, x)
    assert largest_error(fast) <= GUARD / 5


@pytest.mark.acceptance
def test_errors_stay_far_below_the_guard_on_a_long_walk(shared_data: Path) -> None:
    """A hundred accepted channels, one after another, on the lab's network."""
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    fast = IncrementalEvaluator(model, subset(shared_data / "csaw", 64))
    mask = ChannelMask(keep_bias=True)
    for layer, count in (("conv_4", 45), ("conv_3", 40), ("conv_2", 15)):
        for channel in range(count):
            mask = mask.adding(Channel(layer, channel))
            fast.counts(mask, Ask(margin=False))
    assert len(fast.nets.bases[-1].mask) == 99
    assert largest_error(fast) <= GUARD / 5
    assert margin_error(fast) <= margin_guard(64) / 2


@pytest.mark.acceptance
@pytest.mark.parametrize("memory_gb", [4.0, 0.78])
def test_walk_through_the_traffic_sign_network(shared_data: Path, memory_gb: float) -> None:
    model = load_model(shared_data / "gtsrb" / "badnet_resnet20.onnx")
    split = subset(shared_data / "gtsrb", 30)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split, memory_gb)
    assert fast.badnet == plain.badnet
    for keep_bias in (False, True):
        mask = ChannelMask(keep_bias=keep_bias)
        for layer in [*model.layers[-1::-6], model.layers[0]]:
            mask = mask.adding(Channel(layer.name, 3))
            candidate = mask.adding(Channel(layer.name, 5))
            assert fast.counts(mask) == plain.counts(mask)
            assert fast.counts(candidate) == plain.counts(candidate)


@pytest.mark.acceptance
def test_an_export_with_channels_last(shared_data: Path) -> None:
    """The lab's network as tf2onnx writes it: pixels and activations channels last, transposes
    around every convolution and pool. It counts what the original counts."""
    original = load_model(shared_data / "csaw" / "bd_weights.h5")
    model = channels_last(original)
    assert model.channels_last and [la.channels for la in model.layers] == [20, 40, 60, 80]
    split = subset(shared_data / "csaw", 60)
    plain, fast = PlainEvaluator(original, split), IncrementalEvaluator(model, split)
    assert fast._plain is None and fast.badnet == plain.badnet
    names = dict(zip((la.name for la in model.layers), (la.name for la in original.layers), strict=True))
    for mask in random_masks(model, 1, False):
        renamed = ChannelMask.of({names[la]: ids for la, ids in mask.by_layer().items()})
        assert fast.counts(mask, Ask(margin=False)) == plain.counts(renamed, Ask(margin=False))


def channels_last(model: PrunableModel) -> PrunableModel:
    """``model`` with every value of four axes stored channels last."""
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    graph = proto.graph
    nodes = []
    for node in graph.node:
        if node.op_type not in ("Conv", "MaxPool", "Flatten", "Reshape"):
            nodes.append(node)
            continue
        source, made = node.input[0], node.output[0]
        nodes.append(helper.make_node("Transpose", [source], [f"{made}_in"], perm=[0, 3, 1, 2]))
        node.input[0] = f"{made}_in"
        nodes.append(node)
        if node.op_type in ("Conv", "MaxPool"):
            node.output[0] = f"{made}_out"
            nodes.append(helper.make_node("Transpose", [f"{made}_out"], [made], perm=[0, 2, 3, 1]))
    del graph.node[:]
    graph.node.extend(nodes)
    shape = graph.input[0].type.tensor_type.shape.dim
    channels, height, width = (shape[axis].dim_value for axis in (1, 2, 3))
    for axis, size in ((1, height), (2, width), (3, channels)):
        shape[axis].dim_value = size
    return build_model(proto, "channels-last", "channels-last")


@pytest.mark.acceptance
@pytest.mark.slow
def test_a_trial_on_all_images_of_the_lab_network(shared_data: Path) -> None:
    """Every other channel, as the plain evaluator takes a second for each."""
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    split = whole(shared_data / "csaw")
    order = [Channel(la, c) for la in ("conv_4", "conv_3", "conv_2") for c in range(model.layer(la).channels)]
    same_walk(model, split, order[::2], "margin", 10)


@pytest.mark.acceptance
@pytest.mark.slow
def test_masks_on_all_images_of_the_traffic_sign_network(shared_data: Path) -> None:
    model = load_model(shared_data / "gtsrb" / "badnet_resnet20.onnx")
    split = whole(shared_data / "gtsrb")
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    assert fast.badnet == plain.badnet
    for mask in few(random_masks(model, 3, False), 8):
        assert fast.counts(mask) == plain.counts(mask)


def few(masks: Iterator[ChannelMask], count: int) -> Iterator[ChannelMask]:
    return (mask for mask, _ in zip(masks, range(count), strict=False))


def whole(folder: Path) -> Split:
    return make_split(*(read_images(folder / f"{name}_valid.h5") for name in ("cl", "bd")))
