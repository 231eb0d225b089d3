"""Many pictures of one size as one array."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from prune_core.errors import InputError
from prune_core.files.hdf5 import FREE_BYTES, MOST_PACKED
from prune_core.files.pictures import DAMAGE, MAX_PIXELS
from prune_core.image_files.fields import MAX_BYTES

FORMATS = ("PNG", "JPEG", "BMP", "PPM", "WEBP")
GREY = ("1", "L", "LA")
MODES = (*GREY, "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class Pictures:
    """Takes pictures one after the other; all must have the size of the first.

    Attributes:
        path: of the file or folder that they belong to, for messages.
        count: how many there will be.
        packed: bytes of all of them as they are stored.
    """

    def __init__(self, path: Path, count: int, packed: int) -> None:
        self.path, self.count, self.packed = path, count, packed
        self._pixels: np.ndarray | None = None
        self._first = ""
        self._rows = 0
        self._colour = False

    def add(self, source: IO[bytes], name: str) -> None:
        """``name``: of the picture, for messages. Raises InputError."""
        try:
            with Image.open(source, formats=FORMATS) as picture:
                self._check(picture, name)
                grey = picture.mode in GREY
                if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
                    rgba = np.asarray(picture.convert("RGBA"))
                    if rgba[..., 3].min() < 255:
                        raise InputError(
                            f"{self.path}: picture {name} is transparent in parts; expected opaque ones"
                        )
                    pixels = rgba[..., :3]
                else:
                    pixels = np.asarray(picture.convert("L" if grey else "RGB"))
        except InputError:
            raise
        except DAMAGE:
            raise InputError(
                f"{self.path}: {name} is not a readable picture; expected {', '.join(FORMATS)}"
            ) from None
        assert self._pixels is not None
        self._colour |= not grey
        self._pixels[self._rows] = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels
        self._rows += 1

    def array(self) -> np.ndarray:
        """(count, C, H, W) uint8: C is 1 where all pictures are grey, else 3 (red, green, blue)."""
        assert self._pixels is not None and self._rows == self.count
        return self._pixels if self._colour else self._pixels[:, :1].copy()

    def _check(self, picture: Image.Image, name: str) -> None:
        """Before anything of it is unpacked."""
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise InputError(f"{self.path}: picture {name} of {width} x {height} is too large")
        if picture.mode not in MODES:
            raise InputError(
                f"{self.path}: picture {name} has pixels of kind {picture.mode}; expected 8 bits a channel"
            )
        if self._pixels is None:
            size = self.count * 3 * height * width
            if size > MAX_BYTES or size > FREE_BYTES and size > MOST_PACKED * self.packed:
                raise InputError(
                    f"{self.path}: {self.count:,} pictures of {width} x {height} would take {size:,} bytes, "
                    f"stored in {self.packed:,}; the limits are {MOST_PACKED} times as many and 16 GiB"
                )
            self._pixels = np.empty((self.count, 3, height, width), np.uint8)
            self._first = name
        elif self._pixels.shape[2:] != (height, width):
            one = self._pixels.shape
            raise InputError(
                f"{self.path}: picture {name} is {width} x {height}, {self._first} is {one[3]} x {one[2]} "
                "(width x height); all must have the size that the network takes"
            )
