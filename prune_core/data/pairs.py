"""Which clean image each poisoned image was made from, found by looking at the pixels."""

from __future__ import annotations

import numpy as np

from prune_core.data.images import Split
from prune_core.data.pairing import paired_rows


def find_pairs(split: Split) -> np.ndarray | None:
    """(poisoned,) row of the clean image that each poisoned image is made from, looked for trigger by
    trigger (``pairing.paired_rows``); None if not known of all."""
    clean, poisoned = split.clean, split.poisoned
    found = np.empty(len(poisoned), np.int64)
    for rows in split.rows_by_trigger:
        one = paired_rows(clean.pixels, clean.labels, poisoned.pixels[rows], poisoned.labels[rows])
        if one is None:
            return None
        found[rows] = one
    return found


def known_truth(split: Split, pairs: np.ndarray | None) -> np.ndarray | None:
    """(poisoned,) what the poisoned images really show: as told, else the pairs' clean labels."""
    if split.poisoned.true_labels is not None:
        return split.poisoned.true_labels
    return None if pairs is None else split.clean.labels[pairs]
