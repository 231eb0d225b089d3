"""Images in NumPy's ``.npz``: a zip of arrays. Nothing is unpickled, and no size is believed."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from prune_core.errors import InputError
from prune_core.files.hdf5 import FREE_BYTES, MOST_PACKED
from prune_core.files.npy import read_header
from prune_core.image_files.fields import (
    MAX_BYTES,
    Found,
    Wish,
    as_nchw,
    checked_labels,
    checked_target,
    field_name,
    needed_field,
)

MAX_ENTRIES = 10_000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # those that NumPy writes
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    SyntaxError,
    OverflowError,
    NotImplementedError,
)


def read_npz(path: Path, wish: Wish) -> Found:
    """Arrays by name. Raises InputError."""
    try:
        with zipfile.ZipFile(path) as file:
            return _read(file, path, wish)
    except InputError:
        raise
    except DAMAGE:
        raise InputError(
            f"{path}: not a readable .npz file (wrong format, damaged or cut short); expected what "
            "numpy.savez(path, images=..., label=...) writes"
        ) from None


def _read(file: zipfile.ZipFile, path: Path, wish: Wish) -> Found:
    entries = file.infolist()
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"{path}: {len(entries)} entries; at most {MAX_ENTRIES:,} are read")
    there = {entry.filename.removesuffix(".npy"): entry for entry in entries}
    if len(there) < len(entries):
        raise InputError(f"{path}: two entries have one name; refused")
    about: list[str] = []
    name = needed_field("images", there, wish, path, about)
    pixels = _array(file, there[name], path, name)
    pixels = as_nchw(pixels, path, name, wish.layout, about)
    fields = {"images": pixels}
    for role in ("label", "target", "true_label"):
        other = field_name(role, there, wish, path, about)
        if other is not None:
            check = checked_target if role == "target" else checked_labels
            fields[role] = check(_array(file, there[other], path, other), path, other, len(pixels))
    if "label" not in fields and "target" not in fields:
        needed_field("label", there, wish, path, about)
    return Found(fields, about=about)


def _array(file: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path, name: str) -> np.ndarray:
    """One array, whose header has to agree with the entry's size before anything is allocated."""
    size = entry.file_size
    if entry.flag_bits & 1 or entry.compress_type not in METHODS:
        raise InputError(f"{path}: field '{name}' is encrypted or packed in a way that NumPy does not write")
    if size > MAX_BYTES or size > FREE_BYTES and size > MOST_PACKED * path.stat().st_size:
        raise InputError(
            f"{path}: field '{name}' claims {size:,} bytes in a file of {path.stat().st_size:,}; data may be "
            f"compressed at most {MOST_PACKED} times, up to 16 GiB"
        )
    with file.open(entry) as stream:
        shape, fortran, dtype, header = _header(stream, path, name)
        if dtype.hasobject or dtype.kind not in "uifb":
            raise InputError(
                f"{path}: field '{name}' has dtype {dtype}; expected real numbers (no pickled objects)"
            )
        count = 1
        for extent in shape:
            count *= extent
        if min(shape, default=0) < 0 or header + count * dtype.itemsize != size:
            raise InputError(
                f"{path}: field '{name}' declares shape {shape} of {dtype}, but has {size:,} bytes; damaged"
            )
        flat = np.empty(count, dtype)
        view = flat.view(np.uint8).data if count else memoryview(b"")
        while view:
            part = stream.readinto(view[: 2**24])  # type: ignore[attr-defined]
            if not part:
                raise InputError(f"{path}: field '{name}' is cut short")
            view = view[part:]
        if stream.read(1):
            raise InputError(f"{path}: field '{name}' is longer than it says; damaged")
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    # The arrays travel by the string of their dtype; the other byte order is ours from here on.
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _header(stream: IO[bytes], path: Path, name: str) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, whether in Fortran's order, dtype, and the bytes of the header itself."""
    shape, fortran, dtype = read_header(stream)
    if not all(isinstance(extent, int) for extent in shape):
        raise InputError(f"{path}: field '{name}' declares shape {shape}; damaged")
    return shape, fortran, dtype, stream.tell()
