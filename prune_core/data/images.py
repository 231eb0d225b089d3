"""Labelled images and the lab's HDF5 files that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.data.arrays import checked_labels, checked_pixels, checked_target
from prune_core.data.form import USUAL, ImageForm, Preprocessing
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
        preprocessing: what is done to the pixels on the way into the net; raw by default.
        classes: the names of the classes, by index, where they come from folders; () elsewhere.
        about: what had to be concluded on reading, in words; "" where nothing had.
    """

    pixels: np.ndarray
    labels: np.ndarray
    true_labels: np.ndarray | None = None
    name: str = "images"
    preprocessing: Preprocessing = Preprocessing()
    classes: tuple[str, ...] = ()
    about: str = ""

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def scale(self) -> float:
        """What pixels are multiplied by on the way into the net."""
        return self.preprocessing.scale

    @cached_property
    def digest(self) -> str:
        """SHA-256 over pixels, labels, true labels and preprocessing: what a result depends on."""
        done = self.preprocessing
        form: tuple[Any, ...] = (self.pixels.shape, str(self.pixels.dtype), done.scale)
        if done.normalizes:  # else as it has been without
            form += (done.mean, done.std)
        state = hashlib.sha256(repr(form).encode())
        for array in (self.pixels, self.labels, self.true_labels):
            state.update(b"none" if array is None else np.ascontiguousarray(array).data)
        return state.hexdigest()

    def floats(self, start: int, stop: int) -> np.ndarray:
        """float32 (stop - start, C, H, W), preprocessed: what goes into the net."""
        return self.preprocessing(self.pixels[start:stop])

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
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
    ) -> Split:
        """A split of NumPy arrays. Pixels are not copied: leave the arrays as they are while it is used.

        Args:
            clean_x: (N, C, H, W) clean images, any real dtype.
            clean_y: (N,) their classes, whole numbers from 0.
            poisoned_x: (M, C, H, W) images with the trigger on.
            target: the class that the attacker wants them to get.
            true_labels: (M,) what the poisoned images really show; None where that is not known. Images
                that truly show the target are left out of the poisoned side, as getting it is right.
            scale, mean, std: the network gets (pixels * scale - mean) / std; mean and std are one value,
                or one for each channel. The defaults leave pixels as they are.

        Raises:
            InputError: another shape or dtype, channels last, lengths that differ, labels that are no
                classes, or no poisoned image left.
        """
        done = Preprocessing.of(scale, mean, std)
        clean, poisoned = checked_pixels(clean_x, "clean_x"), checked_pixels(poisoned_x, "poisoned_x")
        wanted = np.full(len(poisoned), checked_target(target), np.int64)
        labels = checked_labels(clean_y, "clean_y", len(clean))
        truth = None if true_labels is None else checked_labels(true_labels, "true_labels", len(poisoned))
        return make_split(
            LabeledImages(clean, labels, None, "clean_x", done),
            LabeledImages(poisoned, wanted, truth, "poisoned_x", done),
        )

    @classmethod
    def from_files(
        cls,
        clean: str | Path,
        poisoned: str | Path,
        *,
        scale: float = 1.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
    ) -> Split:
        """A split of two files in the lab's form: HDF5 with ``data`` (N, C, H, W), ``label`` (N,) and
        perhaps ``true_label`` (N,); the labels of the poisoned file hold the target.

        Args:
            clean, poisoned: the files. They are opened by a process of its own, as files of strangers.
            scale, mean, std: as of ``from_arrays``.

        Raises:
            InputError: a file that cannot be read or does not hold this, or two that do not fit.
        """
        form = ImageForm(preprocessing=Preprocessing.of(scale, mean, std))
        return make_split(read_images(clean, form), read_images(poisoned, form))

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
    for images in (clean, poisoned):
        images.preprocessing.check(images.shape[0], images.name)
    if poisoned.true_labels is not None:
        rows = poisoned.true_labels != targets[0]
        if not rows.any():
            raise InputError(
                f"{poisoned.name}: the true label of every image is the target class {targets[0]}"
            )
        if not rows.all():
            poisoned = poisoned.keeping(rows)
    return Split(clean, poisoned)


def read_images(path: str | Path, form: ImageForm = USUAL) -> LabeledImages:
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
    return LabeledImages(
        fields["data"], fields["label"], fields.get("true_label"), path.name, form.preprocessing
    )
