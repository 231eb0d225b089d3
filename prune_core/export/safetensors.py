"""A network's constants as a safetensors file: numbers under names, nothing that could be run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from ml_dtypes import bfloat16
from onnx import numpy_helper
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from prune_core.errors import InputError

KINDS = {
    "BF16": bfloat16, "F16": np.float16, "F32": np.float32, "F64": np.float64, "BOOL": np.bool_,
    "C64": np.complex64,
    **{f"{sign}{bits}": np.dtype(f"{name}{bits}") for sign, name in (("I", "int"), ("U", "uint"))
       for bits in (8, 16, 32, 64)},
}  # fmt: skip


def safetensors_bytes(proto: onnx.ModelProto) -> bytes:
    """All initializers of an ONNX model under their names, and its ``metadata_props``.

    Constant nodes are part of the graph and are left to it.
    """
    arrays = {t.name: np.asarray(numpy_helper.to_array(t), order="C") for t in proto.graph.initializer}
    return save(arrays, metadata={entry.key: entry.value for entry in proto.metadata_props})


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file; bfloat16 too, which NumPy by itself has not."""
    found = {}
    for name, held in deserialize(data):
        found[name] = np.frombuffer(held["data"], KINDS[held["dtype"]]).reshape(held["shape"])
    return found


def state_bytes(state: Mapping[str, np.ndarray], proto: onnx.ModelProto) -> bytes:
    """A module's state_dict, and the ``metadata_props`` of its ONNX form."""
    return save(dict(state), metadata={entry.key: entry.value for entry in proto.metadata_props})


def with_safetensors(proto: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """A copy of an ONNX model with its initializers as a safetensors file has them.

    Raises InputError when the file is none, or has not just these names, shapes and types.
    """
    try:
        arrays = _arrays(path.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as safetensors: {text}") from None
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    names = {t.name for t in model.graph.initializer}
    if names != arrays.keys():
        odd = sorted(names ^ arrays.keys())[:3]
        raise InputError(f"{path}: not the tensors of this network; see {json.dumps(odd)}")
    for tensor in model.graph.initializer:
        array = arrays[tensor.name]
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        if array.shape != tuple(tensor.dims) or array.dtype != kind:
            raise InputError(
                f"{path}: {json.dumps(tensor.name)} is {array.dtype} {array.shape}, the network has "
                f"{kind} {tuple(tensor.dims)}"
            )
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model
