"""The seed author's targeted procedure on the seed's own network, decision by decision."""

from __future__ import annotations

import json

import pytest

from prune_core.data.images import make_split, read_images
from prune_core.model.model import load_model
from sweeps.config.schema import ResourcesConfig
from sweeps.evaluators import Evaluators
from sweeps.inputs.trial_inputs import TrialInputs
from sweeps.records.settings import TrialSettings
from sweeps.trial import run_trial

LAYERS = ("conv_4", "conv_3", "conv_2")


@pytest.fixture(scope="module")
def csaw(shared_data):
    folder = shared_data / "csaw"
    model = load_model(folder / "bd_weights.h5", "deepid")
    valid, test = (
        make_split(read_images(folder / f"cl_{s}.h5"), read_images(folder / f"bd_{s}.h5"))
        for s in ("valid", "test")
    )
    inputs = TrialInputs(model, valid, test)
    return inputs, Evaluators.of(inputs, "incremental", ResourcesConfig().memory_gb)


@pytest.mark.acceptance
@pytest.mark.parametrize("x", [2, 4, 10])
def test_the_same_channels_and_the_same_four_metrics(csaw, shared_data, x) -> None:
    expected = json.loads((shared_data / "csaw" / "seed_script.json").read_text())[str(x)]
    record = run_trial(TrialSettings("index", LAYERS, float(x), "seed"), *csaw)
    assert record.status == "done", record.reason
    accepted = {layer: ids for layer, ids in expected["accepted"].items() if ids}
    assert record.mask.by_layer() == accepted and record.mask.keep_bias
    assert len(record.mask) == expected["channels_accepted"]
    for split in ("valid", "test"):
        counts = getattr(record, split)
        assert (counts.clean_correct, counts.clean_total, counts.attacked, counts.poisoned_total) == (
            expected[split]["clean_correct"],
            expected[split]["clean_total"],
            expected[split]["attack_success"],
            expected[split]["poisoned_total"],
        )
