"""What a search learns from a trial: two figures, taken from its best state."""

from __future__ import annotations

from typing import Literal

from prune_core.counts import Counts
from sweeps.records.trial_record import TrialRecord

# The names under which a trial reports them, and where they should go.
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "clean_accuracy": "maximize",
    "attack_success": "minimize",
}


def objectives(record: TrialRecord) -> dict[str, float] | None:
    """Clean accuracy and attack success, fractions on validation, of the trial's best state: the
    one whose own part of the hypervolume, accuracy x (1 - attack), is largest. Of a trial that
    pruned nothing, the BadNet's. None of a failed trial.

    A trial passes through many states, and its last one is often not its best: a walk goes on until
    its bound X, also when the attack was gone long before.
    """
    if record.status != "done" or record.badnet_valid is None:
        return None
    counts = [state.counts for state in record.states()] or [record.badnet_valid]
    best = max(counts, key=_area)
    return {name: getattr(best, name) for name in DIRECTIONS}


def _area(counts: Counts) -> tuple[float, float]:
    return counts.clean_accuracy * (1 - counts.attack_success), counts.clean_accuracy
