"""Networks in which some channels can be taken out and others cannot, and which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass
class Net:
    """Collects nodes with random weights; rows of a convolution that ``dead`` names are zero."""

    dead: dict[str, dict[int, float]]  # layer -> channel -> what its bias is
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    tensors: list[onnx.TensorProto] = field(default_factory=list)
    dice: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def weight(self, *shape: int, low: float = -1.0) -> str:
        return self.hold(self.dice.uniform(low, 1, shape).astype(np.float32))

    def hold(self, array: np.ndarray) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def add(self, op: str, *inputs: str, name: str = "", **fields: Any) -> str:
        out = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [out], name or out, **fields))
        return out

    def conv(self, name: str, x: str, given: int, made: int, size: int = 3, **fields: Any) -> str:
        kernel = self.dice.uniform(-1, 1, (made, given, size, size)).astype(np.float32)
        bias = self.dice.uniform(-1, 1, made).astype(np.float32)
        for channel, value in self.dead.get(name, {}).items():
            kernel[channel], bias[channel] = 0, value
        return self.add("Conv", x, self.hold(kernel), self.hold(bias), name=name, **fields)

    def norm(self, x: str, size: int) -> str:
        parts = [self.weight(size), self.weight(size), self.weight(size), self.weight(size, low=0.5)]
        return self.add("BatchNormalization", x, *parts)

    def model(self, last: str, classes: int, shape: Sequence[int] = (2, 9, 9)) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", *shape])],
            [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", classes])],
            self.tensors,
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


def chain(net: Net) -> onnx.ModelProto:
    """conv a (4) - batch norm - relu - max pool - conv b (5, unpadded) - flatten - dense."""
    x = net.add("Relu", net.norm(net.conv("a", "images", 2, 4), 4))
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("Flatten", net.add("LeakyRelu", net.conv("b", x, 4, 5, 2)))
    return net.model(net.add("Gemm", x, net.weight(20, 3), net.weight(3)), 3)


def padded(net: Net) -> onnx.ModelProto:
    x = net.conv("b", net.add("Relu", net.conv("a", "images", 2, 4)), 4, 5, pads=[1, 1, 1, 1])
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    return net.model(net.add("Gemm", x, net.weight(3, 5), transB=1), 3)


def residual(net: Net) -> onnx.ModelProto:
    """a goes two ways: through b and c, and past them; both are added."""
    a = net.add("Relu", net.conv("a", "images", 2, 4))
    b = net.add("Relu", net.conv("b", a, 4, 6, pads=[1, 1, 1, 1]))
    both = net.add("Add", net.conv("c", b, 6, 4, 1), a, name="sum")
    x = net.add("Flatten", net.add("GlobalMaxPool", net.add("Relu", both)))
    return net.model(net.add("Gemm", x, net.weight(4, 3)), 3)


def joined(net: Net) -> onnx.ModelProto:
    """a and b side by side, then a depthwise convolution and one that mixes."""
    a, b = net.conv("a", "images", 2, 3), net.conv("b", "images", 2, 4)
    x = net.add("Concat", a, b, axis=1)
    x = net.conv("deep", x, 1, 14, 2, group=7)
    x = net.add("ReduceMean", net.conv("mix", x, 14, 3, 1), axes=[2, 3], keepdims=0)
    return net.model(net.add("Gemm", x, net.weight(3, 3)), 3)


def channels_last(net: Net) -> onnx.ModelProto:
    """As tf2onnx writes it: transposes, a Reshape with a fixed size, MatMul and Add."""
    x = net.add("Transpose", "images", perm=[0, 3, 1, 2])
    x = net.add("Transpose", net.conv("a", x, 2, 4), perm=[0, 2, 3, 1])
    x = net.add("Add", net.add("Relu", x), net.weight(4))
    x = net.add("Reshape", x, net.hold(np.array([-1, 49 * 4])))
    x = net.add("MatMul", x, net.weight(196, 6))
    x = net.add("Relu", net.add("Add", x, net.weight(6)))
    return net.model(net.add("MatMul", x, net.weight(6, 3)), 3, (9, 9, 2))


def viewed(net: Net) -> onnx.ModelProto:
    """As the older torch exporter writes x.view(x.size(0), -1)."""
    x = net.add(
        "AveragePool", net.conv("a", "images", 2, 4), kernel_shape=[2, 2], pads=[0, 0, 1, 1], strides=[2, 2]
    )
    size = net.add("Gather", net.add("Shape", x), net.hold(np.array(0)), axis=0)
    target = net.add(
        "Concat", net.add("Unsqueeze", size, net.hold(np.array([0]))), net.hold(np.array([-1])), axis=0
    )
    x = net.add("Reshape", x, target)
    return net.model(net.add("Gemm", x, net.weight(64, 3), net.weight(1, 3), alpha=0.5, beta=2.0), 3)


def gated(net: Net) -> onnx.ModelProto:
    """Squeeze and excite: each channel times a number that the others make."""
    x = net.add("Relu", net.conv("a", "images", 2, 4))
    gate = net.conv("g", net.add("GlobalAveragePool", x), 4, 4, 1)
    x = net.add("Mul", x, net.add("Sigmoid", gate))
    x = net.add("Flatten", net.add("GlobalAveragePool", net.conv("b", x, 4, 3, 1)))
    return net.model(net.add("Gemm", x, net.weight(3, 3)), 3)


def foreign(net: Net) -> onnx.ModelProto:
    """An operator that nothing here knows by its channels."""
    x = net.add("LRN", net.conv("a", "images", 2, 4), size=3)
    x = net.add("Flatten", net.add("GlobalAveragePool", net.conv("b", x, 4, 5)))
    return net.model(net.add("Gemm", x, net.weight(5, 3)), 3)


USE, PAD = "in use", "pads its input with zeros"


CASES: dict[str, tuple[Any, dict[str, dict[int, float]], dict[str, list[int]], dict[str, str]]] = {
    # net, dead channels with their biases, channels that go, why others stay
    "nothing to do": (chain, {}, {}, {}),
    "chain": (chain, {"a": {0: 0.0, 2: 0.5}, "b": {4: -0.7}}, {"a": [0, 2], "b": [4]}, {}),
    "a whole layer": (chain, {"b": dict.fromkeys(range(5), 0.3)}, {"a": [1, 2, 3], "b": [1, 2, 3, 4]},
                      {"b": "keep at least one"}),
    "zero meets padding": (padded, {"a": {1: 0.0}}, {"a": [1]}, {}),
    "a negative constant behind a relu": (padded, {"a": {1: -1.0}}, {"a": [1]}, {}),
    "a constant meets padding": (padded, {"a": {1: 0.5, 2: 0.0}}, {"a": [2]}, {"a": PAD}),
    "inside a branch": (residual, {"b": {0: 0.0, 5: -0.1}}, {"b": [0, 5]}, {}),
    "one addend": (residual, {"c": {1: 0.5}}, {}, {"c": USE}),
    "the other addend": (residual, {"a": {1: 0.0}}, {}, {"a": USE}),
    "both addends": (residual, {"a": {1: 0.0, 2: 0.0}, "c": {1: 0.5}}, {"a": [1], "c": [1]},
                     {"a": USE}),
    "both, but one pads": (residual, {"a": {1: 0.9}, "c": {1: 0.5}}, {}, {"a": PAD, "c": PAD}),
    "side by side": (joined, {"a": {2: 0.1}, "b": {0: 0.4, 3: 0.0}},
                     {"a": [2], "b": [0, 3], "deep": [4, 5, 6, 7, 12, 13]}, {}),
    "half of a depthwise pair": (joined, {"deep": {3: 0.5}}, {}, {"deep": "mix uses it"}),
    "a depthwise pair": (joined, {"deep": {2: 0.5, 3: 0.1}}, {"a": [1], "deep": [2, 3]}, {}),
    "channels last": (channels_last, {"a": {0: 0.4, 3: 0.0}}, {"a": [0, 3]}, {}),
    "viewed": (viewed, {"a": {0: 0.4, 3: 0.0}}, {"a": [0, 3]}, {}),
    "a gate goes with its channel": (gated, {"a": {1: 0.0}}, {"a": [1], "g": [1]}, {}),
    "a constant through an open gate": (gated, {"a": {1: 0.5}}, {}, {"a": "v5 needs it"}),
    "an unknown operator": (foreign, {"a": {1: 0.0}, "b": {0: 0.2}}, {"b": [0]},
                            {"a": "what LRN does to channels is not known"}),
}  # fmt: skip
