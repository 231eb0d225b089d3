"""``.pt2`` files of ``torch.export`` in: the weights alone, which lie in the archive as plain numbers.

The program beside them is not looked at: torch rebuilds it by evaluating text in it. So such a file needs
an architecture, as any other file of weights.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.errors import InputError
from prune_core.torch_files.tensors import brain_floats

CONFIG = "data/weights/model_weights_config.json"
MAX_CONFIG = 32 * 2**20
# torch's numbers of types, as the archive has them; 13 is bfloat16.
_KINDS = {
    1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f2", 7: "<f4", 8: "<f8", 12: "|b1",
}  # fmt: skip
_BRAIN = 13


def exported_weights(path: Path, archive: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The state_dict in an archive whose entries have been checked. Raises InputError."""
    entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
    if CONFIG not in entries or entries[CONFIG].file_size > MAX_CONFIG:
        raise InputError(
            f"{path}: a program of torch.export without weights that can be read as they are; export it "
            'to ONNX where you trust it: torch.onnx.export(program, (), "net.onnx")'
        )
    try:
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise InputError(f"{path}: written on a machine of another byte order; refused")
        config = json.loads(archive.read(entries[CONFIG]))["config"]
        return {str(name): _tensor(archive, entries, said) for name, said in config.items()}
    except (InputError, MemoryError):
        raise
    except Exception as error:  # zipfile raises much of its own, and so does what looks into JSON
        reason = "".join(c if c.isprintable() else "?" for c in str(error)[:150])
        raise InputError(f"{path}: its weights are damaged: {reason}") from None


def _tensor(archive: zipfile.ZipFile, entries: dict[str, zipfile.ZipInfo], said: Any) -> np.ndarray:
    """Raises ValueError and its kin for what does not lie within its entry."""
    if said["use_pickle"]:
        raise ValueError("a tensor that is pickled")
    meta = said["tensor_meta"]
    kind, whole = meta["dtype"], archive.read(entries["data/weights/" + said["path_name"]])
    if kind not in (*_KINDS, _BRAIN):
        raise ValueError(f"a tensor of type {kind!r}; expected plain numbers")
    values = brain_floats(whole) if kind == _BRAIN else np.frombuffer(whole, _KINDS[kind])
    shape, steps = ([int(s["as_int"]) for s in meta[key]] for key in ("sizes", "strides"))
    start = int(meta["storage_offset"]["as_int"])
    if len(shape) != len(steps) or min([start, *shape, *steps]) < 0 or max(shape, default=0) > 2**40:
        raise ValueError("a tensor of impossible shape")
    count = 1
    for size in shape:
        count *= size
    last = start + sum((size - 1) * step for size, step in zip(shape, steps, strict=True)) if count else 0
    if count > len(values) or (count and last >= len(values)):
        raise ValueError(f"a tensor of {count} numbers in {len(values)}")
    strides = [step * values.itemsize for step in steps]
    return np.array(np.lib.stride_tricks.as_strided(values[start:], shape, strides))
