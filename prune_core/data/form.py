"""How image files are to be read, and what is done to their pixels on the way into the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from prune_core.data.arrays import checked_target
from prune_core.data.attack import NEXT, Target
from prune_core.errors import InputError

Layout = Literal["NCHW", "NHWC"]
ROLES = ("images", "label", "target", "true_label")


@dataclass(frozen=True)
class Preprocessing:
    """(pixels * scale - mean) / std, per channel: what the network gets.

    Attributes:
        scale: above 0; 1 leaves pixels as they are.
        mean, std: one value, or one for each channel, in units of the scaled pixels; std above 0.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @classmethod
    def of(cls, scale: Any = 1.0, mean: Any = 0.0, std: Any = 1.0) -> Preprocessing:
        """Of numbers as callers give them. Raises InputError that names the argument."""
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
            raise InputError(f"scale is {scale!r}; expected a number above 0 that pixels are multiplied by")
        return cls(float(scale), _values(mean, "mean"), _values(std, "std"))

    @property
    def normalizes(self) -> bool:
        """Whether mean or std do anything."""
        return any(self.mean) or any(s != 1 for s in self.std)

    def check(self, channels: int, name: str) -> None:
        """Raises InputError where mean or std are of another number of channels."""
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, channels):
                raise InputError(
                    f"data.{what} has {len(values)} values, but images of {name} have {channels} "
                    f"channel{'s' * (channels != 1)}; expected one value, or {channels}"
                )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """float32 of the shape of ``pixels`` (n, C, H, W)."""
        made = pixels.astype(np.float32)
        if self.scale != 1.0:
            made = made * np.float32(self.scale)
        if self.normalizes:
            mean, std = (np.asarray(v, np.float32).reshape(1, -1, 1, 1) for v in (self.mean, self.std))
            made = (made - mean) / std
        return made

    def __str__(self) -> str:
        """As a formula for people; "" where nothing is done."""
        scaled = "" if self.scale == 1 else f" times {self.scale:.9g}"
        if not self.normalizes:
            return scaled
        return f"{scaled}, then minus {_told(self.mean)} and divided by {_told(self.std)}"

    def to_json(self) -> dict[str, Any]:
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class ImageForm:
    """What the values in image files mean.

    Attributes:
        layout: of arrays, NCHW or NHWC. None: NCHW in HDF5 files; elsewhere found where that is clear.
        keys: the names that fields have in the files, by their role: images, label, target, true_label.
            Roles without one are found by the usual names.
        classes: names of class folders, in the order of the classes' indices. Empty: sorted, or the
            indices themselves where all names are whole numbers.
        target: the class that the attacker wants, for poisoned files that hold true labels alone; ``next``:
            the class after the true one.
        preprocessing: what is done to the pixels on the way into the network.
    """

    layout: Layout | None = None
    keys: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    target: Target | None = None
    preprocessing: Preprocessing = Preprocessing()

    @classmethod
    def of(
        cls,
        layout: str | None,
        keys: Mapping[str, str] | None,
        classes: Sequence[str],
        target: Any,
        preprocessing: Preprocessing,
    ) -> ImageForm:
        """Raises InputError for a layout or role that there is not, and for a class named twice."""
        if layout not in (None, "NCHW", "NHWC"):
            raise InputError(f"layout is {layout!r}; expected NCHW or NHWC")
        keys = dict(keys or {})
        for role, name in keys.items():
            if role not in ROLES:
                raise InputError(f"keys has no role {role!r}; expected {', '.join(ROLES)}")
            if not isinstance(name, str) or not name:
                raise InputError(f"keys.{role} is {name!r}; expected the name of a field in the image files")
        if len(set(keys.values())) < len(keys):
            raise InputError("keys names one field twice; expected one for each role")
        if len(set(classes)) < len(classes):
            raise InputError("classes names one class twice")
        if target is not None and target != NEXT:
            target = checked_target(target)
        return cls(layout, keys, tuple(classes), target, preprocessing)  # type: ignore[arg-type]


USUAL = ImageForm()


def _values(given: Any, name: str) -> tuple[float, ...]:
    values = (
        tuple(given) if isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str) else (given,)
    )
    lowest = -math.inf if name == "mean" else 0.0
    for value in values:
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not lowest < value < math.inf:
            kind = "a finite number" if name == "mean" else "a number above 0"
            raise InputError(f"{name} holds {value!r}; expected {kind}, or one for each channel")
    if not values:
        raise InputError(f"{name} is empty; expected a number, or one for each channel")
    return tuple(float(value) for value in values)


def _told(values: tuple[float, ...]) -> str:
    told = ", ".join(f"{value:.6g}" for value in values)
    return told if len(values) == 1 else f"({told})"
