"""ANP: adversarial neuron pruning. Wu and Wang, NeurIPS 2021, arXiv 2110.14430."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from prune_core.baselines.neurons import Silencer, pruned_along
from prune_core.model.layer_sets import LayerSet
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.repair.published import CleanBatches
from prune_core.repair.training_copy import Neurons, TrainingCopy, places_of
from prune_core.threads import steps_on_fixed_threads


@dataclass(frozen=True)
class AnpSettings:
    """``budget``: how much of its size an adversary may shake a weight by; ``trade``: the weight of the
    loss without shaking. The defaults are the authors', but for ``steps`` (they take up to 2,000; by
    then, on the nets that we tried, so many clean images have been lost that no state is of use)."""

    budget: float = 0.4
    trade: float = 0.2
    rate: float = 0.2
    momentum: float = 0.9
    steps: int = 150
    batch: int = 128
    augmented: bool = True


PUBLISHED = AnpSettings()


@steps_on_fixed_threads
def anp(
    given: Given, layer_set: LayerSet, tell: Tell, settings: AnpSettings = PUBLISHED
) -> Iterator[MadeNet]:
    """Learn masks m in [0, 1] that keep clean images right, also when an adversary shakes every
    neuron's weights by up to the budget; prune the lowest. Neurons that such shaking turns against
    clean images first are those that serve the backdoor.

    min over m of trade L(m) + (1 - trade) max over |d|, |x| <= budget of L(m + d, 1 + x), by SGD, where a
    neuron puts out (m + d) scale normalised + (1 + x) shift, on batch statistics. A shift that a folded
    batch norm has left is no parameter of the network and is not shaken. A pruned neuron keeps its shift.
    """
    batches = CleanBatches(given, settings.batch, settings.augmented)
    places = places_of(given.model, [name for name, _ in layer_set])
    copy = TrainingCopy(given.model, places, batches.pixels)
    free = free_channels(copy, layer_set)
    masks = [n.mask.requires_grad_(True) for n in copy.neurons.values()]
    optimizer = torch.optim.SGD(masks, lr=settings.rate, momentum=settings.momentum)
    for number, (pixels, labels) in enumerate(batches.drawn(settings.steps), 1):
        # The adversary: from a random start inside the budget, one signed step to its border.
        shaken = []
        for place in places:
            neurons = copy.neurons[place.module]
            scales, shifts = (_noise(neurons, settings, batches.generator) for _ in range(2))
            shaken.append(scales)
            if place.is_norm:
                shaken.append(shifts)
            else:
                shifts.zero_()
            neurons.shaken = (scales, shifts)
        for tensor in shaken:
            tensor.requires_grad_(True)
        gradients = torch.autograd.grad(_loss(copy, pixels, labels), shaken)
        with torch.no_grad():
            for tensor, gradient in zip(shaken, gradients, strict=True):
                tensor.add_(settings.budget * gradient.sign())
        robust = _loss(copy, pixels, labels)
        for neurons in copy.neurons.values():
            neurons.shaken = None
        loss = settings.trade * _loss(copy, pixels, labels) + (1 - settings.trade) * robust
        step(optimizer, masks, torch.autograd.grad(loss, masks), free)
        tell(number, settings.steps, "ANP")
    values = {key: n.mask.detach().cpu().numpy() for key, n in copy.neurons.items()}
    yield from pruned_along(values, places, layer_set, Silencer(given.model, copy.means), "ANP")


def free_channels(copy: TrainingCopy, layer_set: LayerSet) -> list[torch.Tensor]:
    """For the mask of each place 1 where a channel is in the layer set, else 0."""
    allowed, found = dict(layer_set), []
    for place in copy.places:
        free = torch.zeros_like(copy.neurons[place.module].mask)
        for layer in place.layers:
            free[allowed[layer.name]] = 1
        found.append(free)
    return found


def step(
    optimizer: torch.optim.Optimizer,
    masks: list[torch.Tensor],
    gradients: tuple[torch.Tensor, ...],
    free: list[torch.Tensor],
) -> None:
    """One of masks of ``free`` channels, which stay in [0, 1]."""
    for mask, gradient, may in zip(masks, gradients, free, strict=True):
        mask.grad = gradient * may
    optimizer.step()
    with torch.no_grad():
        for mask in masks:
            mask.clamp_(0, 1)


def _noise(neurons: Neurons, settings: AnpSettings, generator: torch.Generator) -> torch.Tensor:
    drawn = 2 * torch.rand(len(neurons.mask), generator=generator) - 1
    return (settings.budget * drawn).to(neurons.mask.device)


def _loss(copy: TrainingCopy, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(copy.logits(pixels), labels)
