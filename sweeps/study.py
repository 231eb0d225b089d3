"""What a sweep says about orders, policies and layer sets: a row for each way of pruning.

A way is an order, a policy and a layer set; its trials (all X, all seeds) are taken together. States
are chosen on validation; test counts of the chosen ones only report.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prune_core.frontier import hypervolume
from prune_core.metrics import Counts, exact_points
from sweeps.records import State, TrialRecord

POINTS = (2.0, 4.0, 10.0)  # of clean accuracy below the BadNet's: where attack success is compared


@dataclass(frozen=True)
class Chosen:
    """The state with the lowest attack success within some points of clean accuracy, on validation."""

    valid: Counts
    test: Counts
    channels: int


@dataclass(frozen=True)
class Way:
    """Attributes:
    order, policy, layers: what its trials have in common.
    within: points -> chosen state; missing where no state is within.
    hypervolume: of all its states, on validation. by_seed: the same of each seed alone.
    seconds, candidates: of all its trials: time and channels tried.
    trials: how many; failed: reasons of those that failed.
    """

    order: str
    policy: str
    layers: str
    within: dict[float, Chosen]
    hypervolume: float
    by_seed: dict[int, float]
    seconds: float
    candidates: int
    trials: int
    failed: tuple[str, ...] = ()
    states: tuple[State, ...] = field(default=(), repr=False)

    @property
    def spread(self) -> float:
        """Standard deviation of the hypervolume over seeds; 0 with one seed."""
        return statistics.pstdev(self.by_seed.values()) if self.by_seed else 0.0


def study(
    records: Sequence[TrialRecord], test_counts: Callable[[State], Counts]
) -> list[Way]:
    """Every way of ``records``, the largest hypervolume first. ``test_counts`` counts a mask on test
    and is asked of chosen states only."""
    groups: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for record in records:
        s = record.settings
        groups.setdefault((s.order, s.procedure, " ".join(s.layers)), []).append(record)
    ways = [_way(key, group, test_counts) for key, group in groups.items()]
    return sorted(ways, key=lambda w: -w.hypervolume)


def _way(
    key: tuple[str, str, str], records: Sequence[TrialRecord],
    test_counts: Callable[[State], Counts],
) -> Way:
    done = [r for r in records if r.status == "done"]
    states = [s for r in done for s in r.states()]
    badnet = next((r.badnet_valid for r in done), None)
    within: dict[float, Chosen] = {}
    for points in POINTS:
        state = lowest_attack_within(states, badnet, points) if badnet is not None else None
        if state is not None:
            within[points] = Chosen(state.counts, test_counts(state), len(state.mask))
    seeds = sorted({r.settings.seed for r in done})
    return Way(
        *key, within, _hypervolume(states),
        {seed: _hypervolume([s for r in done if r.settings.seed == seed for s in r.states()])
         for seed in seeds},
        sum(r.seconds for r in records), sum(len(r.steps) for r in done), len(records),
        tuple(sorted({r.reason or "" for r in records if r.status == "failed"})), tuple(states),
    )


def lowest_attack_within(
    states: Sequence[State], badnet: Counts, points: float
) -> State | None:
    """On the counts that the states carry (validation): lowest attack success within ``points`` of
    the BadNet's clean accuracy; of equals the highest clean accuracy, then the fewest channels."""
    allowed = [s for s in states
               if s.counts.clean_accuracy_fell(since=badnet) <= exact_points(points)]
    return min(
        allowed, default=None,
        key=lambda s: (s.counts.attacked, -s.counts.clean_correct, len(s.mask)),
    )


def _hypervolume(states: Sequence[State]) -> float:
    return hypervolume(
        np.array([s.counts.clean_accuracy for s in states]),
        np.array([s.counts.attack_success for s in states]),
    )


def means(ways: Sequence[Way], of: str) -> Mapping[str, float]:
    """Mean hypervolume over the ways that share an ``order``, ``policy`` or ``layers``; largest first.
    Fair only where every entry was combined with the same others."""
    groups: dict[str, list[float]] = {}
    for way in ways:
        groups.setdefault(getattr(way, of), []).append(way.hypervolume)
    return dict(sorted(((k, statistics.mean(v)) for k, v in groups.items()), key=lambda kv: -kv[1]))
