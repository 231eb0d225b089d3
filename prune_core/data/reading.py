"""Files of images, by way of the reader process -> images with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from prune_core.data.form import USUAL, ImageForm
from prune_core.data.labeled import LabeledImages
from prune_core.data.roles import clean_roles, poisoned_roles
from prune_core.errors import InputError
from prune_core.reader import client as contained

Files = str | Path | Sequence[str | Path]


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
    return parts[0] if len(parts) == 1 else joined(parts)


def read_poisoned(places: Files, form: ImageForm, classes: tuple[str, ...] = ()) -> list[LabeledImages]:
    """The images of each trigger. ``classes``: as of ``read_images``. Raises InputError."""
    files = [places] if isinstance(places, (str, Path)) else places
    return [read_images(file, form, poisoned=True, classes=classes) for file in files]


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


def joined(parts: list[LabeledImages]) -> LabeledImages:
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
