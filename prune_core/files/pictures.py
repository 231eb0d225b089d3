"""Pictures as arrays, checked and bounded."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from prune_core.errors import InputError

MAX_PIXELS = 4096 * 4096
DAMAGE = (  # what Pillow raises when a picture is damaged
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)


def read_rgba(path: Path) -> np.ndarray:
    """(h, w, 4) float32, 0..255, read in this process. Raises InputError as ``read_trigger`` does."""
    try:
        with Image.open(path, formats=["PNG", "JPEG", "BMP"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(f"{path}: a trigger of {picture.width} x {picture.height} is too large")
            return np.asarray(picture.convert("RGBA"), dtype=np.float32)
    except InputError:
        raise
    except DAMAGE:
        raise InputError(f"{path}: not a readable picture; expected PNG, JPEG or BMP") from None
