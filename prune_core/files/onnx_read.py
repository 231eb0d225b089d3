"""ONNX files in: read without running anything."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import external_data_helper, shape_inference, version_converter

from prune_core.errors import InputError
from prune_core.files.onnx_flat import count_nodes, flat

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
    return read_onnx_named(path)[0]


def read_onnx_named(
    path: Path, beside: Callable[[int], None] = lambda size: None
) -> tuple[onnx.ModelProto, str]:
    """``read_onnx``, and what names the network: SHA-256 of the file, and of the weights that lie in
    files beside it where there are any.

    Args:
        beside: told how many bytes lie in other files, before they are read.
    """
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than 2 GiB, the most that an ONNX file may be")
    data = path.read_bytes()
    try:
        proto = onnx.ModelProto.FromString(data)
    except (DecodeError, ValueError):
        raise InputError(f"{path}: not an ONNX model (or cut short)") from None
    nodes = len(proto.graph.node)
    if nodes > MAX_NODES or (nodes := count_nodes(proto, MAX_NODES)) > MAX_NODES:
        raise InputError(f"{path}: {nodes} nodes; at most {MAX_NODES}")
    _check_texts(proto, path)
    digest = hashlib.sha256(data).hexdigest()
    if tensors := _external_tensors(proto, path, len(data), beside):
        _load_external_data(proto, path)
        digest = _digest_with(digest, tensors)
    try:
        onnx.checker.check_model(proto)
    except REFUSALS as error:
        raise InputError(f"{path}: not a valid ONNX model: {first_line(error)}") from None
    proto = flat(proto, str(path))
    for node in proto.graph.node:
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise InputError(
                f"{path}: operator {node.op_type} ({node.name or 'unnamed'}) holds a graph of its own, and "
                "which is computed depends on the images; export it by torch's other exporter "
                "(torch.onnx.export(..., dynamo=True), or dynamo=False), or without it"
            )
        if node.domain not in ("", "ai.onnx"):
            raise InputError(
                f"{path}: operator {node.op_type} of domain {node.domain!r} is not standard ONNX; export it "
                "without it (of a network that a runtime has optimised, take the file from before)"
            )
    return proto, digest


def _check_texts(message: Message, path: Path) -> None:
    """Raises InputError for a text that is no UTF-8: protobuf would hand it over as bytes."""
    for field, value in message.ListFields():
        values = [value] if not isinstance(value, Sequence) or isinstance(value, str | bytes) else value
        if field.type == FieldDescriptor.TYPE_STRING and not all(isinstance(v, str) for v in values):
            raise InputError(f"{path}: not a valid ONNX model: {field.full_name} is not UTF-8 text")
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in values:
                _check_texts(inner, path)


def _external_tensors(
    proto: onnx.ModelProto, path: Path, size: int, beside: Callable[[int], None]
) -> list[onnx.TensorProto]:
    """The tensors whose values lie in other files, all within the model's folder. Raises InputError."""
    folder = path.resolve().parent
    sizes: dict[Path, int] = {}
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
        sizes[target] = target.stat().st_size
        if sizes[target] > MAX_BYTES:
            raise InputError(f"{path}: external data file {place!r} is larger than 2 GiB")
    if size + sum(sizes.values()) > MAX_BYTES:
        raise InputError(f"{path}: with its external data larger than 2 GiB, the most that can be read")
    if tensors:
        beside(sum(sizes.values()))
    return tensors


def _load_external_data(proto: onnx.ModelProto, path: Path) -> None:
    try:
        external_data_helper.load_external_data_for_model(proto, str(path.resolve().parent))
    except (OSError, ValueError, RuntimeError, onnx.checker.ValidationError) as error:
        raise InputError(f"{path}: external data cannot be read: {first_line(error)}") from None


def _digest_with(file_digest: str, tensors: Sequence[onnx.TensorProto]) -> str:
    """SHA-256 over a file's digest and the values, now loaded, that it took from other files."""
    state = hashlib.sha256(f"{file_digest} with {len(tensors)}".encode())
    for tensor in tensors:
        state.update(struct.pack("<q", len(tensor.raw_data)))
        state.update(tensor.raw_data)
    return state.hexdigest()


def first_line(error: BaseException) -> str:
    """The first line of an error's text, at most 200 characters, printable ones only."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else "?" for c in lines[0][:200])
