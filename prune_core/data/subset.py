"""A part of a split that stands for it: of every class, and of every trigger, its share."""

from __future__ import annotations

import numpy as np

from prune_core.data.images import Split


def subset(split: Split, size: int, seed: int) -> Split | None:
    """``size`` clean and ``size`` poisoned images, drawn once by ``seed``; None where that is all of both.

    Clean images by class; poisoned ones by trigger, and in it by true label where that is known. Strata get
    whole images by the largest remainders; each trigger has one at least. Images stay in their order.
    """
    if size >= len(split.clean) and size >= len(split.poisoned):
        return None
    rng = np.random.default_rng([seed, size])
    clean = _drawn(split.clean.labels, size, rng)
    truth = split.poisoned.true_labels
    poisoned = []
    sizes = [len(split.targets[rows]) for rows in split.rows_by_trigger]
    for rows, share in zip(split.rows_by_trigger, _shares(sizes, size), strict=True):
        labels = split.targets if truth is None else truth
        every = np.arange(len(split.poisoned))[rows]
        poisoned.append(every[_drawn(labels[rows], max(1, share), rng)])
    return split.keeping(clean, np.sort(np.concatenate(poisoned)))


def _drawn(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Sorted row numbers, ``size`` of them or all, each class by its share."""
    if size >= len(labels):
        return np.arange(len(labels))
    classes, counts = np.unique(labels, return_counts=True)
    shares = _shares(counts.tolist(), size)
    each = [
        rng.choice(np.flatnonzero(labels == one), share, replace=False)
        for one, share in zip(classes, shares, strict=True)
    ]
    return np.sort(np.concatenate(each))


def _shares(sizes: list[int], total: int) -> list[int]:
    """``total`` in proportion to ``sizes``, in whole numbers, none above its size."""
    whole = sum(sizes)
    total = min(total, whole)
    shares = [total * size // whole for size in sizes]
    left = sorted(range(len(sizes)), key=lambda i: (-(total * sizes[i] % whole), i))
    for i in left[: total - sum(shares)]:
        shares[i] += 1
    return shares
