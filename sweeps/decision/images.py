"""Images of a data set as small pictures that stand in a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

LARGEST = 96  # pixels of a picture's longer side


def png(pixels: np.ndarray, low: float, high: float, largest: int = LARGEST) -> bytes:
    """A small PNG of one image.

    Args:
        pixels: (C, H, W); three channels are colours, of another number the first is shown, in grey.
        low, high: the values of black and white; what lies beyond is cut off.
        largest: pixels of the longer side; a larger image is made smaller.
    """
    values = np.nan_to_num(np.asarray(pixels, np.float64), nan=low, posinf=high, neginf=low)
    span = max(high - low, 1e-12)
    scaled = (np.clip((values - low) / span, 0.0, 1.0) * 255).round().astype(np.uint8)
    picture = Image.fromarray(scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled[0])
    if max(picture.size) > largest:
        picture.thumbnail((largest, largest))
    out = io.BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return out.getvalue()


def uri(data: bytes, kind: str = "image/png") -> str:
    """A picture as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def black_and_white(pixels: np.ndarray) -> tuple[float, float]:
    """The values that stand for black and white in (N, C, H, W) pixels: of the usual ranges the one that
    holds them, else the least and the largest."""
    least, most = float(pixels.min()), float(pixels.max())
    for low, high in ((0.0, 1.0), (0.0, 255.0)):
        if low <= least and most <= high and (high == 1.0 or most > 1.0):
            return low, high
    return least, most
