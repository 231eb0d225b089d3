"""A bias or scale in nodes of its own behind a convolution is the convolution's: a pruned channel is
zero whatever the exporter did."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hand_nets import random_split
from onnx import TensorProto, helper, numpy_helper

from prune_core.compaction.compact import compact
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.zeroed import pruned_onnx
from prune_core.files.onnx_normalize import normalized
from prune_core.incremental.evaluator import IncrementalEvaluator
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, build_model
from prune_core.model.parameters import parameters_of

BIAS = np.array([2.0, 0.5, 1.0, -0.2])
SCALE = np.array([1.5, -0.7, 0.3, 2.0])
Nodes = list[onnx.NodeProto]
Given = dict[str, np.ndarray]


def node(op: str, inputs: str, output: str, **fields: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **fields)


def inside(given: Given) -> Nodes:
    given["b"] = BIAS
    return [helper.make_node("Conv", ["images", "k", "b"], ["y"], "first")]


def conv(output: str = "c") -> onnx.NodeProto:
    return helper.make_node("Conv", ["images", "k"], [output], "first")


def added(given: Given) -> Nodes:
    given["b"] = BIAS.reshape(1, 4, 1, 1)
    return [conv(), node("Add", "c b", "y")]


def added_in_front(given: Given) -> Nodes:
    given["b"] = BIAS.reshape(4, 1, 1)
    return [conv(), node("Add", "b c", "y")]


def subtracted(given: Given) -> Nodes:
    given["b"] = -BIAS.reshape(4, 1, 1)
    return [conv(), node("Sub", "c b", "y")]


def made_by_a_node(given: Given) -> Nodes:
    given["flat"], given["to"] = BIAS, np.array([1, -1, 1, 1])
    return [conv(), node("Reshape", "flat to", "b"), node("Add", "c b", "y")]


def in_a_constant_node(given: Given) -> Nodes:
    value = numpy_helper.from_array(BIAS.reshape(1, 4, 1, 1).astype(np.float32))
    return [conv(), helper.make_node("Constant", [], ["b"], value=value), node("Add", "c b", "y")]


def behind_an_identity(given: Given) -> Nodes:
    given["b"] = BIAS.reshape(1, 4, 1, 1)
    return [conv(), node("Identity", "c", "i"), node("Identity", "b", "same"), node("Add", "i same", "y")]


def channels_last(given: Given) -> Nodes:
    given["b"] = BIAS
    return [
        conv(),
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        node("Add", "t b", "a"),
        node("Transpose", "a", "y", perm=[0, 3, 1, 2]),
    ]


def half_inside(given: Given) -> Nodes:
    given["b"], given["b2"] = BIAS / 4, (BIAS * 0.75).reshape(1, 4, 1, 1)
    return [helper.make_node("Conv", ["images", "k", "b"], ["c"], "first"), node("Add", "c b2", "y")]


def scaled_inside(given: Given) -> Nodes:
    given |= {"b": BIAS, "s": SCALE, "m": 0 * BIAS, "v": 0 * BIAS + 1}
    return [conv(), node("BatchNormalization", "c s b m v", "y", epsilon=0.0)]


def scaled(given: Given) -> Nodes:
    given["s"], given["b"] = SCALE.reshape(1, 4, 1, 1), BIAS.reshape(4, 1, 1)
    return [conv(), node("Mul", "c s", "m"), node("Add", "m b", "y")]


def scaled_channels_last(given: Given) -> Nodes:
    given["s"], given["b"] = SCALE, BIAS
    return [
        conv(),
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        node("Mul", "t s", "m"),
        node("Add", "m b", "a"),
        node("Transpose", "a", "y", perm=[0, 3, 1, 2]),
    ]


def added_behind_a_batch_norm(given: Given) -> Nodes:
    given |= {"h": BIAS / 2, "s": SCALE, "mean": 0 * BIAS, "v": 0 * BIAS + 1, "h2": BIAS.reshape(4, 1, 1) / 2}
    return [conv(), node("BatchNormalization", "c s h mean v", "m", epsilon=0.0), node("Add", "m h2", "y")]


def added_before_a_batch_norm(given: Given) -> Nodes:
    given |= {"b": (BIAS / SCALE).reshape(4, 1, 1), "s": SCALE, "z": 0 * BIAS, "v": 0 * BIAS + 1}
    return [conv(), node("Add", "c b", "m"), node("BatchNormalization", "m s z z v", "y", epsilon=0.0)]


def net(first: Callable[[Given], Nodes]) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    given: Given = {
        "k": rng.normal(size=(4, 3, 3, 3)) / 5,
        "k2": rng.normal(size=(5, 4, 3, 3)) / 5,
        "w": rng.normal(size=(5, 3)),
        "last": rng.normal(size=3) / 9,
    }
    nodes = first(given)
    nodes += [
        node("Relu", "y", "r"),
        helper.make_node("Conv", ["r", "k2"], ["c2"], "second", pads=[1, 1, 1, 1]),
        node("Relu", "c2", "r2"),
        node("GlobalAveragePool", "r2", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w last", "logits"),
    ]
    arrays = {k: v if v.dtype == np.int64 else v.astype(np.float32) for k, v in given.items()}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 10, 10])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(proto: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString())
    logits: np.ndarray = session.run(None, {"images": pixels})[0]
    return logits


def logits(model: PrunableModel, mask: ChannelMask, pixels: np.ndarray) -> np.ndarray:
    with model.pruned(mask):
        return model.logits(torch.from_numpy(pixels)).numpy()


PIXELS = np.random.default_rng(1).normal(size=(6, 3, 10, 10)).astype(np.float32)
MASKS = [
    ChannelMask.of({"first": [0, 2]}),
    ChannelMask.of({"first": [1], "second": [3]}),
    ChannelMask.of({"first": [0, 3]}, keep_bias=True),
]
OUTSIDE = (
    [(f, inside) for f in (added, added_in_front, subtracted, made_by_a_node, in_a_constant_node)]
    + [(f, inside) for f in (behind_an_identity, channels_last, half_inside)]
    + [(f, scaled_inside) for f in (scaled, scaled_channels_last)]
    + [(f, scaled_inside) for f in (added_behind_a_batch_norm, added_before_a_batch_norm)]
)


@pytest.mark.parametrize("outside, twin", OUTSIDE, ids=[f.__name__ for f, _ in OUTSIDE])
@pytest.mark.parametrize("mask", MASKS, ids=["one layer", "two layers", "biases kept"])
def test_a_mask_makes_the_same_network_wherever_the_bias_stands(
    outside: Callable[[Given], Nodes], twin: Callable[[Given], Nodes], mask: ChannelMask
) -> None:
    model, other = (build_model(net(f), f.__name__, "net") for f in (outside, twin))
    empty = ChannelMask()
    np.testing.assert_allclose(logits(model, empty, PIXELS), run(net(twin), PIXELS), atol=1e-5)
    wanted = logits(other, mask, PIXELS)
    np.testing.assert_allclose(logits(model, mask, PIXELS), wanted, atol=1e-5)
    written = pruned_onnx(model, mask)
    np.testing.assert_allclose(run(written, PIXELS), wanted, atol=1e-5)
    small = compact(written, (3, 10, 10))
    np.testing.assert_allclose(run(small.proto, PIXELS), wanted, atol=1e-5)
    if not mask.keep_bias:
        assert small.removed["first"] == mask.by_layer()["first"]
    split = random_split((3, 10, 10), 3)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    assert plain.counts(mask) == fast.counts(mask)
    assert replace_margin(plain.counts(mask)) == replace_margin(PlainEvaluator(other, split).counts(mask))


def replace_margin(counts: object) -> tuple[object, ...]:
    return tuple(v for k, v in vars(counts).items() if k != "margin")


def test_a_number_that_all_channels_share_is_no_bias() -> None:
    """As in a hard sigmoid that an exporter took apart."""

    def shifted(given: Given) -> Nodes:
        given["three"] = np.array(3.0)
        return [conv(), node("Add", "c three", "y")]

    model, mask = build_model(net(shifted), "d", "net"), ChannelMask.of({"first": [0]})
    proto = net(shifted)
    kernel = numpy_helper.to_array(proto.graph.initializer[0]).copy()
    kernel[0] = 0
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "k"))
    np.testing.assert_allclose(logits(model, mask, PIXELS), run(proto, PIXELS), atol=1e-5)
    np.testing.assert_allclose(run(pruned_onnx(model, mask), PIXELS), run(proto, PIXELS), atol=1e-5)


def test_an_addition_that_others_see_before_it_stays_outside() -> None:
    def seen(given: Given) -> Nodes:
        given["b"] = BIAS.reshape(1, 4, 1, 1)
        return [conv(), node("Add", "c b", "a"), node("Add", "a c", "y")]

    model, mask = build_model(net(seen), "d", "net"), ChannelMask.of({"first": [0]})
    np.testing.assert_allclose(logits(model, ChannelMask(), PIXELS), run(net(seen), PIXELS), atol=1e-5)
    np.testing.assert_allclose(run(pruned_onnx(model, mask), PIXELS), logits(model, mask, PIXELS), atol=1e-5)


def test_a_bias_that_stands_outside_can_be_trained_under_its_own_name() -> None:
    model = build_model(net(added), "d", "net")
    (bias,) = [p for p in parameters_of(model) if p.node == model.layers[0].node and p.role == "bias"]
    assert bias.name == "b"
    changed = model.with_weights({"b": bias.value() + 1})
    proto = net(added)
    tensor = next(t for t in proto.graph.initializer if t.name == "b")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(1), "b"))
    np.testing.assert_allclose(logits(changed, ChannelMask(), PIXELS), run(proto, PIXELS), atol=1e-5)


def test_what_was_counted_before_the_bias_moved_in_is_not_taken_for_this_network() -> None:
    """Version 0.1 left it outside: the same file and mask were another network, under the file's digest."""
    moved, plain = build_model(net(added), "file", "net"), build_model(net(inside), "file", "net")
    assert plain.digest == plain.badnet_digest == moved.badnet_digest == "file"
    assert moved.digest != "file"


def test_a_constant_that_does_not_fill_its_shape_is_named() -> None:
    proto = net(added)
    kernel = next(t for t in proto.graph.initializer if t.name == "k")
    kernel.dims[0] += 1
    with pytest.raises(InputError, match="bad.onnx: constant 'k' is damaged"):
        normalized(proto, "bad.onnx")
