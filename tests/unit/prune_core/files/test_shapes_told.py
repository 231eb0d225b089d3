"""What a graph says of the shapes of its own values, as constants."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prune_core.files.onnx_normalize import normalized
from prune_core.files.onnx_shapes import free_of_the_count


def model(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Shape", ["x"], ["shape"]), *nodes],
        "told",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


RESIZED = model(
    helper.make_node("Slice", ["shape", "zero", "two"], ["front"]),
    helper.make_node("Gather", ["shape", "three"], ["width"]),
    helper.make_node("Mul", ["width", "half"], ["less"]),
    helper.make_node("Unsqueeze", ["less", "zero"], ["end"]),
    helper.make_node("Concat", ["front", "five", "end"], ["sizes"], axis=0),
    helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear"),
    zero=np.array([0]),
    two=np.array([2]),
    three=np.array(3),
    half=np.array(2),
    five=np.array([5]),
)


def test_what_does_not_depend_on_the_number_of_images_is_told_apart() -> None:
    same, for_one = free_of_the_count(RESIZED)
    assert same["less"] == 16
    assert same["less"].shape == ()
    assert for_one["front"].tolist() == [1, 3]
    assert for_one["sizes"].tolist() == [1, 3, 5, 16]


def test_what_is_told_becomes_constants_with_as_many_axes_as_it_had() -> None:
    made = normalized(RESIZED, "net")
    assert [node.op_type for node in made.graph.node] == ["Resize"]
    held = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    assert held[made.graph.node[0].input[3]].tolist() == [1, 3, 5, 16]
    scalar = model(
        helper.make_node("Gather", ["shape", "three"], ["width"]),
        helper.make_node("Mul", ["width", "half"], ["less"]),
        helper.make_node("Cast", ["less"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["x", "float"], ["y"]),
        three=np.array(3),
        half=np.array(2),
    )
    made = normalized(scalar, "net")
    assert [list(t.dims) for t in made.graph.initializer] == [[]]


def test_where_nothing_asks_for_shapes_nothing_is_told() -> None:
    plain = model(helper.make_node("Relu", ["x"], ["y"]))
    del plain.graph.node[0]
    assert free_of_the_count(plain) == ({}, {})
