"""What a search draws and suggests, on made-up trials: nothing twice, the same again, better than chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import made

from sweeps.config.search import BudgetConfig, XRange
from sweeps.config.sweep import SweepConfig
from sweeps.planning.grid import trials_of
from sweeps.planning.optuna_queue import AskTell, Study, Suggested
from sweeps.planning.plan import listed
from sweeps.planning.queue import Found, Listed, TrialQueue
from sweeps.planning.search_space import Outside, SearchSpace
from sweeps.records.settings import TrialSettings

MODEL, _ = made("Chain", 2)
WIDE = SweepConfig(
    orders=["index", "random", "l1"],
    layer_sets=["last:1", "last:2", "last:3"],
    x_thresholds=[2, 4, 10],
    policies=["margin", "final-layer", "scale"],
    repair=["none", "finetune"],
    seeds=[0, 1],
)


def space_of(x: object, **more: object) -> SearchSpace:
    return SearchSpace.of(WIDE.model_copy(update={"x_thresholds": x, **more}), MODEL)


def outcome(trial: TrialSettings) -> Found:
    """Best at policy margin, order l1, deep layer sets and a large X."""
    good = (trial.policy == "margin") + (trial.order == "l1") + len(trial.layers) / 3
    return {"clean_accuracy": 0.98 - 0.005 * trial.x, "attack_success": 1 - good * trial.x / 40}


def run(trials: TrialQueue, count: int = 10**6) -> list[TrialSettings]:
    found: list[TrialSettings] = []
    while len(found) < count and (trial := trials.next()) is not None:
        found.append(trial)
        trials.ended(trial, outcome(trial))
    return found


def test_a_search_draws_from_the_grids_trials() -> None:
    grid = {t for t in trials_of(WIDE, MODEL) if t.x != 100}
    space = space_of((2.0, 4.0, 10.0))
    assert set(space.all) == grid and len(space.all) == len(grid)
    rng = np.random.default_rng(0)
    assert {space.draw(rng) for _ in range(2000)} == grid
    for trial in grid:
        taken = {name: value for name, (_, value) in space.choices(trial).items()}
        assert space.settings(lambda name, options, taken=taken: taken[name]) == trial


def test_settings_outside_the_space_are_told() -> None:
    space = space_of((2.0, 4.0))
    inside = space.all[0]
    for wrong in ({"x": 3.0}, {"order": "clp"}, {"policy": "seed"}, {"layers": ("nowhere",)}):
        with pytest.raises(Outside):
            space.choices(TrialSettings(**{**vars(inside), **wrong}))


def test_random_search_over_a_range() -> None:
    x = XRange(**{"from": 1, "to": 12})
    sweep = SweepConfig(**{**WIDE.model_dump(), "search": "random", "samples": 60, "x_thresholds": x})
    trials = listed(sweep, MODEL)
    assert len(set(trials)) == 60 and trials == listed(sweep, MODEL)
    assert all(1 <= t.x <= 12 for t in trials) and len({t.x for t in trials}) > 40
    assert listed(sweep.model_copy(update={"samples": 70}), MODEL)[:60] == trials


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 25))
def test_optuna_suggests_nothing_twice(seed: int, ranged: bool, samples: int) -> None:
    space = space_of(XRange(**{"from": 1, "to": 12}) if ranged else (2.0, 4.0, 10.0))
    suggested = run(Suggested(Study(space, seed, 4), samples))
    assert len(suggested) == len(set(suggested)) == samples
    for trial in suggested:
        space.choices(trial)


def test_a_space_that_is_used_up_ends_the_search() -> None:
    space = space_of((2.0, 4.0), policies=("margin",), repair=("none",), orders=("index", "l1"))
    trials = Suggested(Study(space, 0, 4), 1000)
    assert set(run(trials)) == set(space.all)
    assert trials.finished and trials.spent is None


@pytest.mark.parametrize("killed", [1, 5, 11, 17])
def test_an_interrupted_search_goes_on_as_if_it_had_not_been(killed: int) -> None:
    """The trial in flight when the driver died is run again, and all else is as it would have been."""
    space = space_of(XRange(**{"from": 1, "to": 12}))
    whole = run(Suggested(Study(space, 3, 4), 20))
    asked: list[TrialSettings] = []
    first = Suggested(Study(space, 3, 4), 20, asked=lambda trial: asked.append(trial))
    run(first, killed)
    first.next()
    assert asked == whole[: killed + 1]
    known = [(trial, outcome(trial)) for trial in asked[:killed]]
    again = Suggested(Study(space, 3, 4, known), 20 - len(asked), asked, asked[killed:])
    assert again.left == 20 - killed
    assert run(again) == whole[killed:]


def test_what_another_sweep_has_done_is_learnt_and_not_run() -> None:
    space = space_of((2.0, 4.0, 10.0))
    whole = run(Suggested(Study(space, 0, 4), 20))
    there = set(whole[::2])
    trials = Suggested(Study(space, 0, 4), 20, asked=lambda trial: outcome(trial) if trial in there else None)
    assert run(trials) == whole[1::2]


def test_optuna_learns() -> None:
    """The best of 30 suggested, against the best of 30 drawn, over 20 seeds: a larger area more often."""
    space = space_of(XRange(**{"from": 1, "to": 12}))

    def best(trials: list[TrialSettings]) -> float:
        return max(f["clean_accuracy"] * (1 - f["attack_success"]) for f in map(outcome, trials))

    suggested = [best(run(Suggested(Study(space, seed, 7), 30))) for seed in range(20)]
    drawn = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        drawn.append(best([space.draw(rng) for _ in range(30)]))
    assert np.mean(suggested) > np.mean(drawn)


def test_failed_trials_teach_nothing_and_end_nothing() -> None:
    trials = Suggested(Study(space_of((2.0, 4.0)), 0, 4), 12)
    count = 0
    while (trial := trials.next()) is not None:
        count += 1
        trials.ended(trial, None if count % 2 else outcome(trial))
    assert count == 12
    states = [t.state.name for t in trials.study.study.trials]
    assert states.count("COMPLETE") == 6 and states.count("RUNNING") == 0


def test_rays_optuna_search_suggests_the_same() -> None:
    from sweeps.execution.ray_searcher import by_optuna_search

    space = space_of(XRange(**{"from": 1, "to": 12}))
    plain, rays = (Suggested(Study(space, 5, 4), 25) for _ in range(2))
    by_optuna_search(rays)
    assert isinstance(plain.suggester, AskTell) and not isinstance(rays.suggester, AskTell)
    assert run(rays) == run(plain)


def test_a_budget_of_trials_leaves_the_rest() -> None:
    grid = trials_of(WIDE, MODEL)
    trials = Listed(grid, BudgetConfig(trials=5))
    first = run(trials)
    assert len(first) == 5 and trials.finished and trials.left == len(grid) - 5
    assert trials.spent == "sweep.budget.trials (5)"
    enough = Listed(grid, BudgetConfig(trials=len(grid)))
    assert len(run(enough)) == len(grid) and enough.spent is None


def test_a_budget_of_time_begins_no_trial_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    trials = Suggested(Study(space_of((2.0, 4.0)), 0, 4), 12, budget=BudgetConfig(minutes=2))
    assert trials.next() is not None
    now += 119
    assert trials.next() is not None
    now += 2
    assert trials.next() is None and trials.finished
    assert trials.spent == "sweep.budget.minutes (2)" and trials.left == 10
