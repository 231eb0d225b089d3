"""Constants of an ONNX graph: those that stand in it, and those that nodes make of others."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from prune_core.errors import InputError

# Nodes of these on constants make a constant, no larger than a few of its inputs together.
FOLDED = frozenset((
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Cast", "Concat", "Slice",
    "Gather", "Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Pow", "Floor", "Ceil",
    "Shape", "Equal", "Where", "Min", "Max", "DequantizeLinear", "Dropout", "ReduceMean", "ReduceSum",
    "ReduceL2", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "Mod", "Sign", "Log", "Tanh",
    "Sigmoid", "Clip", "Not", "And", "Or", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Trilu",
    "CumSum", "Round", "Sin", "Cos", "Size", "ScatterND", "GatherND", "LayerNormalization",
))  # fmt: skip
# These make as many values as a constant says.
GROWN = frozenset(("Expand", "ConstantOfShape", "Range", "Tile"))
MAX_FOLDED = 2**25  # values of a constant that is made so


def held_constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Initializers and what Constant nodes hold, by value name, whatever attribute holds it. A name
    that a Constant node gives is the value's; the tensor may have none."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.output:
            tensor = _constant_value(node)
            if tensor is not None:
                found[node.output[0]] = tensor
    return found


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    kinds = {
        "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64
    }  # fmt: skip
    for attribute in node.attribute:
        if attribute.name == "value":
            return attribute.t
        if attribute.name in kinds:
            value = onnx.helper.get_attribute_value(attribute)
            return numpy_helper.from_array(np.array(value, kinds[attribute.name]), node.output[0])
    return None


class Constants(Mapping[str, np.ndarray]):
    """Arrays of all constants of a graph, by value name: those that it holds, and those that its nodes
    make of them. Where a value comes from a fixed number of images it is none."""

    def __init__(self, model: onnx.ModelProto, file: str = "the network") -> None:
        """``file``: what the InputError of a damaged constant is to name."""
        self.file = file
        self.held = held_constants(model.graph)
        self.made: dict[str, np.ndarray] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self._opsets = list(model.opset_import)
        for node in model.graph.node:
            if node.op_type in FOLDED | GROWN and len([o for o in node.output if o]) == 1:
                self._fold(node)

    def __getitem__(self, name: str) -> np.ndarray:
        if name in self.made:
            return self.made[name]
        if name not in self._arrays:
            try:
                self._arrays[name] = numpy_helper.to_array(self.held[name])
            except (ValueError, TypeError):
                said = repr(name)[:100]
                raise InputError(
                    f"{self.file}: constant {said} is damaged: its values do not fill its shape"
                ) from None
        return self._arrays[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter({**self.held, **self.made})

    def __len__(self) -> int:
        return len(self.held) + len(self.made)

    def __contains__(self, name: object) -> bool:
        return name in self.made or name in self.held

    def _fold(self, node: onnx.NodeProto) -> None:
        names = [n for n in node.input if n]
        if not names or any(n not in self for n in names):
            return
        if sum(math.prod(self._dims(n)) for n in names) > MAX_FOLDED:
            return
        if node.op_type in GROWN and self._grows_too_much(node):
            return
        if node.op_type in ("Identity", "Dropout"):
            self.made[node.output[0]] = self[node.input[0]]
            return
        result = evaluated(node, {n: self[n] for n in names}, self._opsets)
        if result is not None and result.size <= MAX_FOLDED:
            self.made[node.output[0]] = result

    def _dims(self, name: str) -> tuple[int, ...]:
        return self.made[name].shape if name in self.made else tuple(self.held[name].dims)

    def _grows_too_much(self, node: onnx.NodeProto) -> bool:
        told = [np.asarray(self[n]) for n in node.input if n]
        with np.errstate(all="ignore"):
            if node.op_type == "Range":
                start, limit, step = (float(t.reshape(-1)[0]) for t in told)
                return not (step and abs((limit - start) / step) <= MAX_FOLDED)
            sizes = np.abs(told[-1].astype(np.float64))
            return not float(np.prod(np.maximum(sizes, 1)) * max(told[0].size, 1)) <= MAX_FOLDED


def evaluated(
    node: onnx.NodeProto, given: Mapping[str, np.ndarray], opsets: list[onnx.OperatorSetIdProto]
) -> np.ndarray | None:
    """The only output of a node on constants, by ONNX's own reference implementation; None when that
    cannot tell."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = "node"
    made = onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UNDEFINED, None)
    held = [numpy_helper.from_array(np.asarray(array), name) for name, array in given.items()]
    graph = onnx.helper.make_graph([copy], "one", [], [made], held)
    try:
        (result,) = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets)).run(None, {})
    except Exception:  # a hostile or odd node can make it fail in any way: then it is no constant
        return None
    return np.asarray(result)
