"""The look at the data, with the network asked: what ``doctor``, ``evaluate`` and a sweep begin with."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from prune_core.data.checks.findings import Answers, Finding, Seen, worst_first
from prune_core.data.checks.labels import check_classes_of_splits, check_labels_of
from prune_core.data.checks.pixels import check_ranges, check_readings, check_shift
from prune_core.data.checks.poison import check_poison
from prune_core.data.checks.repeated import check_repeats
from prune_core.data.checks.size import check_size, check_x
from prune_core.data.images import LabeledImages, Split
from prune_core.model.model import PrunableModel

LOOK_VERSION = 2  # of all rules together: what an earlier version has found is looked for again
BATCH = 128


def answers(model: PrunableModel, images: LabeledImages) -> Answers:
    """What the network, as it is, says of ``images``. Ties of float32 are left as they fall: no finding hangs
    on one image."""
    classes, above, number = np.empty(len(images), np.int64), np.empty(len(images), np.int64), 0
    for start in range(0, len(images), BATCH):
        rows = slice(start, min(start + BATCH, len(images)))
        logits = _logits(model, images, rows)
        number = logits.shape[1]
        labels = np.minimum(images.labels[rows], number - 1)
        classes[rows] = logits.argmax(axis=1)
        above[rows] = (logits > logits[np.arange(len(logits)), labels][:, None]).sum(axis=1)
    return Answers(classes, above, number)


def see(model: PrunableModel, name: str, split: Split) -> Seen:
    """``split`` with the network's answers; ``name``: "validation" or "test"."""
    return Seen(name, split, answers(model, split.clean), answers(model, split.poisoned))


def look(
    model: PrunableModel, valid: Split, test: Split | None = None, x: Iterable[float] = ()
) -> tuple[Finding, ...]:
    """All findings, errors first. Costs one pass of the network over every image, and nine more over at most
    200 clean ones where it is not right on nearly all.

    Args:
        x: the X (percentage points) that trials are to have.
    """
    seen = [see(model, "validation", valid)]
    if test is not None:
        seen.append(see(model, "test", test))
    return findings_of(model, seen, x)


def findings_of(model: PrunableModel, seen: list[Seen], x: Iterable[float] = ()) -> tuple[Finding, ...]:
    """``look`` on what has been seen already."""
    found = [*check_repeats(seen), *check_ranges(seen)]
    for split in seen:
        found += check_readings(split, lambda images: answers(model, images).classes)
        found += [*check_labels_of(split), *check_poison(split), *check_size(split)]
    found += [*check_shift(seen), *check_classes_of_splits(seen), *check_x(x, seen[0])]
    return worst_first(found)


def _logits(model: PrunableModel, images: LabeledImages, rows: slice) -> np.ndarray:
    with torch.no_grad():
        pixels = torch.from_numpy(images.floats(rows.start, rows.stop)).to(model.device)
        logits: np.ndarray = model.logits(pixels).cpu().numpy()
    return logits
