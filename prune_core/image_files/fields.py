"""What every kind of image file has in common: fields found by name, labels checked, pixels as NCHW."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prune_core.errors import InputError

MAX_BYTES = 16 * 2**30  # of pixels
# The usual names, the commonest first.
NAMES = {
    "images": ("data", "images", "x", "image", "img"),
    "label": ("label", "labels", "y"),
    "target": ("target",),
    "true_label": ("true_label", "true_labels"),
}
CHANNELS = (1, 3)


@dataclass(frozen=True)
class Wish:
    """What the reader is asked for; JSON on its way there.

    Attributes:
        layout: of arrays; None: found, where it is clear.
        keys: names of fields by role, where they are not the usual ones.
        classes: names of class folders in the order of their indices; () where they name themselves.
        flat: a folder may hold pictures without class folders; they have no label then.
    """

    layout: str | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    flat: bool = False


@dataclass
class Found:
    """What is in a file.

    Attributes:
        fields: ``images`` (N, C, H, W), and of ``label``, ``target``, ``true_label`` those that are
            there, each (N,) int64.
        classes: names of class folders by index, where names had to be sorted.
        true: ``label`` is what each image shows, whatever an attacker wants.
        about: what had to be concluded, one sentence each.
    """

    fields: dict[str, np.ndarray]
    classes: tuple[str, ...] = ()
    true: bool = False
    about: list[str] = field(default_factory=list)


def field_name(
    role: str, there: Collection[str], wish: Wish, path: Path, about: list[str], known: bool = True
) -> str | None:
    """The name of a role's field among those that are ``there``; None without one. ``known``: raises
    InputError for a name that was given and is not there."""
    given = wish.keys.get(role)
    if given is not None:
        if given not in there and not known:
            return None
        if given not in there:
            raise InputError(f"{path}: no field {given!r} (data.keys.{role}); found {listed(there)}")
        return given
    others = set(wish.keys.values())
    found = [n for usual in NAMES[role] for n in there if n.lower() == usual and n not in others]
    if len(found) > 1:
        about.append(f"{role} is field {found[0]!r}, {listed(found[1:])} left aside (data.keys)")
    return found[0] if found else None


def needed_field(role: str, there: Collection[str], wish: Wish, path: Path, about: list[str]) -> str:
    """As ``field_name``; raises InputError where there is none."""
    name = field_name(role, there, wish, path, about)
    if name is None:
        raise InputError(
            f"{path}: no field '{NAMES[role][0]}' (found {listed(there)}); expected one of "
            f"{', '.join(NAMES[role])}, or its name under data.keys.{role}"
        )
    return name


def listed(names: Collection[str]) -> str:
    """For messages; not all of very many."""
    return ", ".join(repr(name[:60]) for name in list(names)[:8]) or "nothing"


def checked_labels(values: np.ndarray, path: Path, name: str, rows: int) -> np.ndarray:
    """(rows,) int64 of (rows,) or (rows, 1) whole numbers from 0. Raises InputError."""
    if values.shape not in ((rows,), (rows, 1)):
        raise InputError(
            f"{path}: field '{name}' has shape {values.shape}; expected ({rows},), one for each image"
        )
    values = values.reshape(rows)
    if values.dtype.kind not in "uifb":
        raise InputError(f"{path}: field '{name}' has dtype {values.dtype}; expected class indices")
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values % 1 == 0).all()):
        raise InputError(f"{path}: field '{name}' must hold whole numbers (class indices)")
    labels = values.astype(np.int64)
    if (labels < 0).any():
        raise InputError(f"{path}: field '{name}' holds negative labels; classes count from 0")
    return labels


def checked_target(values: np.ndarray, path: Path, name: str, rows: int) -> np.ndarray:
    """(rows,) int64 of one class for all images, or one for each. Raises InputError."""
    one = values.shape in ((), (1,))
    return checked_labels(np.broadcast_to(values.reshape(-1), (rows,)) if one else values, path, name, rows)


def as_nchw(pixels: np.ndarray, path: Path, name: str, layout: str | None, about: list[str]) -> np.ndarray:
    """(N, C, H, W) of (N, C, H, W), (N, H, W, C) or, with one channel, (N, H, W); checked. With no layout
    asked for, the axis that holds 1 or 3 values is the channels'. Raises InputError where that is unclear.
    """
    if pixels.ndim == 3 and layout is None:
        about.append(f"images of shape {pixels.shape} are grey")
        pixels, layout = pixels[:, None], "NCHW"
    if pixels.ndim != 4:
        raise InputError(
            f"{path}: field '{name}' has shape {pixels.shape}; expected rank 4: (N, C, H, W) or (N, H, W, C)"
        )
    if pixels.size == 0:
        raise InputError(f"{path}: field '{name}' is empty; at least one image is needed")
    if layout is None:
        first, last = (pixels.shape[axis] in CHANNELS for axis in (1, 3))
        if first == last:
            raise InputError(
                f"{path}: field '{name}' has shape {pixels.shape}, whose axis of channels cannot be told; "
                "say data.layout: NCHW or NHWC"
            )
        layout = "NCHW" if first else "NHWC"
        about.append(f"images of shape {pixels.shape} are {layout}")
    if layout == "NHWC":
        pixels = pixels.transpose(0, 3, 1, 2)
    finite(pixels, path, name)
    return pixels


def finite(pixels: np.ndarray, path: Path, name: str) -> None:
    """Raises InputError for NaN and infinities."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{path}: field '{name}' holds NaN or infinite pixels; expected finite numbers")
