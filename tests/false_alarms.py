"""What the look at the data finds wrong with data that are right, and with 200 draws of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from prune_core.data.checks.findings import Answers, Finding, Seen
from prune_core.data.checks.labels import check_classes_of_splits, check_labels_of
from prune_core.data.checks.pixels import check_ranges, check_shift
from prune_core.data.checks.poison import check_poison
from prune_core.data.checks.size import check_size
from prune_core.data.images import Split
from prune_core.evaluation.look import findings_of, see
from prune_core.model.model import PrunableModel

DRAWS = 200


def alarms(model: PrunableModel, splits: Iterable[Split], right: set[str]) -> Counter[str]:
    """How often each false alarm was given; ``right``: names of findings that are none, beside few images."""
    allowed = {"few-images", *right}
    seen = [see(model, what, split) for what, split in zip(("validation", "test"), splits, strict=True)]
    found = Counter(f.detail for f in findings_of(model, seen, (2, 4, 10)) if f.name not in allowed)
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        drawn = looked_at([part(s, rng) for s in seen])
        found.update(f.detail for f in drawn if f.name not in allowed)
    return found


def part(seen: Seen, rng: np.random.Generator) -> Seen:
    """A draw without replacement, of 300 images or more."""

    def rows(total: int) -> np.ndarray:
        return rng.permutation(total)[: int(rng.integers(min(300, total), total + 1))]

    clean, poisoned = rows(len(seen.split.clean)), rows(len(seen.split.poisoned))
    answers = [
        Answers(a.classes[r], a.above[r], a.number)
        for a, r in ((seen.clean, clean), (seen.poisoned, poisoned))
    ]
    return Seen(seen.name, seen.split.keeping(clean, poisoned), *answers)


def looked_at(parts: list[Seen]) -> list[Finding]:
    """All rules that a part may break where the whole does not, but those that ask the network again."""
    found = check_ranges(parts)
    for seen in parts:
        found += [*check_labels_of(seen), *check_poison(seen), *check_size(seen)]
    return [*found, *check_shift(parts), *check_classes_of_splits(parts)]
