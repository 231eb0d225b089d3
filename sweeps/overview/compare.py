"""Sweeps side by side: one frontier over all of them, and where each of its states is from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from prune_core.errors import InputError
from prune_core.frontier import non_dominated
from sweeps.results import FrontierPoint
from sweeps.storage.manifest import Manifest

_WHAT = {"badnet": "another BadNet", "valid": "other validation data", "test": "other test data"}


def check_comparable(manifests: Sequence[Manifest]) -> None:
    """Rates on other images, or of another network, say nothing of each other. Raises InputError."""
    first = manifests[0]
    for other in manifests[1:]:
        for part, what in _WHAT.items():
            if other.digests[part] != first.digests[part]:
                raise InputError(
                    f"sweep {other.name!r} has {what} than sweep {first.name!r}, so their figures cannot be "
                    "compared; expected sweeps of one BadNet on the same images"
                )


def joint(frontiers: Mapping[str, Sequence[FrontierPoint]]) -> list[FrontierPoint]:
    """The states of several frontiers that none of them beats, by falling clean accuracy. A state that no
    other state of all sweeps beats is on the frontier of its own."""
    points = [point for each in frontiers.values() for point in each]
    points.sort(key=lambda p: (p.weights is not None, len(p.mask)))
    positions = non_dominated(
        np.array([p.valid.clean_accuracy for p in points]),
        np.array([p.valid.attack_success for p in points]),
    )
    return [points[i] for i in positions]
