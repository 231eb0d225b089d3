"""How a point of a frontier is chosen: by what it may cost, by what it may leave, or by the knee.

A criterion is given the frontier's points and the BadNet's counts on validation; it answers with the
point and with words for why. Ties go to the better other rate, then to fewer channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np

from prune_core.counts import Counts, exact_points
from prune_core.errors import InputError
from prune_core.frontier import knee as knee_of
from sweeps.choosing.named import Named
from sweeps.results import FrontierPoint

Points = Sequence[FrontierPoint]

_EPSILON = 1e-9  # fractions of images are never so near each other
_TIES = 1e-6  # the weight of the other rate, which only decides between equal ones


class Criterion(Protocol):
    """What a person asks of a GoodNet."""

    def choose(self, points: Points, badnet: Counts) -> tuple[FrontierPoint, str]:
        """One of ``points`` (at least one), and why. Raises InputError when none qualifies, with the
        value that would admit the nearest."""
        ...

    def again(self, clean: np.ndarray, attack: np.ndarray) -> np.ndarray:
        """The same choice on other images: (draws, states) fractions each, the BadNet first -> (draws,)
        positions, never the BadNet's. Where none qualifies, the nearest."""
        ...


@dataclass(frozen=True)
class MaxAccuracyDrop:
    """The weakest attack that costs at most ``points`` percentage points of clean accuracy."""

    points: float

    def __post_init__(self) -> None:
        if not 0 <= self.points <= 100:
            raise InputError(f"--max-accuracy-drop {self.points:g}: expected percentage points, 0 to 100")

    def choose(self, points: Points, badnet: Counts) -> tuple[FrontierPoint, str]:
        def fell(point: FrontierPoint) -> Fraction:
            return point.valid.clean_accuracy_fell(since=badnet)

        within = [p for p in points if fell(p) <= exact_points(self.points)]
        if not within:
            nearest = min(points, key=lambda p: (fell(p), _attack(p), len(p.mask)))
            raise InputError(
                f"--max-accuracy-drop {self.points:g}: no point of the frontier loses so little; the "
                f"nearest loses {float(fell(nearest)):.3f} points and leaves attack success at "
                f"{nearest.valid.attack_success:.2%}: --max-accuracy-drop "
                f"{_rounded_up(fell(nearest), 2)} admits it"
            )
        best = min(within, key=lambda p: (_attack(p), -_accuracy(p), len(p.mask)))
        return best, (
            f"the lowest attack success among the {len(within)} of {len(points)} frontier "
            f"points that lose at most {self.points:g} points of clean accuracy{self._a_fraction()}"
        )

    def _a_fraction(self) -> str:
        """A question where the bound looks like a fraction."""
        if not 0 < self.points < 1:
            return ""
        meant = f"{100 * self.points:g}"
        return f" ({self.points:g} of a percentage point; if a fraction was meant, that is {meant})"

    def again(self, clean: np.ndarray, attack: np.ndarray) -> np.ndarray:
        fell = clean[:, :1] - clean
        return _lowest(np.where(fell <= self.points / 100 + _EPSILON, attack - _TIES * clean, 2 + fell))


@dataclass(frozen=True)
class MaxAttackSuccess:
    """The highest clean accuracy with attack success of at most ``rate``, a fraction."""

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate <= 1:
            raise InputError(
                f"--max-attack-success {self.rate:g}: expected a fraction from 0 to 1 (5 per cent is 0.05)"
            )

    def choose(self, points: Points, badnet: Counts) -> tuple[FrontierPoint, str]:
        within = [p for p in points if _attack(p) <= exact_points(self.rate)]
        if not within:
            nearest = min(points, key=lambda p: (_attack(p), -_accuracy(p), len(p.mask)))
            raise InputError(
                f"--max-attack-success {self.rate:g}: no point of the frontier is at or under it; the "
                f"nearest has {nearest.valid.attack_success:.4f} with clean accuracy "
                f"{nearest.valid.clean_accuracy:.2%}: --max-attack-success "
                f"{_rounded_up(_attack(nearest), 4)} admits it"
            )
        best = min(within, key=lambda p: (-_accuracy(p), _attack(p), len(p.mask)))
        return best, (
            f"the highest clean accuracy among the {len(within)} of {len(points)} frontier "
            f"points with attack success of at most {self.rate:g}"
        )

    def again(self, clean: np.ndarray, attack: np.ndarray) -> np.ndarray:
        return _lowest(np.where(attack <= self.rate + _EPSILON, _TIES * attack - clean, 2 + attack))


@dataclass(frozen=True)
class Knee:
    """The state with the largest clean accuracy minus attack success."""

    def choose(self, points: Points, badnet: Counts) -> tuple[FrontierPoint, str]:
        at = knee_of(
            np.array([p.valid.clean_accuracy for p in points]),
            np.array([p.valid.attack_success for p in points]),
        )
        return points[at], (
            f"the knee of the frontier: the largest clean accuracy minus attack success of its "
            f"{len(points)} points"
        )

    def again(self, clean: np.ndarray, attack: np.ndarray) -> np.ndarray:
        return _lowest(attack - clean)


def criterion_of(
    max_accuracy_drop: float | None = None,
    max_attack_success: float | None = None,
    knee: bool = False,
    trial: str | None = None,
    step: int | None = None,
) -> Criterion:
    """The criterion that the options of ``goodnet pick`` name. Raises InputError unless there is
    exactly one, with a value that makes sense."""
    given: list[Criterion] = []
    if max_accuracy_drop is not None:
        given.append(MaxAccuracyDrop(max_accuracy_drop))
    if max_attack_success is not None:
        given.append(MaxAttackSuccess(max_attack_success))
    if knee:
        given.append(Knee())
    if (trial is None) != (step is None):
        raise InputError("--trial KEY and --step N name a state together; give both")
    if trial is not None and step is not None:
        given.append(Named(trial, step))
    if len(given) != 1:
        raise InputError(
            f"{len(given) or 'no'} criteria to pick by; give exactly one of --max-accuracy-drop, "
            "--max-attack-success, --knee, and --trial with --step"
        )
    return given[0]


def criterion_or_knee(
    max_accuracy_drop: float | None = None,
    max_attack_success: float | None = None,
    knee: bool = False,
    trial: str | None = None,
    step: int | None = None,
) -> Criterion:
    """As ``criterion_of``; the knee where nothing is named. Raises InputError."""
    nothing = (max_accuracy_drop, max_attack_success, trial, step) == (None,) * 4
    return criterion_of(max_accuracy_drop, max_attack_success, knee or nothing, trial, step)


def _accuracy(point: FrontierPoint) -> Fraction:
    return Fraction(point.valid.clean_correct, point.valid.clean_total)


def _attack(point: FrontierPoint) -> Fraction:
    return Fraction(point.valid.attacked, point.valid.poisoned_total)


def _lowest(scores: np.ndarray) -> np.ndarray:
    """(draws, states) -> (draws,) positions of the lowest score, the BadNet's (the first) left out."""
    positions: np.ndarray = 1 + scores[:, 1:].argmin(axis=1)
    return positions


def _rounded_up(value: Fraction, digits: int) -> str:
    """The smallest decimal of so many digits that is not below ``value``."""
    scale = 10**digits
    return f"{math.ceil(value * scale) / scale:g}"
