"""Importance of settings: what decides comes first, what does not is about nothing, too little is told."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from factories import make_record, make_settings

from sweeps.records.trial_record import TrialRecord
from sweeps.reports.importance import LEAST_TRIALS, OUTCOMES, importances, outcomes


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four folds are enough here."""
    monkeypatch.setattr("sweeps.reports.importance.SEEDS", 1)


ORDERS = ["activation", "l1", "index", "random"]


def grid(repeated: int = 3) -> list[TrialRecord]:
    """The order decides the attack, X nearly nothing, the layer set nothing."""
    attacks = {"activation": 20, "l1": 150, "index": 300, "random": 450}
    records = []
    for number, (order, layers, x, seed) in enumerate(
        product(ORDERS, [("a",), ("a", "b")], [2.0, 4.0], range(repeated))
    ):
        attacked = attacks[order] + (8 if x == 2.0 else 0) + 3 * seed
        settings = make_settings(order, layers, x, seed=seed)
        records.append(make_record(f"t{number}", [(980, attacked)], settings))
    return records


def test_outcomes_by_hand() -> None:
    record = make_record("a", [(900, 250), (500, 0)])
    assert outcomes(record) == pytest.approx((0.9 * 0.5 + 0.5 * 0.5, 0.0))
    assert outcomes(make_record("a", [None])) == (0.0, 1.0)  # it pruned nothing: the BadNet


def test_what_decides_comes_first() -> None:
    found = importances(grid())
    assert [one.outcome for one in found] == list(OUTCOMES)
    for one in found:
        assert one.why_not is None and one.trials == 48 and one.fits is not None and one.fits[0] > 0.9
        assert next(iter(one.of)) == "order" and set(one.of) == {"order", "X", "layer set"}
        order, layers = one.of["order"], one.of["layer set"]
        assert order[0] > 0.5 and abs(layers[0]) < 0.05 and order[1] > 0
    assert importances(grid()) == found  # chance is seeded


def test_of_very_many_trials_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.reports.importance.MOST_TRIALS", 30)
    assert [one.trials for one in importances(grid())] == [30, 30]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (grid()[: LEAST_TRIALS - 1], "too few"),
        ([], "too few"),
        ([make_record(f"t{n}", [(980, n)]) for n in range(30)], "the same settings"),
        ([make_record(r.key, [(980, 9)], r.settings) for r in grid()], "reach the same"),
    ],
)
def test_too_little_is_said(records: list[TrialRecord], words: str) -> None:
    for one in importances(records):
        assert one.of == {} and one.why_not is not None and words in one.why_not


def test_where_settings_predict_nothing_nothing_is_claimed() -> None:
    noise = [
        make_record(r.key, [(980, (97 * n * n + 31 * n) % 491)], r.settings) for n, r in enumerate(grid(4))
    ]
    for one in importances(noise):
        assert one.fits is not None
        assert (one.of == {}) == (one.fits[0] <= 0) == (one.why_not is not None)
        assert one.fits[0] < 0.3


def test_stopped_trials_are_left_out_and_counted() -> None:
    stopped = [replace(record, key=f"s{i}", status="stopped") for i, record in enumerate(grid()[:5])]
    assert [one.stopped for one in importances(grid())] == [0, 0]
    assert importances([*grid(), *stopped]) == [replace(one, stopped=5) for one in importances(grid())]
    assert importances(stopped)[0].stopped == 5
