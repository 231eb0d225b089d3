"""What the choice of a state flatters, from the records of a sweep."""

from __future__ import annotations

import numpy as np
import pytest

from prune_core.evaluation.plain import PlainEvaluator
from sweeps.choosing.bias import choice_bias, states_in_reach
from sweeps.choosing.criteria import Knee, MaxAccuracyDrop, MaxAttackSuccess
from sweeps.config.schema import make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.results import FrontierPoint, frontier_states, net_digest
from sweeps.trial import run_trial


@pytest.fixture(scope="module")
def swept(smoke_files, tmp_path_factory: pytest.TempPathFactory):
    """The records of a small sweep, and the evaluator of validation."""
    tree = {
        "name": "biased",
        "badnet": "embedded-smoke",
        "storage": str(tmp_path_factory.mktemp("runs")),
        "sweep": {
            "orders": ["index", "across:activation-gap"],
            "layer_sets": ["last:2"],
            "x_thresholds": [4, 10],
            "policies": ["margin", "in-order"],
        },
    }
    config = make_config(tree, "a test")
    inputs = load_inputs(input_files(config))
    evaluators = Evaluators.of(inputs, "plain", 4.0)
    records = [run_trial(t, inputs, evaluators) for t in trials_of(config.sweep, inputs.model)]
    return records, PlainEvaluator(inputs.model, inputs.valid)


def points(records) -> list[FrontierPoint]:
    return [
        FrontierPoint(s.trial_key, s.step, s.mask, s.counts, s.counts, s.settings, s.weights)
        for s in frontier_states(records)
    ]


@pytest.mark.parametrize("criterion", [MaxAccuracyDrop(4), MaxAttackSuccess(0.9), Knee()])
def test_figures_of_a_choice(swept, criterion) -> None:
    records, valid = swept
    point, _ = criterion.choose(points(records), valid.badnet)
    told = choice_bias(point, records, criterion, valid, lambda state: {})
    assert 1 < told["states"] <= told["states_in_reach"]
    assert told["images"] == {"clean": point.valid.clean_total, "poisoned": point.valid.poisoned_total}
    for rate, direction in (("clean_accuracy", -1), ("attack_success", 1)):
        figure, counted = told[rate], getattr(point.valid, rate)
        assert figure["rate"] == pytest.approx(np.clip(counted + direction * figure["optimism"], 0, 1))
        assert figure["interval"][0] <= figure["rate"] <= figure["interval"][1]
        plain = next(r.interval for r in point.valid.rates() if r.name == rate)
        assert figure["plain_interval"] == pytest.approx(plain)  # counted again, image by image: the same


def test_time_is_bounded_and_the_same_choice_gives_the_same(swept) -> None:
    records, valid = swept
    point, _ = Knee().choose(points(records), valid.badnet)
    hurried = choice_bias(point, records, Knee(), valid, lambda state: {}, seconds=0)
    assert hurried["states"] == 1 < hurried["states_in_reach"]
    first, second = (choice_bias(point, records, Knee(), valid, lambda state: {}) for _ in range(2))
    assert first == second


def test_states_in_reach_are_no_better_far_off_or_the_point_itself(swept) -> None:
    records, valid = swept
    point, _ = MaxAccuracyDrop(4).choose(points(records), valid.badnet)
    near = states_in_reach(point, records)
    digests = [net_digest(s) for s in near]
    assert digests and len(set(digests)) == len(digests) and net_digest(point) not in digests
    far = {net_digest(s) for r in records for s in r.states()} - set(digests) - {net_digest(point)}
    assert far  # conv_4 alone does nothing to the attack: nobody would choose it


def test_the_same_choice_on_other_images() -> None:
    """The BadNet first, and never chosen; ties by the other rate; the nearest where none qualifies."""
    clean = np.array([[0.98, 0.97, 0.97, 0.90], [0.98, 0.90, 0.91, 0.80]])
    attack = np.array([[0.0, 0.30, 0.20, 0.01], [0.0, 0.1, 0.1, 0.1]])
    assert MaxAccuracyDrop(4).again(clean, attack).tolist() == [2, 2]
    assert MaxAttackSuccess(0.25).again(clean, attack).tolist() == [2, 2]
    assert Knee().again(clean, attack).tolist() == [3, 2]


@pytest.mark.slow
def test_pick_tells_it(smoke_files, tmp_path) -> None:
    """From the command: in the JSON, on the card, and in the terminal."""
    from sweeps.api import sweep
    from sweeps.cli import show

    tree = {
        "name": "told",
        "badnet": "embedded-smoke",
        "storage": str(tmp_path / "runs"),
        "sweep": {"layer_sets": ["last:2"], "policies": ["in-order"], "orders": ["across:activation-gap"]},
    }
    made = sweep(make_config(tree, "a test"), executor="inline")
    result = made.pick(max_accuracy_drop=10, out=tmp_path / "out")
    optimism = result["choice"]["attack_success"]["optimism"]
    said = f"{100 * optimism:.2f} points off the count"
    assert optimism >= 0 and said in show.pick(result)
    assert said in (tmp_path / "out" / result["card"].rpartition("/")[2]).read_text()
