"""The anomaly index, by hand."""

from __future__ import annotations

import numpy as np

from prune_core.inversion.anomaly import FLOOR, others_of


def test_one_far_below_is_not_compared_with_itself() -> None:
    sizes = np.exp(np.array([0.0, 3.0, 4.0, 5.0, 6.0]))
    found = others_of(sizes)  # median 4, deviations 4 1 0 1 2: spread 1.4826; 0 is 2.7 below: it stays
    assert (found.count, found.median) == (5, 4.0) and np.isclose(found.spread, 1.4826)
    assert np.isclose(found.anomaly(1.0), 4 / 1.4826)
    found = others_of(np.exp(np.array([-9.0, 3.0, 4.0, 5.0, 6.0])))
    assert (found.count, found.median) == (4, 4.5)


def test_equal_sizes_have_a_spread() -> None:
    found = others_of(np.full(10, 7.0))
    assert found.spread == FLOOR and found.anomaly(7.0) == 0.0


def test_classes_without_a_trigger_are_harder_than_any() -> None:
    found = others_of(np.array([np.inf, np.inf, np.inf, 1.0, 2.0]))
    assert np.isclose(found.median, np.log(3.0)) and found.anomaly(np.inf) == -np.inf
