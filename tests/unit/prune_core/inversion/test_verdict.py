"""Verdicts from anomalies, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from prune_core.inversion.anomaly import Others
from prune_core.inversion.found import FoundTrigger
from prune_core.inversion.margins import Margins
from prune_core.inversion.plan import Plan
from prune_core.inversion.verdict import Candidate, concluded

PLAN = Plan(tuple(range(10)), ("patch",), 150, False)


FLAT = np.full((10, 2), 20.0)


def margins(greatest: dict[int, float] | None = None) -> Margins:
    """20 logits of every class, and others of some."""
    found = FLAT.copy()
    for one, margin in (greatest or {}).items():
        found[one, 1] = margin
    return Margins(np.arange(10), found)


def candidate(target: int, size: float, *anomalies: float, kind: str = "patch") -> Candidate:
    flat = np.zeros((1, 1, 1), np.float32)
    trigger = FoundTrigger(target, kind, flat, flat[0], size, 9, 10, np.array([[0, 255]], np.float32))
    return Candidate(trigger, anomalies, None, None, Others(4.0, 0.25, 10))


@pytest.mark.parametrize(
    ("given", "verdict", "suspected"),
    [
        ([candidate(1, 4.6, 10.3), candidate(5, 5.3, 10.0)], "suspected", (1, 5)),
        # A class that is only easier beside the target is none; of another kind it is one of its own.
        ([candidate(2, 0.008, 11.9), candidate(7, 0.019, 7.6)], "suspected", (2,)),
        ([candidate(2, 0.008, 11.9, kind="add"), candidate(7, 4.0, 7.6)], "suspected", (2, 7)),
        ([candidate(4, 33.0, 2.6, 3.2, 4.1)], "cannot tell", ()),
        # The median over starts counts.
        ([candidate(4, 33.0, 2.6, 2.7, 9.0)], "nothing found", ()),
        ([candidate(4, 33.0, -np.inf, -np.inf, 9.0)], "nothing found", ()),
        ([], "nothing found", ()),
    ],
)
def test_verdicts(given, verdict, suspected) -> None:
    found, why, named = concluded(given, margins(), PLAN, 150)
    assert (found, named) == (verdict, suspected) and why


def times(anomaly: float) -> float:
    """The margin that lies so far above 20 logits: a spread below 0.2 counts as 0.2."""
    return 20.0 * math.exp(0.2 * anomaly)


@pytest.mark.parametrize(
    ("greatest", "given", "verdict", "suspected"),
    [
        ({3: times(5.1)}, [], "suspected", (3,)),
        ({3: times(4.9)}, [], "cannot tell", ()),
        ({3: times(2.9)}, [], "nothing found", ()),
        # Two of their own; a third, less than half as large, is only easier beside them.
        ({3: times(12.0), 5: times(11.0), 6: times(5.1)}, [], "suspected", (3, 5)),
        # Both less far, and of one class: 3.6 and 3.6 are 5.1 together.
        ({3: times(3.6)}, [candidate(3, 30.0, 3.6)], "suspected", (3,)),
        ({3: times(3.6)}, [candidate(4, 30.0, 3.6)], "cannot tell", ()),
        ({3: times(2.2)}, [candidate(3, 30.0, 3.6)], "cannot tell", ()),
    ],
)
def test_verdicts_with_margins(greatest, given, verdict, suspected) -> None:
    found, why, named = concluded(given, margins(greatest), PLAN, 150)
    assert (found, named) == (verdict, suspected) and why


def test_too_few_to_tell() -> None:
    far = [candidate(1, 4.6, 10.3)]
    assert concluded(far, margins(), Plan((0, 1), ("patch",), 150, False), 150)[0] == "cannot tell"
    assert concluded(far, margins(), PLAN, 29)[0] == "cannot tell"
