"""``finetune-robust``: where gradients are taken, what is held and looked at, what comes out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_nets import TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.data.images import Split
from prune_core.files.constants import weights_digest
from prune_core.masks import ChannelMask
from prune_core.methods import CLEAN, KINDS, method_of, repaired
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of, student_of
from prune_core.repair.finetune import check_repair, trained_parameters
from prune_core.repair.lesson import Course
from prune_core.repair.nets import Given, MadeNet
from prune_core.repair.robust import Way, finetune_robust

QUICK = Course("quick", rounds=4, batches=5, batch=32, learning_rate=0.01, pressure=1.0, size=0.3)
MASK = ChannelMask.of({"c2": [TRIGGER_CHANNEL], "c1": [2]})


def nets(model: PrunableModel, split: Split | None = None, **options: Any) -> list[MadeNet]:
    return list(finetune_robust(Given(model, split or small_split(1)), MASK, {}, course=QUICK, **options))


def moved(model: PrunableModel, net: MadeNet) -> float:
    """How far the net's weights are from the BadNet's, the pruned channels left aside."""
    now, before = (
        {p.name: p.tensor for p in parameters_of(made)} for made in (model.with_weights(net.weights), model)
    )
    held = {name for name in before if (now[name] == 0).any() and not (before[name] == 0).any()}
    return float(sum((now[n] - before[n]).square().sum() for n in before if n not in held)) ** 0.5


def test_within_a_point_the_weights_are_on_the_way_and_afterwards_as_before(tmp_path: Path) -> None:
    model = small_badnet(tmp_path)
    trained = trained_parameters(student_of(model))
    ends = {p.name: p.tensor + 2 for p in trained}
    before = [p.tensor.clone() for p in trained]
    way = Way(ends, 0.5, torch.Generator().manual_seed(0))
    shares = set()
    for _ in range(4):
        with pytest.raises(ArithmeticError), way.point(trained):
            gone = [(p.tensor - b) / 2 for p, b in zip(trained, before, strict=True)]
            share = float(gone[0].mean())
            assert 0 <= share <= 0.5 and all(torch.allclose(g, gone[0].mean(), atol=1e-5) for g in gone)
            shares.add(round(share, 4))
            raise ArithmeticError
        assert all(torch.equal(p.tensor, b) for p, b in zip(trained, before, strict=True))
    assert len(shares) == 4  # drawn anew each time


def test_later_rounds_come_back_the_last_one_last_and_pruned_channels_stay_zero(tmp_path: Path) -> None:
    model, told = small_badnet(tmp_path), []
    before = weights_digest({p.name: p.value() for p in parameters_of(model)})
    made = nets(model, tell=lambda *of: told.append(of))
    assert [net.note for net in made] == [f"finetune-robust, round {n} of 4" for n in (3, 4)]
    assert told == [(n, 4, "finetune-robust") for n in (1, 2, 3, 4)]
    for net in made:
        again = model.with_weights(net.weights)
        for layer, rows in MASK.by_layer().items():
            bias = again.conv(again.layer(layer)).bias
            assert not again.kernels()[layer][rows].any() and bias is not None and not bias[rows].any()
    assert weights_digest({p.name: p.value() for p in parameters_of(model)}) == before


def test_no_poisoned_image_is_looked_at_and_the_seed_decides(tmp_path: Path) -> None:
    model, split = small_badnet(tmp_path), small_split(1)
    other = replace(split.poisoned, pixels=np.zeros_like(split.poisoned.pixels), true_labels=None)
    blind = replace(split, poisoned=other)
    assert [weights_digest(n.weights) for n in nets(model)] == [
        weights_digest(n.weights) for n in nets(model, blind)
    ]


def test_gradients_along_the_way_take_the_weights_further_from_the_badnet(tmp_path: Path) -> None:
    model = small_badnet(tmp_path)
    at_the_weights, along = nets(model, most=0.0)[-1], nets(model)[-1]
    assert moved(model, along) > moved(model, at_the_weights) > 0


def test_it_is_known_as_a_repair(tmp_path: Path) -> None:
    known = method_of("margin", "finetune-robust")
    assert known.kind == "finetune-robust" in KINDS
    assert method_of("final-layer", "finetune-robust").assumption == CLEAN
    check_repair("finetune-robust", small_split(1))
    given = Given(small_badnet(tmp_path), small_split(1))
    first = next(repaired("finetune-robust", given, MadeNet(MASK, {}, "start"), lambda *told: None))
    assert first.note.startswith("start; finetune-robust, round ")
