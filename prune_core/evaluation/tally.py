"""From what a net does with every poisoned image to counts, trigger by trigger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from prune_core.counts import Counts, TriggerCounts
from prune_core.data.images import Split
from prune_core.evaluation.numerics import margin_unit, rounded_margin


def counted(
    split: Split,
    clean_correct: int,
    attacked: np.ndarray,
    agreeing: np.ndarray,
    recovered: np.ndarray | None,
    margins: Sequence[float] | None,
) -> Counts:
    """The counts of a net.

    Args:
        attacked, agreeing, recovered: (poisoned images,) bool: gets its target, and so by the BadNet too,
            gets its true label. None where that is not known.
        margins: the rounded mean margin of each trigger; None when nobody asked.
    """
    each = [
        TriggerCounts(
            int(attacked[rows].sum()),
            int(agreeing[rows].sum()),
            len(attacked[rows]),
            None if margins is None else margins[number],
            None if recovered is None else int(recovered[rows].sum()),
        )
        for number, rows in enumerate(split.rows_by_trigger)
    ]
    return Counts.of(clean_correct, len(split.clean), each)


def margin_units(split: Split, badnet_margins: np.ndarray) -> tuple[float, ...]:
    """``margin_unit`` of each trigger; (poisoned images,) margins of the BadNet."""
    return tuple(margin_unit(badnet_margins[rows]) for rows in split.rows_by_trigger)


def mean_margins(
    split: Split,
    margins: np.ndarray,
    units: Sequence[float],
    tie: Callable[[int], float],
    exactly: Callable[[np.ndarray | slice], np.ndarray],
) -> list[float]:
    """The mean margin of each trigger in whole units.

    Args:
        margins: (poisoned images,) float64.
        tie: from a number of images to the relative error of the mean of so many (``rounded_margin``).
        exactly: from rows of poisoned images to their margins by the float64 network.
    """
    means = []
    for rows, unit in zip(split.rows_by_trigger, units, strict=True):
        mine = margins[rows]

        def asked(rows: np.ndarray | slice = rows) -> float:
            return float(exactly(rows).mean())

        means.append(rounded_margin(float(mine.mean()), unit, tie(len(mine)), asked))
    return means


def agreeing_with(counts: Counts, split: Split, agreeing: np.ndarray) -> Counts:
    """The same counts, with other images for those on which the BadNet agrees; (poisoned images,) bool."""
    each = [
        replace(one, attacked_agreeing=int(agreeing[rows].sum()))
        for one, rows in zip(counts.by_trigger, split.rows_by_trigger, strict=True)
    ]
    return Counts.of(counts.clean_correct, counts.clean_total, each)
