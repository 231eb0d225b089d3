"""Scaling: factors go into the weights exactly, stay in [0, 1], and find the planted channel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from small_nets import TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.files.constants import weights_digest
from prune_core.model.model import build_model
from prune_core.model.parameters import parameters_of
from prune_core.repair.scaling import ScalingSettings, merged, scale_channels, scaled

QUICK = ScalingSettings(pressures=(0.1, 1.0), epochs=8, learning_rate=0.1)
LAYERS = [("c2", list(range(5)))]


def batch_norm_net() -> onnx.ModelProto:
    """A convolution without bias, a batch norm behind it, the mean over the image."""
    rng = np.random.default_rng(0)
    arrays = {
        "k": rng.normal(size=(3, 1, 1, 1)),
        "scale": rng.normal(size=3),
        "shift": rng.normal(size=3),
        "mean": rng.normal(size=3),
        "variance": 1 + rng.random(3),
    }
    nodes = [
        helper.make_node("Conv", ["images", "k"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["g"]),
        helper.make_node("Flatten", ["g"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", onnx.TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


@pytest.mark.parametrize("which", ["keras", "batch norm"])
def test_merged_factors_are_the_factors(tmp_path: Path, which: str) -> None:
    """By hook and by weights the same logits; the hooks are gone afterwards."""
    if which == "keras":
        model, name = small_badnet(tmp_path), "c2"
        pixels = torch.from_numpy(small_split(1).poisoned.pixels)
    else:
        model, name = build_model(batch_norm_net(), "digest", "net"), "conv"
        pixels = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    layer = model.layer(name)
    factor = np.linspace(0, 1, layer.channels, dtype=np.float32)
    before = model.logits(pixels)
    with scaled(model, {name: torch.from_numpy(factor)}):
        hooked = model.logits(pixels)
    assert not torch.equal(hooked, before) and torch.equal(model.logits(pixels), before)
    net = model.with_weights(merged({name: factor}, {name: layer}, parameters_of(model)))
    torch.testing.assert_close(net.logits(pixels), hooked, rtol=1e-5, atol=1e-6)
    assert not net.kernels()[name][0].any()  # a factor of 0 is a pruned channel: its kernel is zero


def test_scaling_disarms_the_planted_channel(tmp_path: Path) -> None:
    """Its factor falls, those of channels that carry the classes stay, clean accuracy holds; the
    BadNet is left as found, and a state's net does what the state says."""
    model, split = small_badnet(tmp_path), small_split(1)
    before = weights_digest({p.name: p.value() for p in parameters_of(model)})
    states = list(scale_channels(model, split, LAYERS, 0, QUICK))
    assert [s.stage for s in states] == [0, 1]
    assert weights_digest({p.name: p.value() for p in parameters_of(model)}) == before
    last = states[-1]
    factors = last.factors["c2"]
    assert ((factors >= 0) & (factors <= 1)).all()
    assert factors[TRIGGER_CHANNEL] < 0.4 < factors[:4].min()
    assert sorted(last.weights) == ["c2/bias", "c2/kernel"]
    net = PlainEvaluator(model.with_weights(last.weights), split)
    assert net.badnet.clean_accuracy == 1 and net.badnet.attack_success < 0.5
    assert PlainEvaluator(model, split).badnet.attack_success == 1


def test_only_the_layer_set_is_scaled_and_a_seed_repeats(tmp_path: Path) -> None:
    model, split = small_badnet(tmp_path), small_split(1)
    some = [("c2", [0, 4])]
    short = ScalingSettings(pressures=(0.1,), epochs=1, batch=16)  # still on the way
    first, again = (list(scale_channels(model, split, some, 3, short))[-1] for _ in range(2))
    assert weights_digest(first.weights) == weights_digest(again.weights)
    assert (first.factors["c2"][[1, 2, 3]] == 1).all() and first.factors["c2"][4] < 1
    other = list(scale_channels(model, split, some, 4, short))[-1]
    assert weights_digest(first.weights) != weights_digest(other.weights)


def test_true_labels_are_not_looked_at(tmp_path: Path) -> None:
    model = small_badnet(tmp_path)
    results = {
        weights_digest(list(scale_channels(model, small_split(1, truth=t), LAYERS, 0, QUICK))[-1].weights)
        for t in (True, False)
    }
    assert len(results) == 1


def test_a_layer_that_shares_its_kernel_is_refused() -> None:
    proto = batch_norm_net()
    proto.graph.node[1].input[2] = "scale"  # the shift is now the scale's constant too
    model = build_model(proto, "digest", "net")
    with pytest.raises(InputError, match="channels of conv cannot be scaled: it shares weights"):
        next(scale_channels(model, small_split(1), [("conv", [0])]))
