"""Fine-Pruning. Liu, Dolan-Gavitt and Garg, RAID 2018, arXiv 1805.12185."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import LayerSet
from prune_core.model.model import ConvLayer, PrunableModel
from prune_core.model.norms import is_addition
from prune_core.model.parameters import Parameter, changed_weights, parameters_of, student_of
from prune_core.orders import OrderInput
from prune_core.orders.activations import activation
from prune_core.orders.passes import watched
from prune_core.repair.losses import logits_of
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.repair.published import CleanBatches, Held, zero
from prune_core.threads import steps_on_fixed_threads

SHARES = tuple(x / 20 for x in range(1, 20))  # of the last layer's channels that are pruned


@dataclass(frozen=True)
class FinePruningSettings:
    """``steps`` of Adam at ``rate`` after each of ``shares`` (``SHARES`` where none are given); the paper
    names none of them."""

    rate: float = 1e-4
    steps: int = 20
    shares: tuple[float, ...] = ()


PUBLISHED = FinePruningSettings()


@steps_on_fixed_threads
def fine_pruning(
    given: Given, layer_set: LayerSet, tell: Tell, settings: FinePruningSettings = PUBLISHED
) -> Iterator[MadeNet]:
    """Prune the channels of the last convolution that clean images activate least, then fine-tune all
    weights on the clean images' labels. Two nets for each share of pruned channels: as pruned, and
    fine-tuned from there, with what is pruned held at zero.

    In a residual network the last convolution's output is added to others before it is used, so channels
    are ranked behind addition and ReLU, and pruned where the dense layer takes them in: by zeros in its
    kernel, as changed weights.
    """
    model = given.model
    names = [name for name, _ in layer_set]
    last = next(layer for layer in reversed(model.layers) if layer.name in names)
    channels = dict(layer_set)[last.name]
    features = features_of(model, last)
    if features is None:
        scores = activation(OrderInput.of(model, given.valid, [(last.name, channels)], given.seed))[last.name]
    else:
        scores = _means(given, features.node)
    order = sorted(channels, key=lambda c: (scores[c], c))
    batches = CleanBatches(given)
    before = {p.name: p.value() for p in parameters_of(model)}
    shares = settings.shares or SHARES
    for number, share in enumerate(shares, 1):
        rows = order[: int(np.ceil(share * len(order)))]
        mask = ChannelMask() if features is not None else ChannelMask.of({last.name: rows})
        student = student_of(model)
        parameters = [p for p in parameters_of(student) if p.kind in ("conv", "dense")]
        held = _held(student, mask, features, rows)
        what = f"{share:.0%} of {last.name}" + ("" if features is None else ", behind the addition")
        yield MadeNet(mask, _changed(parameters, before, mask), f"Fine-Pruning, {what}")
        for parameter in parameters:
            parameter.tensor.requires_grad_(True)
        optimizer = torch.optim.Adam([p.tensor for p in parameters], lr=settings.rate)
        for pixels, labels in batches.take(settings.steps):
            loss = functional.cross_entropy(student.graph(student.arranged(pixels)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            zero(held)
        tell(number, len(shares), "Fine-Pruning")
        yield MadeNet(mask, changed_weights(parameters, before), f"Fine-Pruning, {what}, fine-tuned")


@dataclass(frozen=True)
class Features:
    """The module whose output (n, channels, h, w) a dense layer takes in, and that layer."""

    node: str
    dense: str
    pixels: int  # of a channel, as the dense layer takes them: one channel after the other


def features_of(model: PrunableModel, layer: ConvLayer) -> Features | None:
    """Where a convolution's channels are told apart behind an addition. None where there is none, so that
    they are its own, and where they do not go straight to a dense layer."""
    node = next(n for n in model.graph.graph.nodes if n.op == "call_module" and n.target == layer.node)
    behind: str | None = None
    while len(node.users) == 1:
        (node,) = node.users
        if node.op != "call_module":
            return None
        module = model.graph.get_submodule(str(node.target))
        if isinstance(module, nn.Linear):
            each, rest = divmod(module.in_features, layer.channels)
            return Features(behind, str(node.target), each) if behind is not None and not rest else None
        computed = [i for i in node.all_input_nodes if i.op != "get_attr"]
        if isinstance(module, nn.Conv2d) or len(computed) > 1 + is_addition(model, node):
            return None
        shapes = behind is not None and isinstance(module, (nn.BatchNorm2d, nn.ReLU, nn.ReLU6))
        if shapes or is_addition(model, node):
            behind = str(node.target)
    return None


def _means(given: Given, node: str) -> np.ndarray:
    """(channels,) mean over clean images and space."""
    sums: list[torch.Tensor] = []
    batches = CleanBatches(given)
    with watched(given.model, {node: node}, lambda key, out: sums.append(out.double().mean((2, 3)).sum(0))):
        logits_of(given.model, batches.pixels)
    means: np.ndarray = (torch.stack(sums).sum(0) / len(batches.pixels)).cpu().numpy()
    return means


def _held(student: PrunableModel, mask: ChannelMask, features: Features | None, rows: list[int]) -> Held:
    """Set what is pruned to zero; the tensors and places that have to stay so."""
    held: Held = list(student.tensors_of(mask))
    if features is not None:
        dense = student.graph.get_submodule(features.dense)
        assert isinstance(dense, nn.Linear)
        each = features.pixels
        columns = [row * each + pixel for row in rows for pixel in range(each)]
        held.append((dense.weight.data, (slice(None), columns)))
    zero(held)
    return held


def _changed(
    parameters: list[Parameter], before: dict[str, np.ndarray], mask: ChannelMask
) -> dict[str, np.ndarray]:
    """What was changed beside the mask, before any training."""
    return {} if len(mask) else changed_weights(parameters, before)
