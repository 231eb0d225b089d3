"""Frontier, hypervolume and knee: by hand, and against the definition written out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_core.frontier import hypervolume, knee, non_dominated

RATES = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=25).map(
    lambda pairs: np.array(pairs, float).reshape(-1, 2) / 8
)


def test_by_hand() -> None:
    accuracy = np.array([0.9, 0.8, 0.8, 0.7, 0.95])
    attack = np.array([0.5, 0.2, 0.6, 0.3, 1.0])
    assert non_dominated(accuracy, attack).tolist() == [4, 0, 1]
    # Strips: 0.95 x (1 - 1), 0.9 x (1 - 0.5), 0.8 x (0.5 - 0.2).
    assert hypervolume(accuracy, attack) == pytest.approx(0.45 + 0.24)
    assert knee(accuracy, attack) == 1  # 0.6, against 0.4 and -0.05


def test_equal_states_leave_the_first() -> None:
    same = np.array([0.5, 0.5, 0.5])
    assert non_dominated(same, same).tolist() == [0]


def test_nothing_and_nan() -> None:
    none = np.array([])
    assert non_dominated(none, none).size == 0 and hypervolume(none, none) == 0.0
    with pytest.raises(ValueError):
        knee(none, none)
    assert non_dominated(np.array([np.nan, 0.5]), np.array([0.0, 0.5])).tolist() == [1]


@given(RATES)
def test_as_the_definition_says(rates) -> None:
    accuracy, attack = rates[:, 0], rates[:, 1]

    def dominates(i: int, j: int) -> bool:
        no_worse = accuracy[i] >= accuracy[j] and attack[i] <= attack[j]
        better = accuracy[i] > accuracy[j] or attack[i] < attack[j]
        return bool(no_worse and (better or i < j))

    rows = range(len(rates))
    expected = {j for j in rows if not any(dominates(i, j) for i in rows if i != j)}
    assert set(non_dominated(accuracy, attack).tolist()) == expected


@given(RATES)
def test_hypervolume_by_counting_cells(rates) -> None:
    accuracy, attack = rates[:, 0], rates[:, 1]
    cells = sum(
        any(a * 8 >= i + 1 and b * 8 <= j for a, b in zip(accuracy, attack, strict=True))
        for i in range(8)
        for j in range(8)
    )
    assert hypervolume(accuracy, attack) == pytest.approx(cells / 64)
