"""Found triggers in place of poisoned images: for those who have clean images alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from prune_core.data.images import LabeledImages
from prune_core.errors import InputError
from prune_core.inversion.found import FoundTrigger
from prune_core.inversion.kinds import KINDS
from prune_core.inversion.scan import scan, stages_of
from prune_core.inversion.search import Effort
from prune_core.model.model import PrunableModel

EFFORT = Effort(steps=100, images=32)
STARTS = 2
LEAST = 0.5  # success on held-out images, a fraction, from which a trigger is of use
MOST = 3  # suspected classes

Tell = Callable[[str, float], None]


def found_triggers(
    net: PrunableModel,
    clean: LabeledImages,
    target: int | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    out: str | Path | None = None,
    tell: Tell = lambda doing, share: None,
) -> list[FoundTrigger]:
    """Triggers that lead clean images to a class, one of each kind that works: the smallest of ``STARTS``
    searches.

    Args:
        net: left as found.
        clean: clean images with labels; half of those drawn are searched on, the others measure.
        target: the class; None for the classes that ``scan`` suspects.
        kinds, seed: as of ``scan``.
        out: a folder for finished searches, which are taken over.
        tell: what is being done and the fraction that is done.

    Raises:
        InputError: no class is suspected, no trigger works, or what ``scan`` says.
    """
    if target is not None:
        targets = [target]
    else:
        found = scan(net, clean, kinds=kinds, seed=seed, out=out, tell=tell)
        if not found.suspected:
            raise InputError(
                f"{net.name}: no class is suspected ({found.verdict}: {found.why}); name the target as "
                "target: K, or give poisoned images"
            )
        targets = list(found.suspected[:MOST])
    stages = stages_of(net, clean, classes=targets, kinds=kinds, seed=seed, out=out, tell=tell)
    made = []
    for kind in kinds:
        for number, one in enumerate(targets):
            tell(f"{kind} trigger for class {one}", number / len(targets))
            starts = [stages.searches.smallest([one], kind, EFFORT, start) for start in range(STARTS)]
            best = min(starts, key=lambda each: float(each.size[0]))
            hits, totals = stages.measured([one], best.stamps)
            trigger = stages.trigger(one, kind, best.stamps, int(hits[0]), int(totals[0]))
            if np.isfinite(float(best.size[0])) and trigger.success >= LEAST:
                made.append(trigger)
    if not made:
        raise InputError(
            f"{net.name}: no trigger leads half of the held-out clean images to class {targets[0]}; name "
            "another target, or give poisoned images"
        )
    return made
