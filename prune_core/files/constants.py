"""Changed weights: what, besides a mask, makes a net of a BadNet, by name of the ONNX constant.

Pruning gives a mask and nothing else. Scaling and fine-tuning change weights; what they return is a
``Weights``: the constants that differ from the BadNet's, whole. ``PrunableModel.with_weights`` makes
the net of it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from prune_core.errors import InputError

if TYPE_CHECKING:
    import onnx  # a frontier is read without it

Weights = Mapping[str, np.ndarray]


def weights_digest(weights: Weights) -> str:
    """SHA-256 over names, types, shapes and values: equal weights, equal digests."""
    state = hashlib.sha256()
    for name in sorted(weights):
        array = np.ascontiguousarray(weights[name])
        head = f"{name}\0{array.dtype.str}\0{array.shape}\0".encode()
        state.update(struct.pack("<q", len(head)) + head)
        state.update(array.data)
    return state.hexdigest()


def to_safetensors(weights: Weights) -> bytes:
    """As a safetensors file; ``from_safetensors`` is its inverse."""
    return save({name: np.asarray(weights[name], order="C") for name in sorted(weights)})


def from_safetensors(data: bytes, source: str) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file's bytes. Raises InputError that names ``source``."""
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{source}: not a safetensors file (or cut short): {text}") from None


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The graph's constants by value name, as they stand in it: initializers, and the tensors of
    Constant nodes."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values = [attribute.t for attribute in node.attribute if attribute.name == "value"]
            found |= dict(zip(node.output, values, strict=False))
    return found


def replaced(proto: onnx.ModelProto, weights: Weights, name: str) -> onnx.ModelProto:
    """A copy of an ONNX model in which the named constants hold ``weights``, in the model's own
    precision.

    Raises InputError, with ``name`` for the network, when a constant is not there, has another
    shape, holds no floats, or a value is not finite.
    """
    import onnx
    from onnx import numpy_helper

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    there = constants(copy.graph)
    for key, array in weights.items():
        if key not in there:
            near = ", ".join(list(there)[:6])
            raise InputError(f"{name}: weights for {key!r}, which it does not have; it has {near}")
        now = numpy_helper.to_array(there[key])
        if now.dtype.kind != "f":
            raise InputError(f"{name}: constant {key!r} does not hold floats; it cannot be changed")
        if now.ndim != array.ndim and now.squeeze().shape == array.squeeze().shape:
            array = array.reshape(now.shape)  # a bias may have the axes of an image
        if now.shape != array.shape:
            raise InputError(f"{name}: weights for {key!r} have shape {array.shape}; expected {now.shape}")
        with np.errstate(over="ignore"):
            new = np.asarray(array).astype(now.dtype)
        if not np.isfinite(new).all():
            raise InputError(f"{name}: weights for {key!r} hold NaN or infinity; weights are finite")
        # to_array hands out None for the name of a Constant node's tensor; keep what it had.
        there[key].CopyFrom(numpy_helper.from_array(new, there[key].name))
    return copy
