"""What scaling and repairs reach on the real networks: chosen on validation, reported on test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prune_core.counts import Counts
from sweeps.config.schema import make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import only_trial
from sweeps.trial import run_trial

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def final(
    data: dict[str, Any], badnet: Path, evaluator: str = "plain", **sweep: Any
) -> tuple[Counts, Counts]:
    """The BadNet's and the final net's counts on test, of one trial."""
    tree = {
        "name": "figures",
        "badnet": str(badnet),
        "data": data,
        "sweep": {"orders": ["index"], "seeds": [0], **sweep},
    }
    config = make_config(tree, "a test")
    inputs = load_inputs(input_files(config), config.sweep.repair)
    evaluators = Evaluators.of(inputs, evaluator, config.resources.memory_gb)
    record = run_trial(only_trial(config.sweep, inputs.model), inputs, evaluators)
    assert record.status == "done", record.reason
    assert record.badnet_test is not None and record.test is not None
    assert record.states(), "no net within X"
    return record.badnet_test, record.test


@pytest.mark.parametrize(
    ("repair", "x", "fidelity", "attack"),
    [("finetune", 7, 0.93, 0.05), ("finetune-margin", 4, 0.93, 0.02), ("unlearn", 4, 0.95, 0.02)],
)
def test_stand_in(shared_data: Path, repair: str, x: float, fidelity: float, attack: float) -> None:
    """Scaling, then a repair; true labels come with the trigger picture. Seen for ``finetune``, whose
    gradients come of clean images alone: 95.2 / 0.9 per cent (docs/decisions, changed weights, says how
    it was chosen; wanted were 90 / 10 at least); for ``finetune-margin`` 95.2 / 0; for ``unlearn`` 97.4 / 0
    (wanted 95 / 2). Training rounds differently on other machines, hence some room."""
    files = shared_data / "csaw"
    data: dict[str, Any] = {f"clean_{split}": str(files / f"cl_{split}.h5") for split in ("valid", "test")}
    data["trigger"] = {"picture": str(files / "sunglasses_trigger.png"), "row": 15, "column": 0, "target": 0}
    _, test = final(
        data,
        files / "bd_weights.h5",
        layer_sets=["last:3"],
        x_thresholds=[x],
        policies=["scale"],
        repair=repair,
    )
    assert test.clean_accuracy >= fidelity and test.attack_success <= attack


def test_residual_net_within_half_a_point(shared_data: Path) -> None:
    """Traffic signs: pruned best first, then fine-tuned on clean images, the attack is at 1 % at most for
    half a point of clean accuracy at most. Seen: 2436 of 2500 (the BadNet 2438) and 0 of 2489."""
    files = shared_data / "gtsrb"
    data = {
        f"{side}_{split}": str(files / f"{short}_{split}.h5")
        for split in ("valid", "test")
        for side, short in (("clean", "cl"), ("poisoned", "bd"))
    }
    badnet, test = final(
        data,
        files / "badnet_resnet20.onnx",
        "incremental",
        orders=["across:taylor"],
        layer_sets=["last:6"],
        x_thresholds=[0.5],
        policies=["best-first"],
        repair="finetune",
    )
    assert test.attack_success <= 0.01, test
    assert float(test.clean_accuracy_fell(since=badnet)) <= 0.5, test
