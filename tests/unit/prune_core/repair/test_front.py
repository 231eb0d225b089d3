"""What training leaves as it is is worked out once: the rest says the same, and learns the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from odd_nets import IMAGES, made
from small_nets import small_badnet, small_split
from torch import nn

from prune_core.model.from_module import from_module
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.repair import front
from prune_core.repair.front import Front
from prune_core.repair.losses import image_tensor
from prune_core.repair.scaling import ScalingSettings, scale_channels
from prune_core.repair.student import training_form


def test_the_rest_of_a_network_says_what_the_whole_one_does(tmp_path: Path) -> None:
    model = small_badnet(tmp_path)
    pixels = image_tensor(small_split(1).clean, model.device)
    rows = torch.tensor([5, 0, 7, 7])
    whole = model.graph(model.arranged(pixels[rows]))
    kept = Front(model, [model.layer("c2").node], pixels, batch=40)
    assert [value.shape[1] for value in kept.kept] == [3]  # what c1 says
    assert torch.allclose(kept.logits(rows), whole, atol=1e-5)
    with torch.no_grad():
        model.conv(model.layer("c2")).weight.mul_(2)
    after = model.graph(model.arranged(pixels[rows]))
    assert not torch.allclose(after, whole) and torch.allclose(kept.logits(rows), after, atol=1e-5)


def test_nothing_is_kept_of_a_network_that_changes_at_once_or_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_badnet(tmp_path)
    pixels = image_tensor(small_split(1).clean, model.device)
    rows = torch.arange(3)
    at_once = Front(model, [model.layer("c1").node], pixels)
    monkeypatch.setattr(front, "KEPT", 100)
    too_large = Front(model, [model.layer("c2").node], pixels)
    for whole in (at_once, too_large):
        assert not whole.kept
        assert torch.equal(whole.logits(rows), model.graph(model.arranged(pixels[rows])))


def test_scaling_learns_the_same_with_and_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain twin: the whole network at every step."""
    model, split = small_badnet(tmp_path), small_split(1)
    layers, few = resolve_layer_set("last:1", model), ScalingSettings(pressures=(0.1,), epochs=2)
    (fast,) = scale_channels(model, split, layers, 0, few)
    monkeypatch.setattr(front, "KEPT", 0)
    (plain,) = scale_channels(model, split, layers, 0, few)
    assert (plain.factors["c2"] != 1).any()
    assert np.allclose(fast.factors["c2"], plain.factors["c2"], atol=1e-4)


class UsedTwice(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(x)
        return torch.cat([nn.functional.max_pool2d(x, 2), nn.functional.avg_pool2d(x, 2)], dim=1)


@pytest.mark.parametrize(
    ("middle", "moved"), [(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), True), (UsedTwice(), False)]
)
def test_a_network_trains_the_same_in_training_form(middle: nn.Module, moved: bool) -> None:
    """A pool stands before the ReLU that it alone follows; outputs and gradients are equal to the bit."""
    net = made(middle)
    model = from_module(net, torch.from_numpy(IMAGES[:2]))
    student = training_form(model)
    modules = dict(student.graph.named_modules())
    names = [
        type(modules[str(n.target)]).__name__ for n in student.graph.graph.nodes if n.op == "call_module"
    ]
    assert (names.index("MaxPool2d") < names.index("ReLU")) == moved
    found = []
    for form in (model, student):
        form.graph.requires_grad_(True)
        logits = form.graph(form.arranged(torch.from_numpy(IMAGES)))
        logits.square().mean().backward()
        found.append([logits, *(p.grad for p in form.graph.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
