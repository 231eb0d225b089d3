"""What pruning alone reaches on real networks: chosen on validation, asserted on test."""

from __future__ import annotations

import pytest

from prune_core.data.images import make_split, read_images
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import load_model
from sweeps.config.schema import ResourcesConfig
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.planning.search_space import spelled
from sweeps.records.settings import TrialSettings
from sweeps.reports.study import lowest_attack_within
from sweeps.trial import run_trial

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def inputs_of(folder, badnet: str, architecture: str | None = None) -> TrialInputs:
    valid, test = (
        make_split(read_images(folder / f"cl_{s}.h5"), read_images(folder / f"bd_{s}.h5"))
        for s in ("valid", "test")
    )
    return TrialInputs(load_model(folder / badnet, architecture), valid, test)


@pytest.fixture(scope="module")
def csaw(shared_data):
    inputs = inputs_of(shared_data / "csaw", "bd_weights.h5", "deepid")
    return inputs, Evaluators.of(inputs, "incremental", ResourcesConfig().memory_gb)


@pytest.mark.parametrize(("author", "x"), [("gn-x2", 4.88), ("gn-x4", 4.88), ("gn-x10", 44.0)])
def test_better_than_each_of_the_authors_nets(csaw, shared_data, author, x) -> None:
    """By 5 points or more on one axis, and no worse on the other; channels zeroed, no weight changed.
    On validation the first loses what the author's does, 4.88 points, and beats both milder nets. At
    what the author's X = 4 net loses, 17.8 points, ours has an attack 27 points weaker on test, but
    2.6 points less clean accuracy there, so it is no case of this."""
    inputs, evaluators = csaw
    net = load_model(shared_data / "csaw" / f"{author}_weights.h5", "deepid")
    theirs = PlainEvaluator(net, inputs.test).counts(ChannelMask())
    layers = spelled(resolve_layer_set("last:3", inputs.model), inputs.model)
    record = run_trial(TrialSettings("across:activation-gap", layers, x, "best-first"), inputs, evaluators)
    assert record.status == "done", record.reason
    state = lowest_attack_within(record.states(), evaluators.valid.badnet, x)
    assert state is not None
    ours = evaluators.test.counts(state.mask)
    accuracy = 100 * (ours.clean_accuracy - theirs.clean_accuracy)
    attack = 100 * (theirs.attack_success - ours.attack_success)
    assert min(accuracy, attack) >= 0 and max(accuracy, attack) >= 5, (accuracy, attack)


def test_a_residual_net_is_disarmed_within_two_points(shared_data) -> None:
    """Attack success of at most 1 % within 2 points of clean accuracy, on a ResNet with batch norm.
    On validation the choice is the most accurate state with at most half a per cent."""
    inputs = inputs_of(shared_data / "gtsrb", "badnet_resnet20.onnx")
    evaluators = Evaluators.of(inputs, "incremental", ResourcesConfig().memory_gb)
    layers = spelled(resolve_layer_set("last:6", inputs.model), inputs.model)
    record = run_trial(TrialSettings("across:taylor", layers, 2.0, "in-order"), inputs, evaluators)
    assert record.status == "done", record.reason
    states = [s for s in record.states() if s.counts.attack_success <= 0.005]
    chosen = max(states, key=lambda s: (s.counts.clean_correct, -len(s.mask)))
    test = evaluators.test.counts(chosen.mask)
    assert test.attack_success <= 0.01, test
    assert float(test.clean_accuracy_fell(since=evaluators.test.badnet)) <= 2, test
