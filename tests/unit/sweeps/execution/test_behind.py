"""Which trials lie behind others, by Ray Tune's own rules; no cluster is needed to see it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

ray = pytest.importorskip("ray")

from factories import make_record, make_settings  # noqa: E402

from sweeps.config.search import StopConfig  # noqa: E402
from sweeps.execution.behind import Milestones, StoppingRule  # noqa: E402
from sweeps.trial import judged, volume_of  # noqa: E402

ASHA = StopConfig(rule="asha", grace_period=2, reduction_factor=2)
MEDIAN = StopConfig(rule="median", grace_period=2, min_samples=2)


def walk(name: str, *attacked: int, policy: str = "margin"):
    """A trial whose candidates are all accepted; after each so many images are attacked."""
    return make_record(name, [(980, n) for n in attacked], make_settings(policy=policy))


def stopped_at(rule: StoppingRule, record) -> int | None:
    """After how many questions the trial is stopped as it runs."""
    judge = rule.for_trial(record.settings.policy, record.key)
    for asked in range(1, len(record.steps) + 1):
        why = judge(asked, lambda n=asked: volume_of(record.steps[:n]))
        if why is not None:
            rule.ended(replace(record, status="stopped", reason=why, steps=record.steps[:asked]))
            return asked
    rule.ended(record)
    return None


GOOD, POOR = (400, 200, 100, 50), (490, 480, 470, 460)


@pytest.mark.parametrize("stop", [ASHA, MEDIAN])
def test_who_lies_behind_is_stopped_after_the_grace_period(stop: StopConfig) -> None:
    rule = StoppingRule(stop)
    assert [stopped_at(rule, walk(f"good-{n}", *GOOD)) for n in range(3)] == [None] * 3
    assert stopped_at(rule, walk("poor", *POOR)) == 2
    assert stopped_at(rule, walk("as good", *GOOD)) is None  # equals are not behind


def test_a_reason_names_rule_figure_and_questions() -> None:
    rule = StoppingRule(ASHA, [walk("good", *GOOD)])
    why = rule.judge("margin", "poor", 2, 0.25)
    assert why == "asha: hypervolume 0.2500 after 2 questions, behind other trials of policy margin"
    # Lost with its worker and run again, it is stopped for the same reason, whatever is asked.
    assert rule.judge("margin", "poor", 2, 0.25) == rule.judge("margin", "poor", 4, 1.0) == why


@pytest.mark.parametrize("stop", [ASHA, MEDIAN])
def test_another_policy_is_not_compared_with(stop: StopConfig) -> None:
    rule = StoppingRule(stop, [walk(f"good-{n}", *GOOD) for n in range(3)])
    assert stopped_at(rule, walk("slow", *POOR, policy="best-first")) is None


@pytest.mark.parametrize("stop", [ASHA, MEDIAN])
def test_a_sweep_that_goes_on_decides_as_if_it_had_not_been_interrupted(stop: StopConfig) -> None:
    trials = [
        walk(f"t{n}", *(500 - (7 * n * k) % 90 - (40 * k * (n % 3)) for k in range(1, 10))) for n in range(20)
    ]
    whole = StoppingRule(stop)
    undisturbed = [stopped_at(whole, trial) for trial in trials]
    assert 3 < sum(at is not None for at in undisturbed) < 17
    half = StoppingRule(stop)
    first = [stopped_at(half, trial) for trial in trials[:10]]
    over = [
        t if at is None else replace(t, status="stopped", reason="behind", steps=t.steps[:at])
        for t, at in zip(trials[:10], first, strict=True)
    ]
    again = StoppingRule(stop, over)
    assert first + [stopped_at(again, trial) for trial in trials[10:]] == undisturbed


@pytest.mark.parametrize("stop", [ASHA, MEDIAN])
def test_an_attempt_that_was_lost_counts_once(stop: StopConfig) -> None:
    lost, never = StoppingRule(stop), StoppingRule(stop)
    for rule in (lost, never):
        for n in range(3):
            stopped_at(rule, walk(f"good-{n}", *GOOD))
    assert lost.judge("margin", "again", 2, 0.7) is None  # and its worker dies
    assert stopped_at(lost, walk("again", *GOOD)) is stopped_at(never, walk("again", *GOOD)) is None
    assert stopped_at(lost, walk("poor", *POOR)) == stopped_at(never, walk("poor", *POOR)) == 2


def test_a_failed_trial_is_nobody_to_compare_with() -> None:
    rule = StoppingRule(ASHA, [make_record("failed", reason="no such layer")])
    assert stopped_at(rule, walk("first", *POOR)) is None


def test_milestones_are_rungs_of_asha_and_multiples_for_median() -> None:
    def due(stop: StopConfig) -> list[int]:
        return [n for n in range(1, 500) if Milestones.of(stop)(n)]

    assert due(StopConfig(rule="asha", grace_period=5)) == [5, 20, 80, 320]
    thirds = due(StopConfig(rule="asha", grace_period=2, reduction_factor=2.5))
    assert thirds == [math.ceil(2 * 2.5**k) for k in range(7)]
    assert due(StopConfig(rule="median", grace_period=150)) == [150, 300, 450]


def test_only_walks_without_a_repair_are_judged() -> None:
    settings = make_settings()
    assert judged(settings) and judged(replace(settings, policy="best-first"))
    for other in (
        {"repair": "finetune"},
        {"policy": "scale"},
        {"policy": "baseline:anp"},
        {"policy": "prefix"},
    ):
        assert not judged(replace(settings, **other))
