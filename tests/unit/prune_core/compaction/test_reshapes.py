"""Reshapes whose target changes when channels go, as exporters write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from prune_core.compaction.compact import compact

RNG = np.random.default_rng(0)


def model(target: list[int], **fields: Any) -> onnx.ModelProto:
    """Channel 1 of the convolution is zero."""
    kernel, weight = RNG.normal(size=(4, 3, 3, 3)), RNG.normal(size=(4, 5))
    kernel[1] = 0
    arrays = {"k": kernel.astype(np.float32), "w": weight.astype(np.float32), "to": np.array(target)}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Reshape", ["p", "to"], ["f"], **fields),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.mark.parametrize(
    "target, fields", [([-1, 4], {"allowzero": 1}), ([-1, 4], {}), ([0, 4], {}), ([0, -1], {})]
)
def test_the_smaller_network_takes_any_number_of_images(target: list[int], fields: dict[str, int]) -> None:
    proto = model(target, **fields)
    small = compact(proto, (3, 6, 6))
    assert small.channels_removed == 1
    for count in (1, 3):
        images = RNG.normal(size=(count, 3, 6, 6)).astype(np.float32)
        one, other = (
            ort.InferenceSession(p.SerializeToString()).run(None, {"x": images})[0]
            for p in (proto, small.proto)
        )
        np.testing.assert_allclose(one, other, atol=1e-5)
