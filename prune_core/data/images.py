"""Labelled images and the lab's HDF5 files that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.data.arrays import checked_labels, checked_pixels, checked_target
from prune_core.data.form import USUAL, ImageForm, Layout, Preprocessing
from prune_core.data.roles import clean_roles, poisoned_roles
from prune_core.errors import InputError
from prune_core.reader import client as contained

Files = str | Path | Sequence[str | Path]


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
        clean: Files,
        poisoned: Files,
        *,
        target: int | None = None,
        scale: float = 1.0,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        layout: Layout | None = None,
        keys: Mapping[str, str] | None = None,
    ) -> Split:
        """A split of files: HDF5, ``.npz`` or ``.parquet``, or folders of pictures, a folder a class.

        An HDF5 file has ``data`` (N, C, H, W), ``label`` (N,) and perhaps ``true_label`` (N,). In a poisoned
        file ``label`` is the target, unless there is a field ``target``, or one is given here: then it is
        what the images really show.

        Args:
            clean, poisoned: a path or several, to be joined. They are opened by a process of its own, as
                files of strangers.
            target: the class that the attacker wants, for poisoned files that do not hold it.
            scale, mean, std: as of ``from_arrays``.
            layout: "NCHW" or "NHWC", of arrays for which it cannot be told.
            keys: names of fields that are not the usual ones, by role: images, label, target, true_label.

        Raises:
            InputError: a file that cannot be read or does not hold this, or two that do not fit.
        """
        wanted = None if target is None else checked_target(target)
        form = ImageForm.of(layout, keys, (), wanted, Preprocessing.of(scale, mean, std))
        return read_split(clean, poisoned, form)

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


def read_images(
    place: Files, form: ImageForm = USUAL, *, poisoned: bool = False, classes: tuple[str, ...] = ()
) -> LabeledImages:
    """Images of a file or folder, or of several joined: HDF5 (``data`` (N, C, H, W), ``label`` (N,), maybe
    ``target`` and ``true_label``), ``.npz`` or ``.parquet`` with such fields, or a folder of pictures, a
    folder a class.

    Any real numeric dtype; labels must be whole numbers. Nothing outside a file or folder is followed, and
    the reader process opens it (``reader``).

    Args:
        place: the file or folder, or several.
        form: what the values in them mean.
        poisoned: ``labels`` are then the classes that the attacker wants (``roles.poisoned_roles``).
        classes: names of class folders by index, as other images of the same data have them.

    Raises:
        InputError: names file, field and what would be right.
    """
    places = [Path(p) for p in ((place,) if isinstance(place, (str, Path)) else place)]
    if not places:
        raise InputError("an empty list of image files; expected at least one")
    parts: list[LabeledImages] = []
    for path in places:
        known = form.classes or classes or (parts[0].classes if parts else ())
        parts.append(_read_one(path, form, poisoned, known))
    return parts[0] if len(parts) == 1 else _joined(parts)


def read_split(clean: Files, poisoned: Files, form: ImageForm = USUAL) -> Split:
    """``make_split`` of two ``read_images``; folders of both name the same classes. Raises InputError."""
    first = read_images(clean, form)
    return make_split(first, read_images(poisoned, form, poisoned=True, classes=first.classes))


def _read_one(path: Path, form: ImageForm, poisoned: bool, classes: tuple[str, ...]) -> LabeledImages:
    if not path.is_file() and not path.is_dir():
        raise InputError(
            f"{path}: no such file; expected an HDF5 file with 'data' and 'label', an .npz or .parquet file "
            "with such fields, or a folder of pictures"
        )
    flat = poisoned and form.target is not None
    said, arrays = contained.read(
        "images", path, layout=form.layout, keys=dict(form.keys), classes=classes, flat=flat
    )
    fields = dict(zip(said["fields"], arrays, strict=True))
    truth = None
    if poisoned:
        labels, truth = poisoned_roles(fields, path, form.target, said["true"])
    else:
        labels, truth = clean_roles(fields, path), fields.get("true_label")
    about = "; ".join(said["about"])
    return LabeledImages(
        fields["images"], labels, truth, path.name, form.preprocessing, tuple(said["classes"]), about
    )


def _joined(parts: list[LabeledImages]) -> LabeledImages:
    """Several as one, in their order. Raises InputError where they do not fit."""
    first = parts[0]
    for part in parts[1:]:
        for what, one, other in (
            ("of (C, H, W) =", first.shape, part.shape),
            ("of dtype", first.pixels.dtype, part.pixels.dtype),
            ("of classes", first.classes, part.classes),
        ):
            if one != other:
                raise InputError(
                    f"{part.name}: images {what} {other}, those of {first.name} {what} {one}; files of one "
                    "list must fit each other"
                )
    truths = [part.true_labels for part in parts]
    known = [truth for truth in truths if truth is not None]
    if len(known) not in (0, len(parts)):
        without = next(part.name for part in parts if part.true_labels is None)
        raise InputError(f"{without}: has no true labels, other files of its list have; expected all or none")
    return replace(
        first,
        pixels=np.concatenate([part.pixels for part in parts]),
        labels=np.concatenate([part.labels for part in parts]),
        true_labels=np.concatenate(known) if known else None,
        name=" + ".join(part.name for part in parts),
        about="; ".join(dict.fromkeys(part.about for part in parts if part.about)),
    )
