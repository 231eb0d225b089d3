"""A state that a person names, as the page of a sweep does: by its trial and its step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from prune_core.counts import Counts
from prune_core.errors import InputError
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import Frontier, FrontierPoint

STEPS_SHOWN = 5


@dataclass(frozen=True)
class Named:
    """The state of ``step`` of the trial with the key ``trial``; a criterion."""

    trial: str
    step: int

    def choose(self, points: Sequence[FrontierPoint], badnet: Counts) -> tuple[FrontierPoint, str]:
        """Raises InputError when it is none of ``points``."""
        for point in points:
            if self.names(point):
                return point, f"step {self.step} of trial {self.trial}, as asked for"
        raise InputError(f"--trial {self.trial} --step {self.step}: not a state of the frontier")

    def again(self, clean: np.ndarray, attack: np.ndarray) -> np.ndarray:
        """The same state, whatever the images: the first after the BadNet."""
        return np.ones(len(clean), dtype=np.int64)

    def names(self, net: FrontierPoint | State) -> bool:
        return (net.trial_key, net.step) == (self.trial, self.step)


def with_state(
    frontier: Frontier, records: Sequence[TrialRecord], named: Named, test: Callable[[State], Counts]
) -> Frontier:
    """``frontier`` with the named state among its points, be it on the frontier or not; ``test`` counts it
    on test. Raises InputError where the sweep has no such state, and names the nearest."""
    if any(named.names(point) for point in frontier.points):
        return frontier
    record = next((r for r in records if r.key == named.trial), None)
    if record is None:
        raise InputError(
            f"--trial {named.trial}: the sweep has no such trial that has ended; goodnet trials lists them"
        )
    states = record.states()
    for state in states:
        if named.names(state):
            key, step, mask, counts = state.trial_key, state.step, state.mask, state.counts
            point = FrontierPoint(key, step, mask, counts, test(state), state.settings, state.weights)
            return replace(frontier, points=(*frontier.points, point))
    near = sorted((s.step for s in states), key=lambda step: abs(step - named.step))[:STEPS_SHOWN]
    there = f"the nearest are {', '.join(map(str, sorted(near)))}" if near else "it has none"
    raise InputError(f"--step {named.step}: trial {named.trial} accepted no state there; {there}")
