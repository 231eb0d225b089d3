"""Trials that share states follow each other, and never run side by side while others wait."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.planning.queue import Listed
from sweeps.records.settings import TrialSettings

ORDERS = ("index", "l1", "activation")
GRID = [
    TrialSettings(order, layers, x, "margin")
    for x in (2.0, 10.0, 4.0)
    for layers in (("c",), ("c", "b", "a"), ("c", "b"))
    for order in ORDERS
]


def walk(trial: TrialSettings) -> str:
    return trial.order


def test_one_worker_ends_a_walk_before_the_next_longest_first() -> None:
    trials = Listed(GRID)
    handed = []
    while (trial := trials.next()) is not None:
        handed.append(trial)
        trials.ended(trial, None)
    assert sorted(map(str, handed)) == sorted(map(str, GRID))
    for start in range(0, 27, 9):
        part = handed[start : start + 9]
        assert len({walk(t) for t in part}) == 1
        assert [(len(t.layers), t.x) for t in part] == sorted(
            ((len(t.layers), t.x) for t in part), reverse=True
        )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_workers_keep_to_their_walks(workers: int, seed: int) -> None:
    """Workers end in any order. Two are on one walk only when all walks that are left are taken, and who
    ends a trial goes on with its walk while that has any left and is nobody else's."""
    rng = random.Random(seed)
    trials = Listed(GRID)
    running: dict[int, TrialSettings] = {}
    left = dict.fromkeys(ORDERS, 9)
    for worker in range(workers):
        taken = {walk(t) for t in running.values()}
        trial = trials.next()
        assert trial is not None
        assert walk(trial) not in taken or taken == set(ORDERS)
        running[worker] = trial
        left[walk(trial)] -= 1
    while running:
        worker = rng.choice(sorted(running))
        ended = running.pop(worker)
        trials.ended(ended, None)
        trial = trials.next()
        if trial is None:
            continue
        others = {walk(t) for t in running.values()}
        if left[walk(ended)] and walk(ended) not in others:
            assert walk(trial) == walk(ended)
        free = {order for order in ORDERS if left[order] and order not in others}
        assert not free or walk(trial) in free
        left[walk(trial)] -= 1
        running[worker] = trial
    assert not any(left.values()) and trials.finished


def plainly(trials: Listed, walks: dict[tuple[str, str, int], list[TrialSettings]]) -> tuple[str, str, int]:
    """The walk that is next, found by looking at all of them."""
    if trials.last in walks and not trials.out[trials.last]:
        assert trials.last is not None
        return trials.last
    return min(walks, key=lambda w: (trials.out[w], -len(walks[w])))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_heap_hands_out_what_a_look_at_all_walks_would(workers: int, seed: int) -> None:
    rng = random.Random(seed)
    given_out = [*GRID, *(replace(t, seed=n) for n, t in enumerate(GRID[:12]))]
    rng.shuffle(given_out)
    trials, running = Listed(given_out), list[TrialSettings]()
    while trials.left or running:
        if trials.left and len(running) < workers:
            expected = plainly(trials, trials.walks)
            trial = trials.next()
            assert trial is not None
            assert (trial.policy, trial.order, trial.seed) == expected
            running.append(trial)
        else:
            trials.ended(running.pop(rng.randrange(len(running))), None)
        assert trials.left == sum(map(len, trials.walks.values()))
