"""What a GoodNet costs: clean accuracy against the BadNet's, of all images and by class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prune_core.counts import Counts

SHOWN = 8  # classes that are named; the rest is counted
LEAST = 2  # images: a class that lost fewer is not named


def price(badnet: Counts, net: Counts) -> dict[str, Any]:
    """Of one split: clean images ``lost`` (right in the BadNet and no more, less those won; negative when
    there are more right), of ``images``, and ``points`` of clean accuracy."""
    return {
        "lost": badnet.clean_correct - net.clean_correct,
        "images": net.clean_total,
        "points": float(net.clean_accuracy_fell(since=badnet)),
    }


def prices(badnet: Mapping[str, Counts], net: Mapping[str, Counts]) -> dict[str, Any]:
    """``price`` of each split that is in both."""
    return {split: price(badnet[split], counts) for split, counts in net.items() if split in badnet}


def losing_classes(labels: np.ndarray, badnet: np.ndarray, net: np.ndarray) -> list[dict[str, int]]:
    """Classes that lose a larger share of their images than the whole does, the largest loss first.

    Args:
        labels: (N,) of the clean images. badnet, net: (N,) the classes that each gives.
    Returns each with ``class``, ``images``, and how many of them are right: ``badnet``, ``goodnet``.
    """
    size = int(labels.max()) + 1
    totals = np.bincount(labels, minlength=size)
    before = np.bincount(labels[badnet == labels], minlength=size)
    after = np.bincount(labels[net == labels], minlength=size)
    lost = before - after
    more = lost * len(labels) > lost.sum() * totals  # in whole images: no rounding
    found = [
        {"class": c, "images": int(totals[c]), "badnet": int(before[c]), "goodnet": int(after[c])}
        for c in np.flatnonzero(more & (lost >= LEAST)).tolist()
    ]
    return sorted(found, key=lambda row: (row["goodnet"] - row["badnet"], row["class"]))


def price_words(found: Mapping[str, Any]) -> str:
    """``3.75 points below the BadNet's (15 of 400 images)``."""
    points, lost = found["points"], found["lost"]
    side = "above" if points < 0 else "below"
    return f"{abs(points):.2f} points {side} the BadNet's ({abs(lost)} of {found['images']} images)"


def class_lines(classes: Sequence[Mapping[str, int]]) -> list[str]:
    """One for each class that loses more than the whole, as many as are named."""
    lines = [
        f"class {row['class']}: {row['badnet']} of {row['images']} right in the BadNet, {row['goodnet']} now"
        for row in classes[:SHOWN]
    ]
    if len(classes) > SHOWN:
        lines.append(f"and {len(classes) - SHOWN} more classes")
    return lines
