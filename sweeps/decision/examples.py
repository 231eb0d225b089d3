"""A few test images without and with the trigger, and what both networks say to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_core.data.images import LabeledImages, Split
from prune_core.data.pairs import find_pairs, known_truth
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.masks import ChannelMask
from sweeps.decision.images import black_and_white, png

MOST = 4  # examples, when there is one trigger
EACH = 2  # of every trigger, when there are several
TRIGGERS = 4  # that are shown

Json = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """Attributes:
    told: classes that are shown, wanted and said: the JSON of an example.
    clean, triggered, difference: PNG pictures; None where the image without the trigger is not known.
    """

    told: Json
    triggered: bytes
    clean: bytes | None = None
    difference: bytes | None = None


def examples(
    test: PlainEvaluator, goodnet: tuple[PlainEvaluator, ChannelMask] | None = None
) -> list[Example]:
    """Test images at even distances, so that nobody has chosen them.

    Args:
        test: of the BadNet, on the test split. goodnet: the same of the GoodNet, and its mask.
    """
    split = test.split
    rows = shown_rows(split)
    pairs = find_pairs(split)
    truth = known_truth(split, pairs)
    poisoned = split.poisoned.keeping(rows)
    clean = None if pairs is None else split.clean.keeping(pairs[rows])
    said = {"badnet": _said(test, ChannelMask(), clean, poisoned)}
    if goodnet is not None:
        said["goodnet"] = _said(*goodnet, clean, poisoned)
    low, high = black_and_white(split.clean.pixels)
    found = []
    for at, row in enumerate(rows.tolist()):
        triggers = split.poisoned.triggers
        told: Json = {
            "row": row,
            "trigger": 0 if triggers is None else int(triggers[row]),
            "shows": None if truth is None else int(truth[row]),
            "target": int(split.targets[row]),
            **{net: {side: int(c[at]) for side, c in classes.items()} for net, classes in said.items()},
        }
        marked = poisoned.pixels[at]
        if clean is None:
            found.append(Example(told, png(marked, low, high)))
            continue
        plain = clean.pixels[at]
        apart = marked.astype(np.float64) - plain.astype(np.float64)
        found.append(
            Example(
                told,
                png(marked, low, high),
                png(plain, low, high),
                png(apart, low - high, high - low),  # grey where nothing was changed
            )
        )
    return found


def shown_rows(split: Split) -> np.ndarray:
    """Rows of poisoned images, at even distances, of up to ``TRIGGERS`` triggers."""
    heaps = [np.arange(len(split.poisoned))[rows] for rows in split.rows_by_trigger]
    each = MOST if len(heaps) == 1 else EACH
    found = [heap[np.unique(np.linspace(0, len(heap) - 1, each).round().astype(int))] for heap in heaps]
    return np.concatenate(found[:TRIGGERS])


def _said(
    net: PlainEvaluator, mask: ChannelMask, clean: LabeledImages | None, poisoned: LabeledImages
) -> dict[str, np.ndarray]:
    """(images,) the classes that a network gives, of each side."""
    said = {} if clean is None else {"clean": net.reply(clean, mask).classes}
    return {**said, "triggered": net.reply(poisoned, mask).classes}
