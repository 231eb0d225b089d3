"""Published baselines where batch norm stands before convolutions and outputs are added."""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hand_nets import random_split
from preactivation_net import PreActivation, preactivation

from prune_core.baselines.anp import AnpSettings, anp
from prune_core.baselines.clp import U, clp
from prune_core.baselines.neurons import THRESHOLDS, counted
from prune_core.baselines.rnp import RnpSettings, rnp
from prune_core.model.model import PrunableModel
from prune_core.model.norms import norm_after
from prune_core.model.parameters import parameters_of
from prune_core.orders.plain import lipschitz_bounds
from prune_core.repair.nets import Given, MadeNet

ported = importlib.import_module("prune_core.baselines.fine_pruning")  # the package has the function
SPLIT = random_split((2, 8, 8), 3)


def everything(model: PrunableModel) -> list[tuple[str, list[int]]]:
    return [(layer.name, list(range(layer.channels))) for layer in model.layers[::-1]]


def made(function: Any, model: PrunableModel, *settings: Any) -> list[MadeNet]:
    return list(function(Given(model, SPLIT), everything(model), lambda *told: None, *settings))


def logits(model: PrunableModel, net: MadeNet) -> np.ndarray:
    with model.with_weights(net.weights).pruned(net.mask) as pruned:
        return pruned.logits(torch.from_numpy(SPLIT.clean.pixels)).numpy()


def by_hand(net: PreActivation) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = net(torch.from_numpy(SPLIT.clean.pixels)).numpy()
    return found


def test_the_batch_norm_behind_a_second_user_or_an_addition() -> None:
    _, model = preactivation()
    stem, inner, last = model.layers
    assert [layer.batch_norm is None for layer in (stem, inner, last)] == [True, False, True]
    assert norm_after(model, inner) == inner.batch_norm
    found = [norm_after(model, layer) for layer in model.layers]
    assert None not in found and len(set(found)) == 3


def test_clp_counts_the_scale_of_a_second_user() -> None:
    net, model = preactivation()
    for layer, conv, norm in zip(model.layers, (net.stem, net.inner, net.last), net.norms, strict=True):
        kernel = conv.weight.detach().double().flatten(2)
        scale = norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        largest = torch.linalg.matrix_norm(kernel, ord=2) * scale.abs()
        assert np.allclose(lipschitz_bounds(model, layer, norm_after(model, layer)), largest.numpy())


def test_clp_takes_a_channel_out_of_the_batch_norm_alone() -> None:
    """The addition still gets the stem's channel, as with the authors' code."""
    net, model = preactivation()
    kernels = {
        layer.name: kernel for layer, kernel in zip(model.layers, model.kernels().values(), strict=True)
    }
    stem = model.layers[0].name
    kernel = kernels[stem].copy()
    kernel[4] *= 20
    with torch.no_grad():
        net.stem.weight[4] *= 20
    held = next(p for p in model.proto.graph.initializer if list(p.dims) == list(kernel.shape))
    changed = model.with_weights({held.name: kernel})
    first = next(n for n in made(clp, changed) if n.weights)
    assert len(U) == 25 and not first.mask.only(stem)
    with torch.no_grad():
        net.norms[0].weight[4] = net.norms[0].bias[4] = 0
    assert not first.mask, "only the stem's channel is an outlier as far as that"
    assert np.allclose(logits(changed, first), by_hand(net), atol=1e-4)


def test_pruned_neurons_of_anp_keep_their_shift() -> None:
    """The scale of their batch norm is 0 and nothing else: by hand in the module."""
    net, model = preactivation()
    nets = made(anp, model, AnpSettings(steps=3, rate=5.0, batch=16))
    for state in (nets[0], nets[-1]):
        zeros = {k: np.flatnonzero(v == 0) for k, v in state.weights.items()}
        mine, _ = preactivation()
        with torch.no_grad():
            for norm in mine.norms:
                (name,) = (k for k, v in scales(model).items() if np.array_equal(v, norm.weight))
                norm.weight[zeros.get(name, [])] = 0
        assert sum(map(len, zeros.values())) > 0
        assert np.allclose(logits(model, state), by_hand(mine), atol=1e-4)


def scales(model: PrunableModel) -> dict[str, np.ndarray]:
    return {p.name: p.value() for p in parameters_of(model) if p.role == "scale"}


def test_rnp_has_states_by_count() -> None:
    """Also where no mask falls to a threshold that is published."""
    _, model = preactivation()
    settings = RnpSettings(epochs=1, recovering_epochs=1, recovering_rate=1e-6, batch=16)
    notes = [net.note for net in made(rnp, model, settings)]
    assert [n.split(", ")[1] for n in notes] == ["by count"] * len(counted(18))
    assert notes[0] == "RNP, by count, 1 of 18 neurons" and counted(18) == [*range(1, 17)]
    assert counted(30) == [*range(1, 17), 19, 22, 26] and THRESHOLDS[:2] == (0.0, 0.05)


def test_the_mildest_states_come_first_so_that_a_walk_may_end() -> None:
    _, model = preactivation()
    nets = made(rnp, model, RnpSettings(epochs=2, recovering_epochs=2, batch=16))
    sizes = [int(n.note.split(", ")[-1].split(" of ")[0]) for n in nets]
    assert sizes == sorted(set(sizes))


def test_rnp_unlearns_until_few_are_right() -> None:
    """A net that has unlearned already is left after its first epoch; one that has not goes on."""
    _, model = preactivation()
    for unlearned, epochs in ((1.0, 1), (-1.0, 3)):
        settings = RnpSettings(epochs=3, recovering_epochs=1, unlearned=unlearned, batch=16)
        assert told_by(model, settings).count("RNP, unlearning") == epochs


def told_by(model: PrunableModel, settings: RnpSettings) -> list[str]:
    told: list[str] = []
    next(rnp(Given(model, SPLIT), everything(model), lambda done, of, what: told.append(what), settings))
    return told


def test_fine_pruning_cuts_what_the_dense_layer_takes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranked behind the addition and ReLU, least active first; the convolution keeps its channels."""
    monkeypatch.setattr(ported, "SHARES", (0.5,))
    net, model = preactivation()
    pruned, tuned = made(ported.fine_pruning, model, replace(ported.PUBLISHED, steps=2))
    with torch.no_grad():
        features: list[torch.Tensor] = []
        net.dense.register_forward_pre_hook(lambda m, args: features.append(args[0]))
        by_hand(net)
        least = features[0].mean(0).argsort()[:3]
        net.dense.weight[:, least] = 0
    assert not pruned.mask and len(pruned.weights) == 1
    assert np.allclose(logits(model, pruned), by_hand(net), atol=1e-4)
    (name,) = pruned.weights
    zero = tuned.weights[name] == 0
    assert zero.sum() == 9 and len(tuned.weights) > 1
