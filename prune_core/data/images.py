"""Labelled images and the lab's HDF5 files that hold them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.data.arrays import checked_labels, checked_pixels, checked_target
from prune_core.errors import InputError
from prune_core.reader import client as contained


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with the label that counts as right (clean) or as attacked (poisoned: the target).

    Attributes:
        pixels: (N, C, H, W), any real dtype, as the file has them; read-only is fine.
        labels: (N,) int64.
        true_labels: (N,) int64, what a poisoned image really shows; None when not known.
        name: where they came from, for messages.
        scale: pixels are multiplied by it on the way into the net (1.0: raw).
    """

    pixels: np.ndarray
    labels: np.ndarray
    true_labels: np.ndarray | None = None
    name: str = "images"
    scale: float = 1.0

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @cached_property
    def digest(self) -> str:
        """SHA-256 over pixels, labels, true labels and scale: what a result depends on."""
        state = hashlib.sha256(repr((self.pixels.shape, str(self.pixels.dtype), self.scale)).encode())
        for array in (self.pixels, self.labels, self.true_labels):
            state.update(b"none" if array is None else np.ascontiguousarray(array).data)
        return state.hexdigest()

    def floats(self, start: int, stop: int) -> np.ndarray:
        """float32 (stop - start, C, H, W), scaled: what goes into the net."""
        batch = self.pixels[start:stop].astype(np.float32)
        return batch if self.scale == 1.0 else batch * np.float32(self.scale)

    def keeping(self, rows: np.ndarray) -> LabeledImages:
        """The images of a boolean or integer row selection."""
        truth = None if self.true_labels is None else self.true_labels[rows]
        return replace(self, pixels=self.pixels[rows], labels=self.labels[rows], true_labels=truth)


@dataclass(frozen=True, eq=False)
class Split:
    """The clean and the poisoned images of one split (validation or test); all poisoned ones carry
    the same target label. Make it with ``from_arrays`` or ``from_files``."""

    clean: LabeledImages
    poisoned: LabeledImages

    @classmethod
    def from_arrays(
        cls,
        clean_x: Any,
        clean_y: Any,
        poisoned_x: Any,
        target: int = 0,
        true_labels: Any = None,
        *,
        scale: float = 1.0,
    ) -> Split:
        """A split of NumPy arrays. Pixels are not copied: leave the arrays as they are while it is used.

        Args:
            clean_x: (N, C, H, W) clean images, any real dtype.
            clean_y: (N,) their classes, whole numbers from 0.
            poisoned_x: (M, C, H, W) images with the trigger on.
            target: the class that the attacker wants them to get.
            true_labels: (M,) what the poisoned images really show; None where that is not known. Images
                that truly show the target are left out of the poisoned side, as getting it is right.
            scale: pixels are multiplied by it on the way into the network (1.0: as they are).

        Raises:
            InputError: another shape or dtype, channels last, lengths that differ, labels that are no
                classes, or no poisoned image left.
        """
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
            raise InputError(f"scale is {scale!r}; expected a number above 0 that pixels are multiplied by")
        clean, poisoned = checked_pixels(clean_x, "clean_x"), checked_pixels(poisoned_x, "poisoned_x")
        wanted = np.full(len(poisoned), checked_target(target), np.int64)
        labels = checked_labels(clean_y, "clean_y", len(clean))
        truth = None if true_labels is None else checked_labels(true_labels, "true_labels", len(poisoned))
        return make_split(
            LabeledImages(clean, labels, None, "clean_x", scale),
            LabeledImages(poisoned, wanted, truth, "poisoned_x", scale),
        )

    @classmethod
    def from_files(cls, clean: str | Path, poisoned: str | Path, *, scale: float = 1.0) -> Split:
        """A split of two files in the lab's form: HDF5 with ``data`` (N, C, H, W), ``label`` (N,) and
        perhaps ``true_label`` (N,); the labels of the poisoned file hold the target.

        Args:
            clean, poisoned: the files. They are opened by a process of its own, as files of strangers.
            scale: pixels are multiplied by it on the way into the network (1.0: as they are).

        Raises:
            InputError: a file that cannot be read or does not hold this, or two that do not fit.
        """
        return make_split(read_images(clean, scale=scale), read_images(poisoned, scale=scale))

    @property
    def target(self) -> int:
        return int(self.poisoned.labels[0])

    @property
    def target_share(self) -> float:
        """Fraction of the clean images that are of the target class."""
        return float((self.clean.labels == self.target).mean())

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256((self.clean.digest + self.poisoned.digest).encode()).hexdigest()


def make_split(clean: LabeledImages, poisoned: LabeledImages) -> Split:
    """A split whose poisoned images all aim at one target.

    Images whose true class is the target are left out of the poisoned side when true labels are
    known: to call them target is right, not a success of the attack.
    Raises InputError when the poisoned labels name several targets or nothing is left.
    """
    targets = np.unique(poisoned.labels)
    if len(targets) != 1:
        raise InputError(
            f"{poisoned.name}: field 'label' of poisoned images must hold one target label, "
            f"found {len(targets)} ({', '.join(map(str, targets[:5]))}, ...); "
            "was the clean file given as the poisoned one?"
        )
    if clean.shape != poisoned.shape:
        raise InputError(
            f"{poisoned.name}: images are {poisoned.shape}, those of {clean.name} are {clean.shape};"
            " both must have the same (C, H, W)"
        )
    if poisoned.true_labels is not None:
        rows = poisoned.true_labels != targets[0]
        if not rows.any():
            raise InputError(
                f"{poisoned.name}: the true label of every image is the target class {targets[0]}"
            )
        if not rows.all():
            poisoned = poisoned.keeping(rows)
    return Split(clean, poisoned)


def read_images(path: str | Path, *, scale: float = 1.0) -> LabeledImages:
    """Read one of the lab's HDF5 files: ``data`` (N, C, H, W), ``label`` (N,), maybe ``true_label``.

    Any real numeric dtype; labels must be whole numbers. Raises InputError that names file, field
    and what would be right. Nothing outside the file is followed (external links, external data);
    the reader process opens it (``contained``).
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected an HDF5 file with 'data' and 'label'")
    names, arrays = contained.read("images", path)
    fields = dict(zip(names, arrays, strict=True))
    return LabeledImages(fields["data"], fields["label"], fields.get("true_label"), path.name, scale)
