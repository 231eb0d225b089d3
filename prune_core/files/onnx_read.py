"""ONNX files in: read without running anything, and made ready for onnx2torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import external_data_helper, shape_inference, version_converter

from prune_core.errors import InputError

# onnx2torch 1.5.15 has no converter for Reshape-19, Transpose-21 and others that follow.
NEWEST_OPSET = 17
MAX_BYTES = 2 * 2**30
MAX_NODES = 20_000  # the largest convolutional networks there are have a few thousand
# What ONNX's own code raises for a model that is none.
REFUSALS = (
    RuntimeError,
    ValueError,
    onnx.checker.ValidationError,
    version_converter.ConvertError,
    shape_inference.InferenceError,
)


def read_onnx(path: Path) -> onnx.ModelProto:
    """The checked model of a ``.onnx`` file, weights inside. Raises InputError."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than 2 GiB, the most that an ONNX file may be")
    try:
        proto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError):
        raise InputError(f"{path}: not an ONNX model (or cut short)") from None
    if (nodes := len(proto.graph.node)) > MAX_NODES:
        raise InputError(f"{path}: {nodes} nodes; at most {MAX_NODES}")
    _check_texts(proto, path)
    _load_external_data(proto, path)
    try:
        onnx.checker.check_model(proto)
    except REFUSALS as error:
        raise InputError(f"{path}: not a valid ONNX model: {first_line(error)}") from None
    for node in proto.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise InputError(
                f"{path}: operator {node.op_type} ({node.name or 'unnamed'}) holds a graph of its own; "
                "only feed-forward networks are supported"
            )
        if node.domain not in ("", "ai.onnx"):
            raise InputError(
                f"{path}: operator {node.op_type} of domain {node.domain!r} is not standard ONNX"
            )
    return proto


def _check_texts(message: Message, path: Path) -> None:
    """Raises InputError for a text that is no UTF-8: protobuf would hand it over as bytes."""
    for field, value in message.ListFields():
        values = [value] if not isinstance(value, Sequence) or isinstance(value, str | bytes) else value
        if field.type == FieldDescriptor.TYPE_STRING and not all(isinstance(v, str) for v in values):
            raise InputError(f"{path}: not a valid ONNX model: {field.full_name} is not UTF-8 text")
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                _check_texts(inner, path)


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    folder = path.resolve().parent
    tensors = [
        t for t in external_data_helper._get_all_tensors(proto) if external_data_helper.uses_external_data(t)
    ]
    for tensor in tensors:
        place = ""
        try:
            place = external_data_helper.ExternalDataInfo(tensor).location
            target = (folder / place).resolve()
            inside, there = target.is_relative_to(folder), target.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # too long, with a NUL, links in a circle
            raise InputError(
                f"{path}: tensor {tensor.name!r} points at {place[:80]!r}, which cannot be resolved: {error}"
            ) from None
        if Path(place).is_absolute() or not inside:
            raise InputError(
                f"{path}: tensor {tensor.name!r} points at {place!r}, outside the model's folder; refused"
            )
        if not there:
            raise InputError(f"{path}: external data file {place!r} of tensor {tensor.name!r} is missing")
        if target.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: external data file {place!r} is larger than 2 GiB")
    if tensors:
        try:
            external_data_helper.load_external_data_for_model(proto, str(folder))
        except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
            raise InputError(f"{path}: external data cannot be read: {first_line(error)}") from None


def normalized(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy that onnx2torch can take, which computes the same function for any batch size.

    Constants become initializers, batch dimensions become free, the opset comes down to 17, and
    nodes are named by position (``node_0`` ...), so that no name of the file reaches Python code.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    for node in model.graph.node:
        _say_zeros(node, name)
    _constants_to_initializers(model.graph)
    _free_the_batch(model.graph)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset > NEWEST_OPSET:
        try:
            model = version_converter.convert_version(model, NEWEST_OPSET)
        except REFUSALS as error:
            raise InputError(
                f"{name}: opset {opset} cannot be brought down to {NEWEST_OPSET}: {first_line(error)}"
            ) from None
    # Two initializers of one name cannot be: after renaming nodes only tensors carry names.
    for position, node in enumerate(model.graph.node):
        node.name = f"node_{position}"
    return model


def _say_zeros(node: onnx.NodeProto, name: str) -> None:
    """A number of an attribute that is left out is 0, and onnx2torch takes it for a value of its own
    kind, which counts as true; so the 0 is put in. Raises InputError for an empty list, likewise."""
    kinds = onnx.AttributeProto
    held = {kinds.INT: "i", kinds.FLOAT: "f", kinds.STRING: "s"}
    lists = {kinds.INTS: "ints", kinds.FLOATS: "floats", kinds.STRINGS: "strings"}
    for attribute in node.attribute:
        if attribute.type in held:
            field = held[attribute.type]
            setattr(attribute, field, getattr(attribute, field))
        elif attribute.type in lists and not getattr(attribute, lists[attribute.type]):
            said = first_line(ValueError(attribute.name))
            raise InputError(f"{name}: the list {said!r} of a node {node.op_type} is empty")


def _constants_to_initializers(graph: onnx.GraphProto) -> None:
    kept = []
    for node in graph.node:
        value = next((a.t for a in node.attribute if a.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = graph.initializer.add()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
        else:
            kept.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in kept]
    del graph.node[:]
    graph.node.extend(kept)


def _free_the_batch(graph: onnx.GraphProto) -> None:
    """Exporters may freeze the batch size in the input and in Reshape targets; free both."""
    initializers = {t.name: t for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in initializers]
    if len(inputs) != 1 or not inputs[0].type.tensor_type.shape.dim:
        return
    batch = inputs[0].type.tensor_type.shape.dim[0]
    frozen = batch.dim_value if batch.HasField("dim_value") else None
    for value in (*inputs, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if dims:
            dims[0].dim_param = "n"
    if frozen is None:
        return
    del graph.value_info[:]
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[1] not in initializers:
            continue
        shape = onnx.numpy_helper.to_array(initializers[node.input[1]]).copy()
        zero_is_zero = any(a.name == "allowzero" and a.i for a in node.attribute)
        if shape.size > 1 and shape[0] == frozen and not zero_is_zero:
            shape[0] = 0
            tensor = onnx.numpy_helper.from_array(shape, f"goodnet_reshape_{number}")
            graph.initializer.append(tensor)
            node.input[1] = tensor.name


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters, printable ones only."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:200])
