"""``.safetensors`` files in: numbers under names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize

from prune_core.errors import InputError
from prune_core.files.onnx_read import first_line

MAX_BYTES = 2 * 2**30
MAX_HEADER = 32 * 2**20
_KINDS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip


def load_tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file by name; bfloat16 as float32. Raises InputError."""
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than 2 GiB, the most that can be read")
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header > len(data) - 8:
        raise InputError(f"{path}: not a safetensors file (or cut short)")
    if header > MAX_HEADER:
        raise InputError(f"{path}: its header takes {header} bytes; at most {MAX_HEADER}")
    try:
        found = deserialize(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a safetensors file (or cut short): {first_line(error)}") from None
    try:
        return dict(_arrays(found, path))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: a tensor of impossible shape: {first_line(error)}") from None


def brain_floats(data: bytes) -> np.ndarray:
    """bfloat16 as float32: the upper half of its bits."""
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def _arrays(found: list[tuple[str, dict]], path: Path) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in sorted(found, key=lambda entry: entry[0]):
        kind, shape = tensor["dtype"], tensor["shape"]
        if kind == "BF16":
            yield name, brain_floats(tensor["data"]).reshape(shape)
            continue
        if kind not in _KINDS:
            raise InputError(
                f"{path}: tensor {name[:80]!r} is of {kind}; expected plain numbers (floats for weights)"
            )
        yield name, np.frombuffer(tensor["data"], _KINDS[kind]).reshape(shape)
