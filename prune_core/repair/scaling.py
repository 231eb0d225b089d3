"""Scaling: a factor in [0, 1] for every channel, learned by gradient descent, merged into the weights.

Pruning is the special case of factors 0 and 1. What comes out is an ordinary net of the BadNet's
architecture; but it has changed weights, so it is never counted as pruning.

The loss is the divergence from the BadNet's own answers on clean images, plus a weight times the
attack hinge on poisoned images. It needs no labels of either. The weight grows from stage to
stage, so a run walks along the trade of clean accuracy against attack success; every stage's end is
a state. After the learned masks of ANP (arXiv 2110.14430) and RNP (arXiv 2305.14876), with known poison.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.model.model import ConvLayer, PrunableModel
from prune_core.model.parameters import Parameter, of_layer, parameters_of
from prune_core.repair.front import Front
from prune_core.repair.losses import (
    attack_hinge,
    distillation,
    image_tensor,
    logits_of,
    shuffled_batches,
    target_tensor,
)
from prune_core.repair.student import training_form
from prune_core.threads import steps_on_fixed_threads


@dataclass(frozen=True)
class ScalingSettings:
    """``pressures``: the weight of the attack hinge, a stage each, in nats of divergence per logit.
    ``clearance`` in logits; ``epochs`` a stage."""

    pressures: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
    epochs: int = 5
    learning_rate: float = 0.03
    clearance: float = 2.0
    batch: int = 64


DEFAULT = ScalingSettings()


@dataclass(frozen=True)
class ScaledState:
    """The end of a stage.

    Attributes:
        factors: ``{layer: (channels,) float32}``; 1 for channels outside the layer set.
        weights: the BadNet's constants with the factors merged in.
        mask: channels whose factor is 0.
    """

    stage: int
    factors: dict[str, np.ndarray]
    weights: Weights
    mask: ChannelMask


@steps_on_fixed_threads
def scale_channels(
    model: PrunableModel,
    split: Split,
    layer_set: LayerSet,
    seed: int = 0,
    settings: ScalingSettings = DEFAULT,
) -> Iterator[ScaledState]:
    """Learn factors for the channels of ``layer_set`` on the validation split; a state a stage.

    The same seed gives the same factors on the same machine, on however many threads. ``model`` is
    left as found. Raises InputError where factors cannot be merged into a layer's weights.
    """
    device, student = model.device, training_form(model)
    layers = {name: model.layer(name) for name, _ in layer_set}
    held = parameters_of(model)
    for layer in layers.values():
        check_mergeable(model, layer, held)
    free = {name: torch.zeros(layers[name].channels, device=device) for name, _ in layer_set}
    for name, channels in layer_set:
        free[name][channels] = 1
    factors = {name: torch.ones_like(f).requires_grad_(True) for name, f in free.items()}
    clean, poisoned = image_tensor(split.clean, device), image_tensor(split.poisoned, device)
    targets, wanted = target_tensor(split.poisoned, device), logits_of(model, clean)
    scaled_modules = [_scaled_module(layer) for layer in layers.values()]
    front = Front(student, scaled_modules, torch.cat([clean, poisoned]))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(factors.values(), lr=settings.learning_rate)
    for stage, pressure in enumerate(settings.pressures):
        for epoch in range(settings.epochs):
            for group in optimizer.param_groups:  # calmer towards the end of each stage
                group["lr"] = settings.learning_rate * (1 - epoch / settings.epochs)
            batches = zip(
                shuffled_batches(len(clean), settings.batch, generator, device),
                shuffled_batches(len(poisoned), settings.batch, generator, device),
                strict=False,
            )
            for rows, attacked in batches:
                with scaled(student, factors):
                    both = front.logits(torch.cat([rows, len(clean) + attacked]))
                loss = distillation(both[: len(rows)], wanted[rows]) + pressure * attack_hinge(
                    both[len(rows) :], targets[attacked], settings.clearance
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    for name, factor in factors.items():
                        factor.clamp_(0, 1)
                        factor[free[name] == 0] = 1
        yield _state(stage, factors, layers, held)


@contextmanager
def scaled(model: PrunableModel, factors: dict[str, torch.Tensor]) -> Iterator[None]:
    """The network with every channel's output (behind a batch norm that alone follows) multiplied
    by its factor; as it was again on leaving, errors included."""
    handles: list[RemovableHandle] = []
    try:
        for layer, factor in zip(map(model.layer, factors), factors.values(), strict=True):
            module = model.graph.get_submodule(_scaled_module(layer))
            handles.append(module.register_forward_hook(_Multiply(factor)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scaled_module(layer: ConvLayer) -> str:
    return layer.batch_norm or layer.node


class _Multiply:
    def __init__(self, factor: torch.Tensor) -> None:
        self.factor = factor

    def __call__(self, module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        return output * self.factor[None, :, None, None]


def check_mergeable(model: PrunableModel, layer: ConvLayer, held: list[Parameter]) -> None:
    """Raises InputError unless a factor on the layer's output can be put into its weights."""
    there = {(p.kind, p.role) for p in of_layer(held, layer)}
    if layer.batch_norm is not None:
        needed = {("norm", "scale"), ("norm", "shift")}
    else:
        needed = {("conv", "kernel")}
        if model.conv(layer).bias is not None:
            needed.add(("conv", "bias"))
    if not needed <= there:
        raise InputError(
            f"{model.name}: channels of {layer.name} cannot be scaled: it shares weights with "
            "another layer; leave it out of the layer set"
        )


def merged(
    factors: dict[str, np.ndarray], layers: dict[str, ConvLayer], held: list[Parameter]
) -> dict[str, np.ndarray]:
    """The constants that make the factors part of the network: kernel and bias times the factor,
    or scale and shift of the batch norm behind; a factor of 0 takes the kernel and bias too, as
    pruning does. Layers whose factors are all 1 are left out."""
    weights: dict[str, np.ndarray] = {}
    for name, factor in factors.items():
        if (factor == 1).all():
            continue
        layer = layers[name]
        for parameter in of_layer(held, layer):
            value = parameter.value()
            own = parameter.kind == ("conv" if layer.batch_norm is None else "norm")
            by = factor if own else (factor != 0).astype(np.float32)
            weights[parameter.name] = value * by.reshape(-1, *[1] * (value.ndim - 1))
    return weights


def _state(
    stage: int,
    factors: dict[str, torch.Tensor],
    layers: dict[str, ConvLayer],
    held: list[Parameter],
) -> ScaledState:
    arrays = {name: factor.detach().cpu().numpy().copy() for name, factor in factors.items()}
    gone = {name: np.flatnonzero(array == 0).tolist() for name, array in arrays.items()}
    return ScaledState(stage, arrays, merged(arrays, layers, held), ChannelMask.of(gone))
