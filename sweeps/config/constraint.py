"""``sweep.constraint``: what a state has to be, as ``attack_success <= 0.05``."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prune_core.counts import Counts, exact_points

# By metric, on validation: the sign that makes sense, and the largest bound.
METRICS = {"attack_success": ("<=", 1.0), "clean_accuracy": (">=", 1.0), "accuracy_drop": ("<=", 100.0)}
_FORM = re.compile(r"\s*([A-Za-z_.-]+)\s*(<=|>=|==|=|<|>)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """``metric`` at most, or of clean accuracy at least, ``bound``: fractions; an accuracy drop in
    percentage points below the BadNet."""

    metric: str
    bound: float

    @classmethod
    def read(cls, text: str) -> Constraint:
        """Raises ValueError, in which the right form is told."""
        found = _FORM.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r}; expected a metric, <= or >= and a number, as in attack_success <= 0.05"
            )
        metric, sign, number = found.groups()
        if metric not in METRICS:
            near = difflib.get_close_matches(metric, METRICS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(METRICS)}"
            raise ValueError(f"unknown metric {metric!r} in {text!r}; {hint}")
        right, most = METRICS[metric]
        if sign != right:
            raise ValueError(f"{text!r}; expected {metric} {right} a number")
        try:
            bound = float(number)
        except ValueError:
            bound = math.nan
        if not 0 <= bound <= most:  # also for NaN
            unit = "a fraction from 0 to 1 (0.05 is 5 %)" if most == 1 else "percentage points from 0 to 100"
            raise ValueError(f"{text!r}: {number}; expected {unit}")
        return cls(metric, bound)

    def __str__(self) -> str:
        return f"{self.metric} {METRICS[self.metric][0]} {self.bound:.15g}"

    def violation(self, counts: Counts, badnet: Counts) -> float:
        """By how much ``counts`` miss it, as a fraction; 0 or less within it."""
        if self.metric == "attack_success":
            return counts.attack_success - self.bound
        if self.metric == "clean_accuracy":
            return self.bound - counts.clean_accuracy
        return float(counts.clean_accuracy_fell(since=badnet) - exact_points(self.bound)) / 100


def constraints_of(texts: Sequence[str]) -> tuple[Constraint, ...]:
    return tuple(map(Constraint.read, texts))


def within(constraints: Sequence[Constraint], counts: Counts, badnet: Counts) -> bool:
    return all(constraint.violation(counts, badnet) <= 0 for constraint in constraints)


def told_within(texts: Sequence[str], states: Iterable[Counts], badnet: Counts | None) -> dict[str, Any]:
    """``constraint`` of a JSON object: how many of ``states`` are within; nothing where nothing was asked, or
    the BadNet was never counted."""
    if not texts or badnet is None:
        return {}
    constraints = constraints_of(texts)
    number = sum(within(constraints, state, badnet) for state in states)
    return {"constraint": {"expected": list(texts), "states": number}}
