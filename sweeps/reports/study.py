"""What a sweep says about orders, policies and layer sets: a row for each way of pruning.

A way is an order, a policy (with what follows it) and a layer set; its trials (all X, all seeds) are
taken together. States are chosen on validation; test counts of the chosen ones only report.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prune_core.counts import Counts, exact_points
from prune_core.frontier import hypervolume
from prune_core.methods import KINDS
from sweeps.records.settings import NO_ORDER
from sweeps.records.trial_record import State, TrialRecord

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
    seconds, candidates: of all its trials: time, and channels (or other nets) tried.
    trials: how many; failed: reasons of those that failed.
    kind, assumption: what is done to the net and what has to be known for it (``methods``).
    badnet_test: the BadNet's counts on test; None where no trial is done.
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
    kind: str = "pruning"
    assumption: str = ""
    badnet_test: Counts | None = None

    @property
    def done(self) -> bool:
        """Whether a trial of it is done, be it without any state within X."""
        return self.badnet_test is not None

    @property
    def spread(self) -> float:
        """Standard deviation of the hypervolume over seeds; 0 with one seed."""
        return statistics.pstdev(self.by_seed.values()) if self.by_seed else 0.0

    @property
    def label(self) -> str:
        """Policy, order and the number of layers, as pictures name it."""
        count = len(self.layers.split())
        order = "" if self.order == NO_ORDER else f", {self.order}"
        return f"{self.policy}{order}, {count} layer{'s' if count > 1 else ''}"

    def attack(self, points: float) -> float:
        """Attack success on test of the state chosen within ``points``; the BadNet's without one."""
        assert self.badnet_test is not None
        chosen = self.within.get(points)
        return (chosen.test if chosen is not None else self.badnet_test).attack_success


def study(records: Sequence[TrialRecord], test_counts: Callable[[State], Counts]) -> list[Way]:
    """Every way of ``records``, the largest hypervolume first. ``test_counts`` counts a mask on test
    and is asked of chosen states only."""
    groups: dict[tuple[str, str, str], list[TrialRecord]] = {}
    for record in records:
        s = record.settings
        groups.setdefault((s.order, s.procedure, " ".join(s.layers)), []).append(record)
    ways = [_way(key, group, test_counts) for key, group in groups.items()]
    return sorted(ways, key=lambda w: -w.hypervolume)


def _way(
    key: tuple[str, str, str],
    records: Sequence[TrialRecord],
    test_counts: Callable[[State], Counts],
) -> Way:
    done = [r for r in records if r.status != "failed"]
    states = [s for r in done for s in r.states()]
    badnet = next((r.badnet_valid for r in done), None)
    within: dict[float, Chosen] = {}
    for points in POINTS:
        state = lowest_attack_within(states, badnet, points) if badnet is not None else None
        if state is not None:
            within[points] = Chosen(state.counts, test_counts(state), len(state.mask))
    seeds = sorted({r.settings.seed for r in done})
    method = records[0].settings.method
    return Way(
        *key,
        within,
        _hypervolume(states),
        {
            seed: _hypervolume([s for r in done if r.settings.seed == seed for s in r.states()])
            for seed in seeds
        },
        sum(r.seconds for r in records),
        sum(len(r.steps) + len(r.nets) for r in done),
        len(records),
        tuple(sorted({r.reason or "" for r in records if r.status == "failed"})),
        tuple(states),
        method.kind,
        method.assumption,
        next((r.badnet_test for r in done), None),
    )


def lowest_attack_within(states: Sequence[State], badnet: Counts, points: float) -> State | None:
    """On the counts that the states carry (validation): lowest attack success within ``points`` of
    the BadNet's clean accuracy; of equals the highest clean accuracy, then the fewest channels."""
    allowed = [s for s in states if s.counts.clean_accuracy_fell(since=badnet) <= exact_points(points)]
    return min(
        allowed,
        default=None,
        key=lambda s: (s.counts.attack_success, -s.counts.clean_correct, len(s.mask)),
    )


def _hypervolume(states: Sequence[State]) -> float:
    return hypervolume(
        np.array([s.counts.clean_accuracy for s in states]),
        np.array([s.counts.attack_success for s in states]),
    )


@dataclass(frozen=True)
class Group:
    """What the ways that share an order, a policy or a layer set come to, on average.

    ``attack``: points -> mean attack success on test of the states chosen within them. ``spread``:
    mean over the ways with several seeds; None where there is none. ``candidates``, ``seconds``: of
    one trial.
    """

    name: str
    ways: int
    mean: float
    best: float
    spread: float | None
    attack: Mapping[float, float]
    candidates: float
    seconds: float


def grouped(ways: Sequence[Way], of: str) -> list[Group]:
    """``ways`` by what they share: ``of`` is "order", "policy" or "layers". The largest mean
    hypervolume first. Fair only where every entry was combined with the same others."""
    shared: dict[str, list[Way]] = {}
    for way in ways:
        if way.done:
            shared.setdefault(getattr(way, of), []).append(way)
    return sorted((_group(name, found) for name, found in shared.items()), key=lambda g: -g.mean)


def _group(name: str, ways: Sequence[Way]) -> Group:
    volumes, trials = [w.hypervolume for w in ways], sum(w.trials for w in ways)
    spreads = [w.spread for w in ways if len(w.by_seed) > 1]
    return Group(
        name,
        len(ways),
        statistics.mean(volumes),
        max(volumes),
        statistics.mean(spreads) if spreads else None,
        {points: statistics.mean(w.attack(points) for w in ways) for points in POINTS},
        sum(w.candidates for w in ways) / trials,
        sum(w.seconds for w in ways) / trials,
    )


def winners(ways: Sequence[Way]) -> dict[str, dict[float, Way]]:
    """Kind -> points -> the way whose chosen state has the lowest attack success on validation; of
    equals the most accurate one, then the one that tried least. Kinds without any are left out."""
    found: dict[str, dict[float, Way]] = {}
    for kind in KINDS:
        for points in POINTS:
            able = [w for w in ways if w.kind == kind and points in w.within]
            if able:
                found.setdefault(kind, {})[points] = min(
                    able,
                    key=lambda w: (
                        w.within[points].valid.attack_success,
                        -w.within[points].valid.clean_correct,
                        w.candidates / w.trials,
                    ),
                )
    return found
