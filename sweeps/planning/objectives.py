"""What a search learns from a trial: two figures, taken from its best state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from prune_core.counts import Counts
from sweeps.config.constraint import Constraint
from sweeps.records.trial_record import TrialRecord

# The names under which a trial reports them, and where they should go.
DIRECTIONS: dict[str, Literal["maximize", "minimize"]] = {
    "clean_accuracy": "maximize",
    "attack_success": "minimize",
}


_CONSTRAINT = "constraint: "


def objectives(record: TrialRecord, constraints: Sequence[Constraint] = ()) -> dict[str, float] | None:
    """Clean accuracy and attack success, fractions on validation, of the trial's best state: the
    one whose own part of the hypervolume, accuracy x (1 - attack), is largest. Of a trial that
    pruned nothing, the BadNet's. None of a failed trial;
    of one that was stopped, what it had come to by then.

    A trial passes through many states, and its last one is often not its best: a walk goes on until
    its bound X, also when the attack was gone long before.
    """
    if record.status == "failed" or record.badnet_valid is None:
        return None
    counts = [state.counts for state in record.states()] or [record.badnet_valid]
    badnet = record.badnet_valid

    def good(counts: Counts) -> tuple[float, float, float]:
        missed = sum(max(0.0, c.violation(counts, badnet)) for c in constraints)
        return (-missed, *_area(counts))

    best = max(counts, key=good)
    return {
        **{name: getattr(best, name) for name in DIRECTIONS},
        **{f"{_CONSTRAINT}{c}": c.violation(best, badnet) for c in constraints},
    }


def violations_in(found: Mapping[str, float]) -> dict[str, float]:
    """By how much a trial's best state misses each of ``constraints``, of what ``objectives`` has found."""
    return {name: value for name, value in found.items() if name.startswith(_CONSTRAINT)}


def _area(counts: Counts) -> tuple[float, float]:
    return counts.clean_accuracy * (1 - counts.attack_success), counts.clean_accuracy
