"""What a sweep has come to, by hand and against the frontier of all records at once."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_record, make_settings

from prune_core.frontier import hypervolume
from sweeps.config.schema import make_config
from sweeps.overview.figures import Figures, bounds_of, figures_of
from sweeps.results import frontier_states


def test_the_best_within_each_x_by_hand() -> None:
    """Of 1,000 clean images the BadNet gets 990 right: 980 is one point below, 950 is four."""
    figures = Figures((1.0, 2.0, 4.0))
    figures.add(make_record("a", [(980, 400), (950, 50)]))
    figures.add(make_record("b", [(979, 30)]))  # 1.1 points, better than a's second on both axes
    best = figures.best_json()
    assert [(b["x"], b["trial_key"], b["step"]) for b in best] == [
        (1.0, "a", 1),
        (2.0, "b", 1),
        (4.0, "b", 1),
    ]
    assert (best[1]["clean_accuracy"], best[1]["attack_success"]) == (0.979, 0.06)
    assert best[1]["channels_pruned"] == 1


def test_no_state_within_x_is_said() -> None:
    figures = Figures((0.5,))
    figures.add(make_record("a", [(980, 400)]))
    assert figures.best_json() == [
        {
            "x": 0.5,
            **dict.fromkeys(("clean_accuracy", "attack_success", "channels_pruned", "trial_key", "step")),
        }
    ]


def test_one_by_one_is_all_at_once() -> None:
    rng = np.random.default_rng(0)
    records = [
        make_record(f"t{i}", [(int(rng.integers(900, 990)), int(rng.integers(0, 500))) for _ in range(8)])
        for i in range(20)
    ]
    states = frontier_states(records)
    figures = figures_of(records, (2.0,), 0.0)
    assert {(s.trial_key, s.step) for s in figures.states} == {(s.trial_key, s.step) for s in states}
    whole = hypervolume(
        np.array([s.counts.clean_accuracy for s in states]),
        np.array([s.counts.attack_success for s in states]),
    )
    assert figures.hypervolume == pytest.approx(whole)


def test_a_failed_trial_adds_nothing_and_nothing_is_known_before_the_first() -> None:
    figures = Figures((2.0,))
    figures.add(make_record("a", reason="no pairs"))
    assert figures.hypervolume == 0 and figures.best(2.0) is None and figures.badnet is None


def test_where_there_is_no_attack_nothing_is_proposed() -> None:
    figures = Figures((10.0,), target_share=1.0)
    figures.add(make_record("a", [(985, 400)], make_settings()))
    assert figures.control and figures.best(10.0) is None


@pytest.mark.parametrize(
    ("x", "expected"), [([10, 2, 2], (2.0, 10.0)), ({"from": 1, "to": 12}, (1.0, 6.5, 12.0))]
)
def test_bounds(x: object, expected: tuple[float, ...]) -> None:
    search = {"search": "random", "samples": 3} if isinstance(x, dict) else {}
    config = make_config(
        {"name": "n", "badnet": "embedded", "sweep": {"x_thresholds": x, **search}}, "a test"
    )
    assert bounds_of(config.sweep) == expected
