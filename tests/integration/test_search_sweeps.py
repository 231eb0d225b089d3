"""Sweeps that search, end to end in this process: budgets, resuming, warm start, one-line errors."""

from __future__ import annotations

import pytest

WIDE = ("--set", "sweep.orders=[index,l1,reverse-index]", "--set", "sweep.policies=[margin,in-order]")
OPTUNA = (*WIDE, "--set", "sweep.search=optuna", "--set", "sweep.samples=6",
          "--set", "sweep.x_thresholds={from: 2, to: 20}")  # fmt: skip


class Killed(BaseException):
    """Nothing catches it."""


def swept(goodnet, config, *more):
    said = goodnet("sweep", config, "--executor", "inline", "--json", *more)
    assert said.status == 0, said.err
    return said.json


def counts(result) -> tuple[int, int, int]:
    assert result["failed"] == 0
    return result["trials"], result["done"], result["skipped"]


def test_a_grid_ended_by_its_budget_goes_on(goodnet, smoke_config) -> None:
    first = swept(goodnet, smoke_config, "--set", "sweep.budget.trials=3")
    assert counts(first) == (8, 3, 0)
    assert first["ended_by"] == "sweep.budget.trials (3)" and first["left"] == 5
    assert first["frontier_size"] > 0
    said = goodnet("sweep", smoke_config, "--executor", "inline", "--set", "sweep.budget.trials=3")
    assert said.status == 0 and "ended by sweep.budget.trials (3), 2 left" in said.out
    last = swept(goodnet, smoke_config)
    assert counts(last) == (8, 2, 6) and "ended_by" not in last


def test_optuna_goes_on_to_the_same_end(goodnet, smoke_config, tmp_path) -> None:
    at_once = swept(goodnet, smoke_config, *OPTUNA, "--set", f"storage={tmp_path}/other")
    assert counts(at_once) == (6, 6, 0)
    first = swept(goodnet, smoke_config, *OPTUNA, "--set", "sweep.budget.trials=4")
    assert counts(first) == (4, 4, 0) and first["left"] == 2
    last = swept(goodnet, smoke_config, *OPTUNA)
    assert counts(last) == (6, 2, 4)
    for value in ("sweep", "hypervolume", "frontier_size"):
        assert last[value] == at_once[value]
    trials = [sorted(p.name for p in (tmp_path / place / "trials").iterdir()) for place in ("runs", "other")]
    assert trials[0] == trials[1]
    more = swept(goodnet, smoke_config, *OPTUNA, "--set", "sweep.samples=8")
    assert (more["sweep"], counts(more)) == (last["sweep"], (8, 2, 6))
    assert goodnet("frontier", more["sweep"], "--storage", tmp_path / "runs", "--json").status == 0


def test_a_killed_search_loses_none_of_its_trials(goodnet, smoke_config, tmp_path, monkeypatch) -> None:
    """Killed with three records written and a fourth trial begun: what it had asked for is its own."""
    import sweeps.execution.inline

    real, ran = sweeps.execution.inline.run_trial, []

    def until_the_fourth(*given):
        ran.append(given)
        if len(ran) == 4:
            raise Killed
        return real(*given)

    monkeypatch.setattr(sweeps.execution.inline, "run_trial", until_the_fourth)
    with pytest.raises(Killed):
        goodnet("sweep", smoke_config, "--executor", "inline", *OPTUNA)
    monkeypatch.undo()
    before = {p.name for p in (tmp_path / "runs" / "trials").iterdir()}
    assert len(before) == 3
    result = swept(goodnet, smoke_config, *OPTUNA)
    assert counts(result) == (6, 3, 3)
    assert before < {p.name for p in (tmp_path / "runs" / "trials").iterdir()}


def test_warm_start_takes_what_an_earlier_sweep_did(goodnet, smoke_config) -> None:
    earlier = swept(goodnet, smoke_config)
    warm = swept(goodnet, smoke_config, *OPTUNA, "--set", f"sweep.warm_start={earlier['sweep']}")
    assert counts(warm) == (14, 6, 8)
    assert warm["hypervolume"] >= earlier["hypervolume"]
    said = goodnet("sweep", smoke_config, "--executor", "inline", *OPTUNA,
                   "--set", f"sweep.warm_start={earlier['sweep']}",
                   "--set", "sweep.x_thresholds={from: 50, to: 60}")  # fmt: skip
    assert said.status == 2 and "sweep.warm_start: none of the 8 trials" in said.err


@pytest.mark.parametrize("wrong, says", [
    (("sweep.x_thresholds={from: 1, to: 12}",), "sweep.x_thresholds is a range"),
    (("sweep.search=optuna",), "sweep.samples"),
    (("sweep.samples=5",), "sweep.samples"),
    (("sweep.search=random", "sweep.samples=5", "sweep.warm_start=a"), "sweep.warm_start"),
    (("sweep.search=optuna", "sweep.samples=5", "sweep.warm_start=a"), "sweep.warm_start: storage"),
    (("sweep.search=random", "sweep.samples=5", "sweep.x_thresholds={from: 4, to: 4}"), "from < to"),
    (("sweep.search=random", "sweep.samples=5", "sweep.x_thresholds={form: 4, to: 8}"), "from and to"),
    (("sweep.budget.minutes=0",), "sweep.budget.minutes"),
    (("sweep.budget.trails=1",), "did you mean 'sweep.budget.trials'"),
])  # fmt: skip
def test_what_does_not_fit_is_told_in_one_line(goodnet, smoke_config, wrong, says) -> None:
    given = [part for override in wrong for part in ("--set", override)]
    said = goodnet("sweep", smoke_config, "--executor", "inline", *given)
    assert said.status == 2 and says in said.err and said.err.strip().count("\n") == 0, said.err


def test_one_trial_takes_no_range(goodnet, smoke_config) -> None:
    said = goodnet("prune", smoke_config, *OPTUNA)
    assert said.status == 2 and "sweep." in said.err
