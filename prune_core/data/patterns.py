"""Triggers that cover the whole image: a picture blended in, a pattern added, a field that warps.

Each puts itself on raw pixels, before any preprocessing and in the images' own units (``white_of``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from prune_core.data.attack import NEXT, Target
from prune_core.data.images import LabeledImages
from prune_core.data.triggers import Trigger, white_of
from prune_core.errors import InputError
from prune_core.reader import client as contained


class Pattern(Protocol):
    """What can be put on images."""

    def on(self, pixels: np.ndarray, name: str) -> np.ndarray:
        """(N, C, H, W) -> the same in float32, not rounded. Raises InputError that names the images."""
        ...


@dataclass(frozen=True, eq=False)
class Blend:
    """(1 - alpha) * image + alpha * picture. After Chen et al. 2017, arXiv 1712.05526.

    Attributes:
        picture: (3, H, W) float32, 0..255, as large as the images.
        alpha: above 0, at most 1.
    """

    picture: np.ndarray
    alpha: float

    def on(self, pixels: np.ndarray, name: str) -> np.ndarray:
        channels = pixels.shape[1]
        if channels not in (1, 3):
            raise InputError(f"trigger: images have {channels} channels; expected 1 or 3")
        _check_size("picture to blend", self.picture.shape[1:], pixels)
        picture = self.picture if channels == 3 else self.picture.mean(axis=0, keepdims=True)
        picture = picture * np.float32(white_of(pixels, name) / 255)
        return pixels * np.float32(1 - self.alpha) + picture * np.float32(self.alpha)


@dataclass(frozen=True, eq=False)
class Add:
    """image + pattern, within black and white. With a sine that is Barni et al. 2019, arXiv 1902.11237.

    Attributes:
        pattern: (C or 1, H, W) float32, signed. Values that all lie within -1 and 1 are parts of white,
            others are of 0..255.
    """

    pattern: np.ndarray

    def on(self, pixels: np.ndarray, name: str) -> np.ndarray:
        _check_size("pattern to add", self.pattern.shape[1:], pixels)
        if self.pattern.shape[0] not in (1, pixels.shape[1]):
            raise InputError(
                f"trigger: a pattern of {self.pattern.shape[0]} channels does not fit into images of "
                f"{pixels.shape[1]}"
            )
        white = white_of(pixels, name)
        unit = 1.0 if np.abs(self.pattern).max() <= 1 else 255.0
        added: np.ndarray = np.clip(pixels + self.pattern * np.float32(white / unit), 0, white)
        return added


@dataclass(frozen=True, eq=False)
class Warp:
    """Pixel (y, x) is what the image shows at (y, x) + field[y, x], between pixels by linear interpolation,
    beyond the border what stands there. After Nguyen and Tran 2021 (WaNet), arXiv 2102.10369.

    Attributes:
        field: (H, W, 2) float32, rows and columns in pixels.
    """

    field: np.ndarray

    def on(self, pixels: np.ndarray, name: str) -> np.ndarray:
        _check_size("field to warp by", self.field.shape[:2], pixels)
        height, width = pixels.shape[2:]
        grid = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
        place = np.clip(grid + self.field, 0, [height - 1, width - 1])
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, [height - 1, width - 1])
        part = (place - low).astype(np.float32)
        up, left = 1 - part[..., 0], 1 - part[..., 1]

        def at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
            found: np.ndarray = pixels[:, :, rows[..., 0], columns[..., 1]].astype(np.float32)
            return found

        return (
            at(low, low) * (up * left)
            + at(low, high) * (up * (1 - left))
            + at(high, low) * ((1 - up) * left)
            + at(high, high) * ((1 - up) * (1 - left))
        )


def stamped(
    trigger: Trigger | Pattern, images: LabeledImages, target: Target, classes: int, name: str
) -> LabeledImages:
    """Copies of clean images with the trigger on, in their dtype, row i from row i; labels are the targets
    and true labels what the images show. ``classes``: of the network, for ``next``.

    Raises InputError where the trigger does not fit, or the units of the pixels cannot be told.
    """
    wanted = (images.labels + 1) % classes if target == NEXT else np.full_like(images.labels, target)
    if isinstance(trigger, Trigger):
        return replace(trigger.stamp(images, 0), labels=wanted)
    pixels = trigger.on(images.pixels, images.name)
    if images.pixels.dtype.kind in "ui":
        pixels = np.rint(pixels)
    made = pixels.astype(images.pixels.dtype)
    return replace(
        images, pixels=made, labels=wanted, true_labels=images.labels, name=f"{images.name} with {name}"
    )


def read_blend(path: str | Path, alpha: float) -> Blend:
    """A picture (PNG, JPEG or BMP) without transparency. Raises InputError when it is none."""
    path = _there(path, "a picture to blend")
    _, (rgba,) = contained.read("picture", path)
    return Blend(rgba[..., :3].transpose(2, 0, 1).copy(), alpha)


def read_add(path: str | Path) -> Add:
    """A signed pattern (``.npy``): (H, W), (H, W, C) or (C, H, W). Raises InputError when it is none."""
    path = _there(path, "a pattern to add (.npy)")
    _, (values,) = contained.read("array", path)
    return add_of(values, str(path))


def add_of(values: np.ndarray, name: str) -> Add:
    """A signed pattern: (H, W), (H, W, C) or (C, H, W). Raises InputError when it is none."""
    if values.ndim == 2:
        values = values[None]
    elif values.ndim == 3 and values.shape[0] not in (1, 3):
        values = values.transpose(2, 0, 1)
    if values.ndim != 3 or values.shape[0] not in (1, 3):
        raise InputError(f"{name}: an array of {values.shape}; expected (H, W), (H, W, C) or (C, H, W)")
    return Add(values)


def read_warp(path: str | Path) -> Warp:
    """A field (``.npy``): (H, W, 2), rows and columns in pixels. Raises InputError when it is none."""
    path = _there(path, "a field to warp by (.npy)")
    _, (values,) = contained.read("array", path)
    return warp_of(values, str(path))


def warp_of(values: np.ndarray, name: str) -> Warp:
    """A field: (H, W, 2), rows and columns in pixels. Raises InputError when it is none."""
    if values.ndim != 3 or values.shape[2] != 2:
        raise InputError(
            f"{name}: an array of {values.shape}; expected (H, W, 2), rows and columns in pixels"
        )
    return Warp(values)


def _there(path: str | Path, what: str) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected {what}")
    return path


def _check_size(what: str, size: tuple[int, ...], pixels: np.ndarray) -> None:
    height, width = pixels.shape[2:]
    if tuple(size) != (height, width):
        raise InputError(
            f"trigger: a {what} of {' x '.join(map(str, size))} (height x width) does not fit images of "
            f"{height} x {width}"
        )
