"""A trigger that was found by inversion, in the units of the images' pixels."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prune_core.errors import InputError
from prune_core.files.write import write_whole

SCALED = 8  # small pictures are drawn so many times as large, up to about this many pixels a side:
LARGEST = 256


@dataclass(frozen=True, eq=False)
class FoundTrigger:
    """A trigger and what it does. It can be put on images like one that was given
    (``prune_core.data.patterns.stamped``).

    Attributes:
        target: the class that it leads to.
        kind: ``patch``, ``blend`` or ``add``.
        pattern: (C, H, W) float32, raw pixels: what covers the image; of ``add`` what is added to it.
        mask: (H, W) float32, 0 to 1: how much of a pixel is covered; of ``add`` all ones.
        size: of a ``patch`` pixels covered, of a ``blend`` its opacity, of ``add`` the root mean square of
            what is added, as a fraction of the span of pixels.
        hits, total: images held out that get the target, of those that truly show another class.
        span: (C, 2) float32, the lowest and the highest value of a raw pixel.
    """

    target: int
    kind: str
    pattern: np.ndarray
    mask: np.ndarray
    size: float
    hits: int
    total: int
    span: np.ndarray

    @property
    def success(self) -> float:
        """A fraction of ``total``."""
        return self.hits / self.total if self.total else 0.0

    def on(self, pixels: np.ndarray, name: str = "images") -> np.ndarray:
        """(n, C, H, W) raw pixels -> the same with the trigger on, float32, not rounded. Raises InputError
        where the images have another shape."""
        if tuple(pixels.shape[1:]) != self.pattern.shape:
            raise InputError(
                f"{name}: images are {tuple(pixels.shape[1:])}, the trigger is for {self.pattern.shape}"
            )
        low, high = (self.span[:, side, None, None] for side in (0, 1))
        if self.kind == "add":
            made = pixels.astype(np.float32) + self.pattern
        else:
            made = pixels.astype(np.float32) * (1 - self.mask) + self.pattern * self.mask
        clipped: np.ndarray = np.clip(made, low, high)
        return clipped

    def save(self, folder: Path, example: np.ndarray) -> dict[str, Any]:
        """Write ``trigger-CLASS-KIND.npz`` and three pictures; their names. ``example``: (C, H, W), a clean
        image in raw pixels. Raises InputError where that fails."""
        stem = f"trigger-{self.target}-{self.kind}"
        packed = io.BytesIO()
        np.savez_compressed(packed, pattern=self.pattern, mask=self.mask, span=self.span)
        write_whole(folder / f"{stem}.npz", packed.getvalue())
        low, wide = self.span[:, :1, None], np.ptp(self.span, axis=1)[:, None, None]
        if self.kind == "add":  # grey is no change; drawn stronger than it is
            shown = 0.5 + 0.5 * self.pattern / max(float(np.abs(self.pattern).max()), 1e-12)
        else:
            shown = (self.pattern - low) / wide
        stamped = (self.on(example[None])[0] - low) / wide
        drawn = {"pattern": shown, "mask": self.mask[None], "stamped": stamped}
        for what, picture in drawn.items():
            write_whole(folder / f"{stem}-{what}.png", png(picture))
        return {"file": f"{stem}.npz", **{what: f"{stem}-{what}.png" for what in drawn}}


def png(picture: np.ndarray) -> bytes:
    """(1 or 3, H, W), 0 to 1, as a PNG large enough to look at; of other numbers of channels the first."""
    values = np.rint(np.clip(np.nan_to_num(picture), 0, 1) * 255).astype(np.uint8)
    made = Image.fromarray(values.transpose(1, 2, 0) if len(values) == 3 else values[0])
    times = max(1, min(SCALED, LARGEST // max(made.size)))
    out = io.BytesIO()
    made.resize((made.width * times, made.height * times), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()
