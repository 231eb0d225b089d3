"""What version 0.1 read as another function has a digest of its own, and what it read well keeps its."""

from __future__ import annotations

from typing import Any

import pytest
from onnx import TensorProto, helper

from prune_core.files.onnx_changed import was_read_otherwise


def model(operator: str, opset: int, **attributes: Any):
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 3, 5, 5]) for n in "xy"]
    graph = helper.make_graph([node], "one", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("operator", "opset", "attributes", "otherwise"),
    [
        ("CumSum", 14, {}, True),
        ("IsInf", 20, {}, True),
        ("NonZero", 13, {}, True),
        ("AveragePool", 19, {"kernel_shape": [2, 2], "ceil_mode": 1}, True),
        ("AveragePool", 19, {"kernel_shape": [2, 2], "ceil_mode": 0}, False),
        ("AveragePool", 19, {"kernel_shape": [2, 2]}, False),
        ("Pad", 9, {"pads": [0] * 8, "value": 1.5}, True),
        ("Pad", 9, {"pads": [0] * 8}, False),
        ("Slice", 9, {"starts": [0], "ends": [1]}, True),
        ("Slice", 13, {}, False),
        ("Conv", 17, {}, False),
    ],
)
def test_which(operator: str, opset: int, attributes: dict[str, Any], otherwise: bool) -> None:
    assert was_read_otherwise(model(operator, opset, **attributes)) is otherwise
