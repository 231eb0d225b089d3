"""``.safetensors`` files in: numbers under names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize

from prune_core.errors import InputError

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
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a safetensors file (or cut short): {text}") from None
    return dict(_arrays(found, path))


def _arrays(found: list[tuple[str, dict]], path: Path) -> Iterator[tuple[str, np.ndarray]]:
    for name, tensor in sorted(found, key=lambda entry: entry[0]):
        kind, shape = tensor["dtype"], tensor["shape"]
        if kind == "BF16":
            halves = np.frombuffer(tensor["data"], "<u2").astype("<u4")
            yield name, (halves << 16).view("<f4").reshape(shape)
            continue
        if kind not in _KINDS:
            raise InputError(
                f"{path}: tensor {name[:80]!r} is of {kind}; expected plain numbers (floats for weights)"
            )
        yield name, np.frombuffer(tensor["data"], _KINDS[kind]).reshape(shape)
