"""What a sweep has come to, kept up trial by trial: no record is kept, and nothing is measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_core.counts import Counts, exact_points
from prune_core.defence import attack_is_there
from prune_core.frontier import hypervolume
from sweeps.config.constraint import Constraint, within
from sweeps.config.search import XRange
from sweeps.config.sweep import SweepConfig
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import not_dominated

BEST = ("clean_accuracy", "attack_success", "channels_pruned", "trial_key", "step")


class Figures:
    """The non-dominated states on validation, their hypervolume, and the best state within each X."""

    def __init__(
        self,
        bounds: Sequence[float],
        target_share: float = 0.0,
        constraints: Sequence[Constraint] = (),
    ) -> None:
        """``bounds``: X in percentage points; ``target_share``: as of a manifest; ``constraints``: of
        ``sweep.constraint``."""
        self.constraints = constraints
        self.bounds, self.target_share = tuple(bounds), target_share
        self.badnet: Counts | None = None
        self.states: list[State] = []
        self.control = False  # the BadNet shows no attack: nothing is proposed

    def add(self, record: TrialRecord) -> None:
        """A failed one adds nothing."""
        if self.badnet is None and record.badnet_valid is not None:
            self.badnet = record.badnet_valid
            self.control = not attack_is_there(self.badnet, self.target_share)
        if not self.control:
            self.states = not_dominated([*self.states, *record.states()])

    @property
    def hypervolume(self) -> float:
        return hypervolume(
            np.array([s.counts.clean_accuracy for s in self.states]),
            np.array([s.counts.attack_success for s in self.states]),
        )

    @property
    def within(self) -> int | None:
        """How many of the states are within the constraint; None without one."""
        badnet = self.badnet
        if not self.constraints:
            return None
        return sum(badnet is not None and within(self.constraints, s.counts, badnet) for s in self.states)

    def best(self, x: float) -> State | None:
        """The lowest attack success that costs at most ``x`` points of clean accuracy, as ``goodnet pick
        --max-accuracy-drop`` chooses it; None where no state costs so little."""
        if self.badnet is None:
            return None
        badnet, most = self.badnet, exact_points(x)
        within = [s for s in self.states if s.counts.clean_accuracy_fell(since=badnet) <= most]
        return min(within, key=lambda s: (s.counts.attack_success, len(s.mask)), default=None)

    def best_json(self) -> list[dict[str, Any]]:
        """For each X its best state: rates are fractions on validation; None where there is none."""
        return [{"x": x, **_state_json(self.best(x))} for x in self.bounds]


def _state_json(state: State | None) -> dict[str, Any]:
    if state is None:
        return dict.fromkeys(BEST)
    counts = state.counts
    values = (counts.clean_accuracy, counts.attack_success, len(state.mask), state.trial_key, state.step)
    return dict(zip(BEST, values, strict=True))


def bounds_of(sweep: SweepConfig) -> tuple[float, ...]:
    """The X of a sweep, rising; of a range its two ends and the middle."""
    x = sweep.x_thresholds
    if isinstance(x, XRange):
        return (x.low, round((x.low + x.high) / 2, 2), x.high)
    return tuple(sorted(set(x)))


def figures_of(
    records: Sequence[TrialRecord],
    bounds: Sequence[float],
    target_share: float,
    constraints: Sequence[Constraint] = (),
) -> Figures:
    """Of records that are there."""
    figures = Figures(bounds, target_share, constraints)
    for record in records:
        figures.add(record)
    return figures
