"""One array out of NumPy's ``.npy``, checked and bounded; nothing is unpickled."""

from __future__ import annotations

import math
import tokenize
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from prune_core.errors import InputError

MAX_VALUES = 4096 * 4096 * 4
MAX_HEADER = 4096
DAMAGE = (
    OSError,
    LookupError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    OverflowError,
    RecursionError,
    MemoryError,
    tokenize.TokenError,  # NumPy looks at headers of Python 2 with it
)


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Shape, whether in Fortran's order, and dtype; ``stream`` is then at the values. Raises one of
    ``DAMAGE`` for what NumPy does not write."""
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version} of the form")
    try:
        shape, transposed, dtype = read(stream, max_header_size=MAX_HEADER)
    except tokenize.TokenError as error:  # NumPy looks at old headers with Python's tokenizer
        raise ValueError(str(error)) from None
    return shape, transposed, dtype


def read_npy(path: Path) -> np.ndarray:
    """float32 of any shape up to four axes, read in this process. Raises InputError."""
    try:
        with path.open("rb") as file:
            shape, transposed, dtype = read_header(file)
            count = math.prod(shape)
            if dtype.hasobject or dtype.kind not in "uif" or dtype.subdtype is not None:
                raise InputError(f"{path}: holds {dtype}; expected real numbers")
            if not 0 < count <= MAX_VALUES or len(shape) > 4:
                raise InputError(f"{path}: an array of {shape}; expected 1 to {MAX_VALUES:,} values")
            data = file.read(count * dtype.itemsize + 1)
    except InputError:
        raise
    except DAMAGE:
        raise InputError(f"{path}: not a readable array; expected .npy, as numpy.save writes it") from None
    if len(data) != count * dtype.itemsize:
        raise InputError(
            f"{path}: {len(data)} bytes of values where {shape} of {dtype} has others; cut short?"
        )
    values = np.frombuffer(data, dtype).reshape(shape, order="F" if transposed else "C").astype(np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: holds NaN or infinite values, or such as float32 cannot hold")
    return values
