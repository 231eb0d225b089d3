"""Smaller networks: the same result, and exactly the channels gone that can go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from compaction_nets import (
    CASES,
    Net,
    chain,
)
from networks import random_mask
from onnx import TensorProto, helper, numpy_helper

from prune_core.compaction.compact import compact
from prune_core.data.images import make_split, read_images
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.cost import multiply_adds, parameters
from prune_core.export.zeroed import pruned_onnx
from prune_core.masks import ChannelMask
from prune_core.model.model import build_model, load_model


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (output,) = session.run(None, {"images": images})
    return output


@pytest.mark.parametrize("case", CASES)
def test_what_goes_and_what_stays(case: str) -> None:
    make, dead, removed, stays = CASES[case]
    before = make(Net(dead))
    shape = [d.dim_value for d in before.graph.input[0].type.tensor_type.shape.dim[1:]]
    bytes_before = before.SerializeToString(deterministic=True)
    small = compact(before, shape)
    images = np.random.default_rng(1).normal(size=(7, *shape)).astype(np.float32)
    expected = run(before, images)
    np.testing.assert_allclose(run(small.proto, images), expected, rtol=1e-5, atol=1e-5)
    assert small.removed == removed
    assert {layer: set(why) for layer, why in small.held_back.items()}.keys() == stays.keys()
    for layer, words in stays.items():
        assert all(words in reason for reason in small.held_back[layer].values())
    assert before.SerializeToString(deterministic=True) == bytes_before
    assert (parameters(small.proto) < parameters(before)) == bool(removed)
    # A second time there is nothing more to find.
    assert compact(small.proto, shape).removed == {}


def test_a_constant_is_folded_to_the_digit() -> None:
    """Channel 0 is 2 everywhere: weights 3 and bias 1 of the dense layer make 7 of it."""
    k = numpy_helper.from_array(np.array([0, 1], np.float32).reshape(2, 1, 1, 1), "k")
    b = numpy_helper.from_array(np.array([2, 0], np.float32), "b")
    w = numpy_helper.from_array(np.array([[3, 5], [1, 1]], np.float32), "w")
    c = numpy_helper.from_array(np.array([1, 0], np.float32), "c")
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["v"], "conv"),
        helper.make_node("GlobalAveragePool", ["v"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "c"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [k, b, w, c],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    small = compact(model, (1, 2, 2)).proto
    held = {t.name: numpy_helper.to_array(t) for t in small.graph.initializer}
    gemm = small.graph.node[-1]
    np.testing.assert_array_equal(held[gemm.input[1]], [[1, 1]])
    np.testing.assert_array_equal(held[gemm.input[2]], [7, 10])
    # By hand: 5 numbers of the dense layer and the convolution stay; before there were 4 + 4 + 2.
    assert (parameters(model), parameters(small)) == (10, 6)
    assert (multiply_adds(model, (1, 2, 2)), multiply_adds(small, (1, 2, 2))) == (8 + 4, 4 + 2)


def test_images_that_the_network_does_not_take() -> None:
    with pytest.raises(InputError, match="does not accept images"):
        compact(chain(Net({})), (2, 9))


# Channels that go of those pruned. Nothing is padded in DeepID, so all go. In a ResNet those of
# the residual stream stay unless all addends lose them, and kept biases meet padding.
REAL = {
    ("csaw/bd_weights.h5", False): (80, 80),
    ("csaw/bd_weights.h5", True): (80, 80),
    ("gtsrb/badnet_resnet20.onnx", False): (154, 313),
    ("gtsrb/badnet_resnet20.onnx", True): (40, 313),
}


@pytest.mark.acceptance
@pytest.mark.parametrize("step", [25, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("badnet", "keep_bias"), REAL)
def test_forty_per_cent_of_real_networks(shared_data: Path, badnet: str, keep_bias: bool, step: int) -> None:
    """On every ``step``-th image: the same classes, margins within 1e-4 of the largest."""
    model = load_model(shared_data / badnet)
    folder = (shared_data / badnet).parent
    clean, poisoned = (
        (images := read_images(folder / f"{kind}_test.h5")).keeping(np.arange(0, len(images), step))
        for kind in ("cl", "bd")
    )
    mask = random_mask(model, 0.4, keep_bias)
    pruned = pruned_onnx(model, mask)
    small = compact(pruned, clean.shape)
    assert (small.channels_removed, len(mask)) == REAL[badnet, keep_bias]
    assert set(small.held_back) <= set(model.by_name)
    split, nothing = make_split(clean, poisoned), ChannelMask()
    nets = [PlainEvaluator(build_model(p, "", "net"), split) for p in (pruned, small.proto)]
    for images in (split.clean, split.poisoned):
        one, other = (net.reply(images, nothing) for net in nets)
        np.testing.assert_array_equal(one.classes, other.classes)
        scale = np.abs(one.margins).max()
        np.testing.assert_allclose(one.margins, other.margins, atol=1e-4 * scale)
