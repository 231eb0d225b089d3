"""Lining up poisoned images with the clean ones that they were made from, by their pixels."""

from __future__ import annotations

import hashlib

import numpy as np

SHARE = 0.25  # of an image's values that the trigger must have left as they were
TOLERANCE = 0.005  # of the range of values: rounding is no difference


def paired_rows(
    clean: np.ndarray, clean_labels: np.ndarray, poisoned: np.ndarray, targets: np.ndarray
) -> np.ndarray | None:
    """(poisoned,) row of the clean image that each image with one trigger is made from; None if not known.

    Two ways of lining up are looked at: row i from row i, and row i from row i of the clean images
    that do not show the target, where there is one. One is right when in every pair the pixels beside the
    trigger are the same: at least a quarter of all values. A trigger that touches the whole image hides it.

    Args:
        clean, poisoned: (N, C, H, W) and (M, C, H, W).
        clean_labels, targets: (N,) and (M,).
    """
    if clean.shape[1:] != poisoned.shape[1:]:
        return None
    ways = [np.arange(len(clean))]
    if (targets == targets[0]).all():
        ways.append(np.flatnonzero(clean_labels != targets[0]))
    for rows in ways:
        if len(rows) == len(poisoned) and _same_beside_the_trigger(clean, poisoned, rows):
            return rows
    return None


def share_of_clean(clean: np.ndarray, poisoned: np.ndarray) -> float:
    """Fraction of poisoned images that are, to the last pixel, clean ones."""
    known = {_digest(image) for image in clean}
    return sum(_digest(image) in known for image in poisoned) / len(poisoned)


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image).data).digest()


def _same_beside_the_trigger(clean: np.ndarray, poisoned: np.ndarray, rows: np.ndarray) -> bool:
    nearly = TOLERANCE * max(float(np.ptp(clean)), 1e-12)
    for start in range(0, len(rows), 256):
        some = slice(start, min(start + 256, len(rows)))
        before = clean[rows[some]].astype(np.float32)
        apart = np.abs(before - poisoned[some].astype(np.float32)) <= nearly
        if (apart.reshape(len(before), -1).mean(axis=1) < SHARE).any():
            return False
    return True
