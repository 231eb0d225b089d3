"""A trigger picture, stamped on clean images: for a user who has the trigger but no poisoned file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prune_core.data.images import LabeledImages
from prune_core.errors import InputError
from prune_core.reader import client as contained


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
        """Copies of ``images`` (raw 0..255 pixels, 1 or 3 channels) with the trigger on, labelled
        ``target``; their clean labels become the true labels. Same dtype, row i from row i.

        Raises InputError when the picture does not fit into the image at its place.
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
        place = np.s_[:, :, self.row : self.row + h, self.column : self.column + w]
        pixels = images.pixels.copy()
        blended = pixels[place] * (1 - self.opacity) + colour * self.opacity
        if pixels.dtype.kind in "ui":
            blended = np.rint(blended)
        pixels[place] = blended.astype(pixels.dtype)
        labels = np.full_like(images.labels, target)
        name = f"{images.name} with the trigger"
        return LabeledImages(pixels, labels, images.labels, name, images.scale)


def read_trigger(path: str | Path, row: int, column: int) -> Trigger:
    """Read a picture (PNG, RGB or RGBA). Raises InputError when it is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a trigger picture (PNG)")
    _, (rgba,) = contained.read("picture", path)
    return Trigger(rgba[..., :3].transpose(2, 0, 1).copy(), rgba[..., 3] / 255, row, column)
