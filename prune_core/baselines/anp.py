"""ANP: adversarial neuron pruning. Wu and Wang, NeurIPS 2021, arXiv 2110.14430."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn import functional

from prune_core.baselines.masked import THRESHOLDS, CleanBatches
from prune_core.baselines.thresholds import pruned_below
from prune_core.model.layer_sets import LayerSet
from prune_core.model.model import PrunableModel
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.threads import steps_on_fixed_threads

EPSILON, ALPHA, RATE = 0.4, 0.2, 0.2  # the paper's budget, trade-off and learning rate
STEPS = 150

Tensors = dict[str, torch.Tensor]


@steps_on_fixed_threads
def anp(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    """Learn masks m in [0, 1] that keep clean images right, also when an adversary shakes every
    neuron's weights by up to EPSILON of their size; prune the lowest. Channels that such shaking
    turns against clean images first are those that serve the backdoor.

    min over m of ALPHA L(m) + (1 - ALPHA) max over |d|, |x| <= EPSILON of L(m + d, 1 + x), where a
    channel puts out (m + d) (its output less bias) + (1 + x) bias.
    """
    model, batches = given.model, CleanBatches(given)
    sizes = {name: model.layer(name).channels for name, _ in layer_set}
    ones = {name: torch.ones(size, device=model.device) for name, size in sizes.items()}
    masks = {name: one.clone().requires_grad_(True) for name, one in ones.items()}
    for number, (pixels, labels) in enumerate(batches.take(STEPS), 1):
        # The adversary: from a random start inside the budget, one signed step to its border.
        shaken = {
            part: {
                name: ((2 * torch.rand(size, generator=batches.generator) - 1) * EPSILON)
                .to(model.device)
                .requires_grad_(True)
                for name, size in sizes.items()
            }
            for part in ("weight", "bias")
        }
        loss = _loss(model, masks, shaken, pixels, labels)
        held = [t for part in shaken.values() for t in part.values()]
        with torch.no_grad():
            for tensor, gradient in zip(held, torch.autograd.grad(loss, held), strict=True):
                tensor.copy_((tensor + EPSILON * gradient.sign()).clamp(-EPSILON, EPSILON))
        still = {part: {k: torch.zeros_like(t) for k, t in of.items()} for part, of in shaken.items()}
        total = ALPHA * _loss(model, masks, still, pixels, labels) + (1 - ALPHA) * _loss(
            model,
            masks,
            {p: {k: t.detach() for k, t in of.items()} for p, of in shaken.items()},
            pixels,
            labels,
        )
        with torch.no_grad():
            for mask, gradient in zip(
                masks.values(), torch.autograd.grad(total, list(masks.values())), strict=True
            ):
                mask.copy_((mask - RATE * gradient).clamp(0, 1))
        tell(number, STEPS, "ANP")
    values = {name: mask.detach().cpu().numpy() for name, mask in masks.items()}
    yield from pruned_below(values, layer_set, THRESHOLDS, "ANP")


def _loss(
    model: PrunableModel,
    masks: Tensors,
    shaken: dict[str, Tensors],
    pixels: torch.Tensor,
    labels: torch.Tensor,
) -> torch.Tensor:
    with _neurons(model, masks, shaken):
        return functional.cross_entropy(model.graph(model.arranged(pixels)), labels)


@contextmanager
def _neurons(model: PrunableModel, masks: Tensors, shaken: dict[str, Tensors]) -> Iterator[None]:
    handles = []
    try:
        for name, mask in masks.items():
            layer = model.layer(name)
            module = model.graph.get_submodule(layer.batch_norm or layer.node)
            bias = model.conv(layer).bias
            if layer.batch_norm is not None:
                bias = module.bias  # type: ignore[assignment]
            constant = torch.zeros_like(mask) if bias is None else bias.detach()
            weight = mask + shaken["weight"][name]
            left = constant * (1 + shaken["bias"][name] - weight)
            handles.append(module.register_forward_hook(_Neurons(weight, left)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Neurons:
    """weight * output + left."""

    def __init__(self, weight: torch.Tensor, left: torch.Tensor) -> None:
        self.weight, self.left = weight, left

    def __call__(self, module: nn.Module, args: object, output: torch.Tensor) -> torch.Tensor:
        return output * self.weight[None, :, None, None] + self.left[None, :, None, None]
