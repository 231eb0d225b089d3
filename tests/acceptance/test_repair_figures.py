"""What repairs of clean images reach on the real networks: chosen on validation, reported on test."""

from __future__ import annotations

from pathlib import Path

import pytest
from trial_figures import final, on_the_stand_in

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]


def test_stand_in(shared_data: Path) -> None:
    """Scaling, then ``finetune``, whose gradients come of clean images alone. Seen: 95.2 / 0.9 per cent
    (docs/decisions, changed weights, says how it was chosen; wanted were 90 / 10 at least). Training rounds
    differently on other machines, hence some room."""
    test = on_the_stand_in(shared_data, "finetune", 7)
    assert test.clean_accuracy >= 0.93 and test.attack_success <= 0.05


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
