"""Published baselines: what each is given, what it prunes, and that it leaves things as found."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
import torch
from small_nets import TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.baselines import BASELINES
from prune_core.baselines.anp import _neurons
from prune_core.baselines.thresholds import pruned_below
from prune_core.files.constants import weights_digest
from prune_core.masks import Channel
from prune_core.methods import CLEAN, WEIGHTS_ALONE, method_of
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of
from prune_core.repair.nets import Given, MadeNet

LAYERS = [("c2", list(range(5))), ("c1", list(range(3)))]


def nets(name: str, model: PrunableModel, seed: int = 0, poison: int = 1) -> list[MadeNet]:
    """``poison`` chooses other poisoned images with the same clean ones."""
    split = small_split(1)
    poisoned = small_split(poison).poisoned
    given = Given(model, type(split)(split.clean, poisoned), seed)
    return list(BASELINES[name](given, LAYERS, lambda done, total, what: None))


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its nets prune more and more channels of the layer set; the BadNet is left as found; the same
    seed gives the same nets; poisoned images have no part in it."""
    # So sure a net does not feel ANP's own budget; a larger one moves its masks.
    monkeypatch.setattr(importlib.import_module("prune_core.baselines.anp"), "EPSILON", 2.0)
    model = small_badnet(tmp_path)
    before = weights_digest({p.name: p.value() for p in parameters_of(model)})
    made = nets(name, model)
    assert made
    if name == "baseline:anp":
        assert Channel("c2", TRIGGER_CHANNEL) in made[0].mask.channels
    assert all(a.mask.channels <= b.mask.channels for a, b in zip(made, made[1:], strict=False))
    assert {c.layer for net in made for c in net.mask} <= {"c1", "c2"}
    assert weights_digest({p.name: p.value() for p in parameters_of(model)}) == before
    assert not any(p.requires_grad for p in model.graph.parameters())
    for other in (nets(name, model), nets(name, model, poison=7)):
        assert [n.mask for n in other] == [n.mask for n in made]
        assert [weights_digest(n.weights) for n in other] == [weights_digest(n.weights) for n in made]


def test_what_each_takes() -> None:
    takes = {name: method_of(name).assumption for name in BASELINES}
    assert takes.pop("baseline:clp") == WEIGHTS_ALONE
    assert set(takes.values()) == {CLEAN}
    assert {method_of(name).kind for name in BASELINES} == {"baseline"}


def test_clp_prunes_an_outlier_first(tmp_path: Path) -> None:
    """A kernel ten times as large has a bound ten times as large."""
    model = small_badnet(tmp_path)
    kernel = model.kernels()["c2"]
    kernel[2] *= 10
    first = nets("baseline:clp", model.with_weights({"c2/kernel": kernel}))[0]
    assert first.mask.by_layer()["c2"] == [2]


def test_fine_pruning_prunes_what_clean_images_do_not_use(tmp_path: Path) -> None:
    """The trigger's channel is silent on clean images; and pruned rows are zero in its weights."""
    model = small_badnet(tmp_path)
    made = nets("baseline:fine-pruning", model)
    assert made[0].mask.by_layer() == {"c2": [TRIGGER_CHANNEL]}
    for net in made:
        kernels = model.with_weights(net.weights).kernels()
        assert not kernels["c2"][net.mask.by_layer()["c2"]].any()


def test_anp_neurons_by_hand(tmp_path: Path) -> None:
    """(m + d) (output - bias) + (1 + x) bias, on every pixel."""
    model = small_badnet(tmp_path)
    layer = model.layer("c2")
    pixels = torch.from_numpy(small_split(1).clean.pixels[:3])
    seen: list[torch.Tensor] = []
    module = model.graph.get_submodule(layer.node)
    # Hooks are called in turn: one before the factors, one after.
    first = module.register_forward_hook(lambda m, a, out: seen.append(out.clone()))
    mask = {"c2": torch.linspace(0, 1, 5)}
    shaken = {"weight": {"c2": torch.full((5,), 0.1)}, "bias": {"c2": torch.full((5,), -0.2)}}
    with _neurons(model, mask, shaken):
        second = module.register_forward_hook(lambda m, a, out: seen.append(out.clone()))
        model.logits(pixels)
    first.remove()
    second.remove()
    plain, shaky = seen
    bias = model.conv(layer).bias
    assert bias is not None
    shape = (1, 5, 1, 1)
    still = bias.reshape(shape)
    expected = (mask["c2"] + 0.1).reshape(shape) * (plain - still) + 0.8 * still
    torch.testing.assert_close(shaky, expected, rtol=1e-5, atol=1e-6)
    assert len(module._forward_hooks) == 0


def test_nets_along_a_threshold() -> None:
    values = {"a": np.array([0.0, 0.3, 1.0]), "b": np.array([0.5, 0.2])}
    layer_set = [("a", [0, 1, 2]), ("b", [1])]
    made = list(pruned_below(values, layer_set, [-1, 0, 0.1, 0.4, 1], "x"))
    assert [(n.mask.by_layer(), n.note) for n in made] == [
        ({"a": [0]}, "x, threshold 0"),
        ({"a": [0, 1], "b": [1]}, "x, threshold 0.4"),
        ({"a": [0, 1, 2], "b": [1]}, "x, threshold 1"),
    ]
