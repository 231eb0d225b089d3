"""In which order channels are tried: one small function per score, layer by layer.

An order is a permutation of the channels of a layer set. Layers are walked in the order in which
the set lists them; within a layer, the channel with the lowest score is tried first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prune_core.errors import InputError
from prune_core.images import LabeledImages
from prune_core.masks import Channel
from prune_core.model import ConvLayer, PrunableModel


@dataclass(frozen=True)
class OrderInput:
    """What a score may look at: the BadNet, clean validation images, a seed. Never the test split."""

    model: PrunableModel
    clean: LabeledImages
    seed: int = 0


Score = Callable[[OrderInput, ConvLayer], np.ndarray]


def index(given: OrderInput, layer: ConvLayer) -> np.ndarray:
    """Channel 0 first. Source: the seed's targeted code."""
    return np.arange(layer.channels, dtype=np.float64)


def reverse_index(given: OrderInput, layer: ConvLayer) -> np.ndarray:
    """The last channel first. Source: the seed's final-layer code."""
    return -np.arange(layer.channels, dtype=np.float64)


def random(given: OrderInput, layer: ConvLayer) -> np.ndarray:
    """Uniform, by seed and layer name: a control. The same on every machine."""
    words = [given.seed, *layer.name.encode()]
    return np.random.Generator(np.random.PCG64(words)).random(layer.channels)


def l1(given: OrderInput, layer: ConvLayer) -> np.ndarray:
    """Sum of the kernel's absolute values, smallest first. Source: Li et al. 2017 (a control)."""
    kernel = given.model.conv(layer).weight.detach().cpu().double()
    return kernel.abs().flatten(1).sum(dim=1).numpy()


def activation(given: OrderInput, layer: ConvLayer) -> np.ndarray:
    """Mean activation on clean images, pooled over space, least active first: what clean images
    do not use may serve the backdoor. The activation is taken behind batch norm and ReLU where
    those follow. Source: Fine-Pruning, arXiv 1805.12185."""
    total = torch.zeros(layer.channels, dtype=torch.float64)

    def add(output: torch.Tensor) -> None:
        nonlocal total
        axes = [a for a in range(output.ndim) if a != 1]
        total += output.double().mean(dim=axes[1:]).sum(dim=0).cpu()

    with watched_activation(given.model, layer, add):
        for start in range(0, len(given.clean), 256):
            stop = min(start + 256, len(given.clean))
            pixels = torch.from_numpy(given.clean.floats(start, stop))
            given.model.logits(pixels.to(given.model.device))
    return (total / len(given.clean)).numpy()


class watched_activation:
    """Context: ``see`` gets the layer's activation (n, channels, h, w) of each forward pass; the
    hook is gone on leaving, errors included."""

    def __init__(
        self, model: PrunableModel, layer: ConvLayer, see: Callable[[torch.Tensor], None]
    ) -> None:
        self.module = model.graph.get_submodule(activation_node(model, layer))
        self.see = see

    def __enter__(self) -> None:
        self.handle = self.module.register_forward_hook(lambda m, args, out: self.see(out))

    def __exit__(self, *exc: object) -> None:
        self.handle.remove()


def activation_node(model: PrunableModel, layer: ConvLayer) -> str:
    """The module whose output is the layer's activation: the convolution, or the batch norm and
    the ReLU that alone follow it."""
    node = next(n for n in model.graph.graph.nodes if n.op == "call_module" and n.target == layer.node)
    while len(node.users) == 1:
        (user,) = node.users
        if user.op != "call_module":
            break
        module = model.graph.get_submodule(str(user.target))
        if not isinstance(module, (torch.nn.ReLU, torch.nn.ReLU6, torch.nn.BatchNorm2d)):
            break
        node = user
    return str(node.target)


ORDERS: dict[str, Score] = {
    "index": index,
    "reverse-index": reverse_index,
    "activation": activation,
    "l1": l1,
    "random": random,
}


def channel_order(
    name: str, given: OrderInput, layer_set: Sequence[tuple[str, Sequence[int]]]
) -> list[Channel]:
    """The channels of ``layer_set`` ((layer, its channels) in walking order), lowest score first
    within each layer, equal scores by index. Raises InputError for an unknown order."""
    if name not in ORDERS:
        raise InputError(f"order {name!r} is unknown; there are {', '.join(ORDERS)}")
    order: list[Channel] = []
    for layer_name, channels in layer_set:
        scores = ORDERS[name](given, given.model.layer(layer_name))
        order += [Channel(layer_name, c) for c in sorted(channels, key=lambda c: (scores[c], c))]
    return order
