"""Which clean image each poisoned image was made from, found by looking at the pixels."""

from __future__ import annotations

import numpy as np

from prune_core.data.images import LabeledImages, Split

SHARE = 0.25  # of an image's values that the trigger must have left as they were
TOLERANCE = 0.005  # of the range of values: rounding is no difference


def find_pairs(split: Split) -> np.ndarray | None:
    """(poisoned,) row of the clean image that each poisoned image is made from; None if not known.

    Two ways of lining up are looked at: row i from row i, and row i from row i of the clean images
    that do not show the target. One is right when in every pair the pixels beside the trigger are
    the same: at least a quarter of all values. A trigger that touches the whole image hides it.
    """
    clean, poisoned = split.clean, split.poisoned
    if clean.shape != poisoned.shape:
        return None
    for rows in (np.arange(len(clean)), np.flatnonzero(clean.labels != split.target)):
        if len(rows) == len(poisoned) and _same_beside_the_trigger(clean, poisoned, rows):
            return rows
    return None


def known_truth(split: Split, pairs: np.ndarray | None) -> np.ndarray | None:
    """(poisoned,) what the poisoned images really show: as told, else the pairs' clean labels."""
    if split.poisoned.true_labels is not None:
        return split.poisoned.true_labels
    return None if pairs is None else split.clean.labels[pairs]


def _same_beside_the_trigger(clean: LabeledImages, poisoned: LabeledImages, rows: np.ndarray) -> bool:
    nearly = TOLERANCE * max(float(np.ptp(clean.pixels)), 1e-12)
    for start in range(0, len(rows), 256):
        some = slice(start, min(start + 256, len(rows)))
        before = clean.pixels[rows[some]].astype(np.float32)
        apart = np.abs(before - poisoned.pixels[some].astype(np.float32)) <= nearly
        if (apart.reshape(len(before), -1).mean(axis=1) < SHARE).any():
            return False
    return True
