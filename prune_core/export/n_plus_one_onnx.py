"""The lab's N+1-class GoodNet as one ONNX file: BadNet and pruned network side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from prune_core.compaction.flow import constants_of
from prune_core.export.zeroed import set_metadata


def pair_onnx(badnet: onnx.ModelProto, pruned: onnx.ModelProto) -> onnx.ModelProto:
    """(n, C, H, W) -> ``scores`` (n, N + 1): the largest is the class where both nets agree, and N
    ("backdoored") where they differ.

    Where they agree, the first N scores are the pruned net's probabilities and the last is 0;
    elsewhere the last is 1 and the others are 0. ``pruned`` is ``badnet`` with other constants, as
    ``export.pruned_onnx`` makes it; constants that are equal stand in the file once. Nodes and
    values of the pruned net get the prefix ``pruned/``; ``metadata_props`` are both nets'. Source: the
    CSAW-HackML lab.
    """
    both = onnx.ModelProto()
    both.CopyFrom(badnet)
    prefix = _free_prefix(badnet)
    used = {v for node in badnet.graph.node for v in (*node.input, *node.output)}
    output = "scores" if "scores" not in used else f"{prefix}and_badnet/scores"
    ours = both.graph.output[0].name
    theirs = _add_copy(both.graph, pruned.graph, prefix)
    graph = both.graph
    numbers = constants_of(graph)
    given = [i for i in graph.input if i.name not in numbers]
    classes = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim[1:]]
    kind = badnet.graph.output[0].type.tensor_type.elem_type or TensorProto.FLOAT
    ones = np.ones((1, 1), helper.tensor_dtype_to_np_dtype(kind))
    graph.initializer.append(numpy_helper.from_array(ones, f"{prefix}one"))
    logits = [_before_softmax(graph, value) for value in (ours, theirs)]

    def value(name: str) -> str:
        return f"{prefix}and_badnet/{name}"

    def node(op: str, inputs: list[str], output: str, **fields: Any) -> None:
        graph.node.append(helper.make_node(op, inputs, [output], output, **fields))

    node("ArgMax", [logits[0]], value("badnet_class"), axis=1, keepdims=1)
    node("ArgMax", [logits[1]], value("pruned_class"), axis=1, keepdims=1)
    node("Equal", [value("badnet_class"), value("pruned_class")], value("equal"))
    node("Cast", [value("equal")], value("agree"), to=kind)
    if logits[1] == theirs:  # the net ends in logits
        node("Softmax", [theirs], value("probabilities"), axis=1)
        theirs = value("probabilities")
    node("Mul", [theirs, value("agree")], value("classes"))
    node("Sub", [f"{prefix}one", value("agree")], value("backdoored"))
    node("Concat", [value("classes"), value("backdoored")], output, axis=1)
    del graph.output[:]
    size = classes[0] + 1 if classes and classes[0] else "classes"
    batch = given[0].type.tensor_type.shape.dim[0]
    first = batch.dim_value or batch.dim_param or "n"
    graph.output.append(helper.make_tensor_value_info(output, kind, [first, size]))
    del graph.value_info[:]
    set_metadata(both, {entry.key: entry.value for entry in pruned.metadata_props})
    both.ir_version = max(both.ir_version, 4)
    opset = next(o.version for o in both.opset_import if o.domain in ("", "ai.onnx"))
    # Before 7 there is no broadcasting as it is used above.
    return version_converter.convert_version(both, 13) if opset < 7 else both


def _free_prefix(proto: onnx.ModelProto) -> str:
    """A prefix for the pruned net that no name of the file has."""
    taken = {v for node in proto.graph.node for v in (*node.input, *node.output, node.name)}
    prefix, number = "pruned/", 1
    while any(name.startswith(prefix) for name in taken):
        number += 1
        prefix = f"pruned_{number}/"
    return prefix


def _add_copy(graph: onnx.GraphProto, other: onnx.GraphProto, prefix: str) -> str:
    """Put the nodes of a graph with the same input beside those of ``graph``; its output's name."""
    held = {t.name: t for t in graph.initializer}
    renamed = {v: prefix + v for node in other.node for v in node.output}
    for tensor in other.initializer:
        mine = held.get(tensor.name)
        if mine is not None and mine.SerializeToString() == tensor.SerializeToString():
            continue
        renamed[tensor.name] = prefix + tensor.name
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = prefix + tensor.name
    for node in other.node:
        copy = graph.node.add()
        copy.CopyFrom(node)
        copy.name = prefix + node.name if node.name else ""
        for values in (copy.input, copy.output):
            for position, value in enumerate(values):
                values[position] = renamed.get(value, value)
    return renamed[other.output[0].name]


def _before_softmax(graph: onnx.GraphProto, value: str) -> str:
    """What a softmax at the end takes: logits tell classes apart where probabilities cannot."""
    maker = next(node for node in graph.node if value in node.output)
    return str(maker.input[0]) if maker.op_type == "Softmax" else value
