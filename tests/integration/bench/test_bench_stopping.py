"""What stopping saves is replayed with what a stopped sweep would know, and no more."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from factories import make_record  # noqa: E402

from sweeps.config.search import StopConfig  # noqa: E402
from sweeps.planning.search_space import SearchSpace  # noqa: E402
from sweeps.records.trial_record import TrialRecord  # noqa: E402
from tests.bench import stopping  # noqa: E402


class AfterTwo:
    """Stops each trial after two questions."""

    told: list[int] = []

    def __init__(self, stop: StopConfig) -> None:
        self.told.clear()

    def due(self, questions: int) -> bool:
        return True

    def judge(self, policy: str, key: str, questions: int, volume: float) -> str | None:
        return "behind" if questions == 2 else None

    def ended(self, record: TrialRecord) -> None:
        self.told.append(len(record.steps))


def test_a_rule_is_not_told_what_a_stopped_trial_would_have_come_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "StoppingRule", AfterTwo)
    record = make_record("a", [(980, 300), (970, 200), (960, 100), (950, 0)])
    space = SearchSpace(("margin",), ("none",), (), (), ("index",), (0,), (4.0,))
    grid = stopping.Grid("grid", space, {record.settings: record}, {record.key: 4.0})
    points, stopped = grid.course([record.settings], StopConfig(rule="asha"))
    assert (stopped, points[0][0], AfterTwo.told) == (1, 2, [2])
    assert points[0][2] == 2.0  # of four seconds for four networks
