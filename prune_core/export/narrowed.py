"""A network in numbers that others compute in: ONNX Runtime has no convolution of float64 or bfloat16."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

_WIDE = (TensorProto.DOUBLE, TensorProto.BFLOAT16)


def in_float32(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The model with float32 in place of float64 and bfloat16, constants, inputs and outputs alike; itself
    where it has none of them."""
    kinds = {tensor.data_type for tensor in proto.graph.initializer}
    kinds |= {value.type.tensor_type.elem_type for value in (*proto.graph.input, *proto.graph.output)}
    kinds |= {a.t.data_type for node in proto.graph.node for a in node.attribute if a.HasField("t")}
    if not kinds & set(_WIDE):
        return proto
    narrow = onnx.ModelProto()
    narrow.CopyFrom(proto)
    for tensor in narrow.graph.initializer:
        _narrow(tensor)
    for node in narrow.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _narrow(attribute.t)
            elif attribute.name in ("to", "dtype", "output_dtype") and attribute.i in _WIDE:
                attribute.i = TensorProto.FLOAT
    del narrow.graph.value_info[:]
    for value in (*narrow.graph.input, *narrow.graph.output):
        if value.type.tensor_type.elem_type in _WIDE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return narrow


def _narrow(tensor: TensorProto) -> None:
    if tensor.data_type in _WIDE:
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
