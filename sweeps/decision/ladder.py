"""What each assumption buys: the states of a sweep by what had to be known to make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prune_core.counts import Counts
from prune_core.errors import InputError
from prune_core.frontier import hypervolume
from prune_core.methods import (
    CLEAN,
    CLEAN_AND_TARGET,
    POISONED,
    TRUE_LABELS,
    WEIGHTS_ALONE,
    Inverted,
    with_inverted,
)
from sweeps.choosing.criteria import Criterion
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import State, TrialRecord
from sweeps.results import FrontierPoint, group_of, not_dominated

DRAWN = 200  # states of a rung's frontier at most

Json = dict[str, Any]
TestCounts = Callable[[State], Counts]


@dataclass(frozen=True)
class Rung:
    """Attributes:
    takes: as ``methods`` says it.
    words: for somebody who does not know those words.
    fill: the keys of a configuration that would put trials here.
    """

    takes: str
    words: str
    fill: tuple[str, ...]


# The least that has to be known comes first.
RUNGS = (
    Rung(WEIGHTS_ALONE, "the model file and nothing else", ("sweep.policies=[baseline:clp]",)),
    Rung(CLEAN, "ordinary pictures with their right names", ("sweep.policies=[baseline:fine-pruning]",)),
    Rung(
        CLEAN_AND_TARGET,
        "ordinary pictures, and the class that the attacker wants",
        ("data.poisoned_valid=null", "data.triggers=[{invert: true, target: K}]"),
    ),
    Rung(
        POISONED,
        "pictures with the trigger on, as the attacker makes them",
        ("sweep.policies=[margin,best-first]",),
    ),
    Rung(
        TRUE_LABELS,
        "pictures with the trigger on, and what each truly shows",
        ("sweep.repair=[unlearn]",),
    ),
)


def takes(settings: TrialSettings, inverted: Inverted | None = None) -> str:
    """The rung of a trial; "unknown" for a policy of a package that is not here. ``inverted``: of the sweep
    (``inverted_for``), for records whose settings do not say it yet."""
    try:
        method = settings.method
    except InputError:
        return "unknown"
    return with_inverted(method, inverted).assumption


def ladder(
    records: Sequence[TrialRecord],
    badnet: Counts,
    criterion: Criterion,
    test: TestCounts,
    inverted: Inverted | None = None,
) -> list[Json]:
    """One entry for each of ``RUNGS``: ``takes``, ``words``, ``fill``, ``trials`` that did not fail,
    ``states``, ``hypervolume``, ``frontier`` (on validation), and ``best``: the state that ``criterion``
    takes of this rung alone, with its counts on both splits; None, with ``why_none``, where there is none.

    Args:
        badnet: counts on validation. test: of a state on test; asked once a rung.
    """
    by: dict[str, list[TrialRecord]] = {}
    for record in records:
        if record.status != "failed":
            by.setdefault(takes(record.settings, inverted), []).append(record)
    return [_rung(rung, by.get(rung.takes, []), badnet, criterion, test) for rung in RUNGS]


def _rung(
    rung: Rung, records: Sequence[TrialRecord], badnet: Counts, criterion: Criterion, test: TestCounts
) -> Json:
    states = [s for record in records for s in record.states()]
    front = not_dominated(states)
    told: Json = {
        "takes": rung.takes,
        "words": rung.words,
        "fill": rung.fill,
        "trials": len(records),
        "states": len(states),
        "hypervolume": volume(front),
        "frontier": [
            {
                "clean_accuracy": s.counts.clean_accuracy,
                "attack_success": s.counts.attack_success,
                "trial_key": s.trial_key,
                "step": s.step,
            }
            for s in _some(front)
        ],
    }
    return told | best_of(front, badnet, criterion, test)


def baselines(
    records: Sequence[TrialRecord], badnet: Counts, criterion: Criterion, test: TestCounts
) -> list[Json]:
    """One entry for each group of methods in the sweep (``results.group_of``), published defences among
    them: ``method``, ``published``, ``takes``, ``trials``, ``failed``, ``states``, ``hypervolume``,
    ``best``."""
    groups: dict[str, list[TrialRecord]] = {}
    for record in records:
        if takes(record.settings) != "unknown":
            groups.setdefault(group_of(record.settings), []).append(record)
    rows = []
    for group, theirs in groups.items():
        states = [s for record in theirs for s in record.states()]
        front = not_dominated(states)
        row = {
            "method": group,
            "published": theirs[0].settings.method.kind == "baseline",
            "takes": sorted({r.settings.method.assumption for r in theirs}),
            "trials": len(theirs),
            "failed": sum(r.status == "failed" for r in theirs),
            "states": len(states),
            "hypervolume": volume(front),
        }
        rows.append(row | best_of(front, badnet, criterion, test))
    return sorted(rows, key=lambda row: -row["hypervolume"])


def best_of(front: Sequence[State], badnet: Counts, criterion: Criterion, test: TestCounts) -> Json:
    """``best`` of a frontier on validation, and ``why_none`` where it has none."""
    if not front:
        return {"best": None, "why_none": "no network was reached within the price that is allowed (X)"}
    points = [
        FrontierPoint(s.trial_key, s.step, s.mask, s.counts, s.counts, s.settings, s.weights) for s in front
    ]
    try:
        chosen, _ = criterion.choose(points, badnet)
    except InputError:
        return {"best": None, "why_none": "no state keeps to the rule by which this page chooses"}
    state = front[points.index(chosen)]
    return {
        "best": {
            "trial_key": state.trial_key,
            "step": state.step,
            "procedure": "" if state.settings is None else state.settings.procedure,
            "valid": state.counts.to_json(),
            "test": test(state).to_json(),
        },
        "why_none": None,
    }


def volume(states: Sequence[State]) -> float:
    """The hypervolume on validation, in [0, 1]; 0 without states."""
    return hypervolume(
        np.array([s.counts.clean_accuracy for s in states]),
        np.array([s.counts.attack_success for s in states]),
    )


def _some(front: Sequence[State]) -> list[State]:
    """At most ``DRAWN`` of a frontier, both ends among them."""
    if len(front) <= DRAWN:
        return list(front)
    return [front[at] for at in np.linspace(0, len(front) - 1, DRAWN).round().astype(int)]


def drawn(rungs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rungs that have something to draw."""
    return [rung for rung in rungs if rung["frontier"]]
