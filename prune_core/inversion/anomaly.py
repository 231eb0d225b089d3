"""How far below the others a size lies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOOR = 0.2  # natural logarithms; sizes nearer each other than searches from two starts tell nothing
APART = 3.0  # sizes so far below the others are no part of what they are compared with,
SHARE = 0.34  # up to this share of the classes


@dataclass(frozen=True)
class Others:
    """Median and spread (the scaled median absolute deviation) of the logarithm of the sizes that a class is
    compared with, and how many they are."""

    median: float
    spread: float
    count: int

    def anomaly(self, size: float) -> float:
        """Robust standard deviations by which a size lies below the median; negative above it."""
        return float((self.median - np.log(size)) / self.spread)


def others_of(sizes: np.ndarray) -> Others:
    """Of (classes,) sizes, those far below left out. An infinite one, of a class to which no trigger was
    found, counts as half as large again as the largest. Source: the anomaly index of Neural Cleanse (Wang et
    al., S&P 2019), on logarithms, since sizes are ratios."""
    finite = sizes[np.isfinite(sizes)]
    largest = 1.5 * finite.max() if len(finite) else 1.0
    logs = np.sort(np.log(np.where(np.isfinite(sizes), sizes, largest)))
    found = _of(logs)
    least = max(2, len(logs) - int(SHARE * len(logs)))
    while len(logs) > least and (found.median - logs[0]) / found.spread > APART:
        logs = logs[1:]
        found = _of(logs)
    return found


def _of(logs: np.ndarray) -> Others:
    median = float(np.median(logs))
    spread = 1.4826 * float(np.median(np.abs(logs - median)))
    return Others(median, max(spread, FLOOR), len(logs))
