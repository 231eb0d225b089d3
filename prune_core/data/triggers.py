"""A trigger picture, stamped on clean images: for a user who has the trigger but no poisoned file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prune_core.data.images import LabeledImages
from prune_core.errors import InputError
from prune_core.reader import client as contained

DARKEST = 16  # images of 0 to 255 whose brightest pixel is no brighter are no photographs


@dataclass(frozen=True, eq=False)
class Trigger:
    """A picture with opacity, and where its top left corner goes.

    Attributes:
        colour: (3, h, w) float32, 0..255.
        opacity: (h, w) float32, 0..1.
        row, column: pixels from the top and from the left of the image.
    """

    colour: np.ndarray
    opacity: np.ndarray
    row: int
    column: int

    def stamp(self, images: LabeledImages, target: int) -> LabeledImages:
        """Copies of ``images`` (1 or 3 channels) with the trigger on, labelled ``target``; their clean
        labels become the true labels. Same dtype, row i from row i. The colour goes on in the units of the
        pixels (``white_of``), before any preprocessing.

        Raises InputError when the picture does not fit into the image at its place, or the units of the
        pixels cannot be told.
        """
        channels, height, width = images.shape
        h, w = self.opacity.shape
        if self.row < 0 or self.column < 0 or self.row + h > height or self.column + w > width:
            raise InputError(
                f"trigger: a picture of {h} x {w} (height x width) at row {self.row}, column "
                f"{self.column} does not fit into images of {height} x {width}"
            )
        if channels not in (1, 3):
            raise InputError(f"trigger: images have {channels} channels; expected 1 or 3")
        colour = self.colour if channels == 3 else self.colour.mean(axis=0, keepdims=True)
        white = white_of(images.pixels, images.name)
        if white != 255:
            colour = colour * np.float32(white / 255)
        place = np.s_[:, :, self.row : self.row + h, self.column : self.column + w]
        pixels = images.pixels.copy()
        blended = pixels[place] * (1 - self.opacity) + colour * self.opacity
        if pixels.dtype.kind in "ui":
            blended = np.rint(blended)
        pixels[place] = blended.astype(pixels.dtype)
        labels = np.full_like(images.labels, target)
        name = f"{images.name} with the trigger"
        return replace(images, pixels=pixels, labels=labels, true_labels=images.labels, name=name)


def white_of(pixels: np.ndarray, name: str) -> float:
    """What white is in ``pixels`` (N, C, H, W): 255, or 1 where real numbers go from 0 to 1.

    Raises InputError where neither can be told: pixels below 0 (already normalised), beyond 255, whole
    numbers up to 1, or a brightest pixel above 1 that is too dark for 0..255.
    """
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind == "f":
        if low >= 0 and 0 < high <= 1 + 1e-6:
            return 1.0
    elif high == 0:
        return 255.0
    if low >= 0 and DARKEST < high <= 255:
        return 255.0
    raise InputError(
        f"{name}: a trigger picture cannot be put on pixels of {low:.6g} to {high:.6g} ({pixels.dtype}): "
        "what white is there cannot be told; expected images of 0 to 255, or of real numbers from 0 to 1 "
        "(data.scale, data.mean and data.std do the rest), or poisoned files in place of the trigger"
    )


def read_trigger(path: str | Path, row: int, column: int) -> Trigger:
    """Read a picture (PNG, RGB or RGBA). Raises InputError when it is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a trigger picture (PNG)")
    _, (rgba,) = contained.read("picture", path)
    return Trigger(rgba[..., :3].transpose(2, 0, 1).copy(), rgba[..., 3] / 255, row, column)
