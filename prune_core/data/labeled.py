"""Images with labels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from prune_core.data.form import Preprocessing


@dataclass(frozen=True, eq=False)
class LabeledImages:
    """Images with the label that counts as right (clean) or as attacked (poisoned: the target of each).

    Attributes:
        pixels: (N, C, H, W), any real dtype, as the file has them; read-only is fine.
        labels: (N,) int64.
        true_labels: (N,) int64, what a poisoned image really shows; None when not known.
        name: where they came from, for messages.
        preprocessing: what is done to the pixels on the way into the net; raw by default.
        classes: the names of the classes, by index, where they come from folders; () elsewhere.
        about: what had to be concluded on reading, in words; "" where nothing had.
        triggers: (N,) int64, the number of the trigger on each poisoned image; None where one is on all.
    """

    pixels: np.ndarray
    labels: np.ndarray
    true_labels: np.ndarray | None = None
    name: str = "images"
    preprocessing: Preprocessing = Preprocessing()
    classes: tuple[str, ...] = ()
    about: str = ""
    triggers: np.ndarray | None = None

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
        """SHA-256 over pixels, labels, true labels, triggers and preprocessing: what a result depends on."""
        done = self.preprocessing
        form: tuple[Any, ...] = (self.pixels.shape, str(self.pixels.dtype), done.scale)
        if done.normalizes:  # else as it has been without
            form += (done.mean, done.std)
        state = hashlib.sha256(repr(form).encode())
        for array in (self.pixels, self.labels, self.true_labels):
            state.update(b"none" if array is None else np.ascontiguousarray(array).data)
        if self.triggers is not None:
            state.update(np.ascontiguousarray(self.triggers).data)
        return state.hexdigest()

    def floats(self, start: int, stop: int) -> np.ndarray:
        """float32 (stop - start, C, H, W), preprocessed: what goes into the net."""
        return self.preprocessing(self.pixels[start:stop])

    def keeping(self, rows: np.ndarray | slice) -> LabeledImages:
        """The images of a boolean or integer row selection."""

        def kept(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[rows]

        return replace(
            self,
            pixels=self.pixels[rows],
            labels=self.labels[rows],
            true_labels=kept(self.true_labels),
            triggers=kept(self.triggers),
        )
