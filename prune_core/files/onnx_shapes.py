"""What a graph says of the shapes of its own values, worked out: as constants, for so many images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

from prune_core.files.onnx_fold import Constants

ROUNDS = 16  # a value whose shape follows from another's shape, and so on
_TWO_COUNTS = (3, 5)  # of images: what is the same for both does not depend on their number
_MAX_TOLD = 2**10  # values of a constant that may say how large another value becomes


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which large constants are inputs, with a type and a shape, but no values: enough to infer
    shapes, and small, however large the network is."""
    one = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    one.graph.CopyFrom(onnx.GraphProto(name=model.graph.name))
    for field in ("node", "input", "output", "value_info"):
        getattr(one.graph, field).extend(getattr(model.graph, field))
    given = {value.name for value in one.graph.input}
    for tensor in model.graph.initializer:
        if np.prod(tensor.dims, dtype=float) <= _MAX_TOLD:
            one.graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in given:
            bare = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            one.graph.input.append(bare)
    return one


def for_images(model: onnx.ModelProto, count: int, image: Sequence[int] | None = None) -> onnx.ModelProto:
    """A copy ``without_weights`` for so many images, whose shapes follow from its input alone: what the
    file says of them is left out. ``image``: sizes as the input has them, without the batch."""
    one = without_weights(model)
    held = {t.name for t in model.graph.initializer}
    for given in one.graph.input:
        dims = given.type.tensor_type.shape.dim
        if given.name in held or not dims:
            continue
        for place, size in enumerate((count, *(image or ()))):
            if place < len(dims):
                dims[place].Clear()
                dims[place].dim_value = size
    for output in one.graph.output:
        output.type.tensor_type.ClearField("shape")
    del one.graph.value_info[:]
    return one


def told(model: onnx.ModelProto) -> onnx.ModelProto:
    """What Shape and Size nodes say, and what others make of that, put in as constants, in place, where
    ONNX's own inference does not follow it. Returns the model with all shapes that can be inferred. Raises
    what ONNX raises for shapes that do not fit."""
    for _ in range(ROUNDS):
        found = shape_inference.infer_shapes(model, data_prop=True)
        if not _say(model, shapes_of(found)):
            return found
    return shape_inference.infer_shapes(model, data_prop=True)


def shapes_of(inferred: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Those that are known whole, of all values of a graph."""
    shapes = {}
    graph = inferred.graph
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = tuple(d.dim_value for d in dims)
    return shapes


def _say(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]]) -> bool:
    """One round of ``told``; whether there was any."""
    changed = False
    for node in model.graph.node:
        if node.op_type not in ("Shape", "Size") or node.input[0] not in shapes:
            continue
        shape = shapes[node.input[0]]
        if node.op_type == "Shape":
            info = {a.name: a.i for a in node.attribute}
            said = np.array(shape[info.get("start", 0) : info.get("end", len(shape))], np.int64)
        else:
            said = np.array(np.prod(shape, dtype=float), np.int64)
        _put(node, node.output[0], said)
        changed = True
    if changed:
        makers = {output: node for node in model.graph.node for output in node.output}
        for name, array in Constants(model).made.items():
            _put(makers[name], name, array)
    return changed


def _put(node: onnx.NodeProto, output: str, value: np.ndarray) -> None:
    tensor = numpy_helper.from_array(np.asarray(value, order="C"))
    node.CopyFrom(onnx.helper.make_node("Constant", [], [output], node.name, value=tensor))


def free_of_the_count(
    model: onnx.ModelProto,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Values that nodes make of shapes: (those that are the same for any number of images, the others as
    they are for one image). Both empty where nothing asks for shapes, or they do not fit."""
    if not any(node.op_type in ("Shape", "Size") for node in model.graph.node):
        return {}, {}
    held = {tensor.name for tensor in model.graph.initializer}
    found = []
    for count in _TWO_COUNTS:
        copy = for_images(model, count)
        try:
            told(copy)
        except (RuntimeError, ValueError, shape_inference.InferenceError):
            return {}, {}
        found.append({name: array for name, array in Constants(copy).items() if name not in held})
    few, more = found
    same, other = {}, {}
    for name in few.keys() & more.keys():
        a, b = few[name], more[name]
        if a.shape == b.shape and np.array_equal(a, b):
            same[name] = a
        elif a.shape == b.shape and a.dtype.kind == "i":  # a number of images, or a multiple of it
            other[name] = a - (b - a) // (_TWO_COUNTS[1] - _TWO_COUNTS[0]) * (_TWO_COUNTS[0] - 1)
    return same, other
