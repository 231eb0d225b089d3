"""How a sweep's hypervolume has grown: over trials, over the clock, over the time that trials took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prune_core.frontier import hypervolume, non_dominated
from sweeps.records.trial_record import TrialRecord


@dataclass(frozen=True)
class Moment:
    """A trial has ended.

    Attributes:
        trials: that have ended by now, failed ones among them.
        clock: seconds since the first trial began; None where records do not say when they ran.
        spent: seconds of all trials so far, one after the other.
        hypervolume: of all their states on validation, in [0, 1].
    """

    trials: int
    clock: float | None
    spent: float
    hypervolume: float


def hypervolume_history(records: Sequence[TrialRecord]) -> list[Moment]:
    """A moment for each trial, in the order in which they ended; those that do not say when come first, as
    they are given: earlier versions made them."""
    told = sorted((r for r in records if r.ran is not None), key=_ended)
    untold = [r for r in records if r.ran is None]
    start = min((r.ran.started for r in told if r.ran is not None), default=0.0)
    front = np.empty((0, 2))
    spent, found = 0.0, []
    for number, record in enumerate([*untold, *told], 1):
        states = states_of(record)
        if len(states):
            both = np.concatenate([front, states])
            front = both[non_dominated(both[:, 0], both[:, 1])]
        spent += record.seconds
        clock = None if record.ran is None else _ended(record) - start
        found.append(Moment(number, clock, spent, hypervolume(front[:, 0], front[:, 1])))
    return found


def states_of(record: TrialRecord) -> np.ndarray:
    """(states, 2) fractions on validation: clean accuracy, attack success of every accepted state."""
    rates = [(s.counts.clean_accuracy, s.counts.attack_success) for s in record.states()]
    return np.array(rates, float).reshape(-1, 2)


def _ended(record: TrialRecord) -> float:
    return 0.0 if record.ran is None else record.ran.started + record.seconds
