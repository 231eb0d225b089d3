"""RNP: reconstructive neuron pruning. Li et al., ICML 2023, arXiv 2305.14876."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from prune_core.baselines.anp import free_channels, step
from prune_core.baselines.neurons import Silencer, pruned_along
from prune_core.model.layer_sets import LayerSet
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.repair.published import CleanBatches, pixel_squares
from prune_core.repair.training_copy import TrainingCopy, places_of
from prune_core.threads import steps_on_fixed_threads


@dataclass(frozen=True)
class RnpSettings:
    """The authors' by default. ``unlearned``: the accuracy, in training, at which unlearning ends;
    ``weight``: of the loss while recovering; epochs are of all clean images."""

    rate: float = 0.01
    momentum: float = 0.9
    decay: float = 5e-4
    falls: tuple[int, ...] = (10, 20)  # epochs after which the rate is a tenth
    epochs: int = 21
    unlearned: float = 0.2
    recovering_rate: float = 0.2
    recovering_epochs: int = 20
    weight: float = 0.2
    batch: int = 128
    augmented: bool = True


PUBLISHED = RnpSettings()


@steps_on_fixed_threads
def rnp(
    given: Given, layer_set: LayerSet, tell: Tell, settings: RnpSettings = PUBLISHED
) -> Iterator[MadeNet]:
    """Unlearn: raise the loss on clean images until they are hardly right any more; what still
    works then is the backdoor. Recover: learn masks in [0, 1] on the unlearned net that win clean
    images back. Prune in the BadNet the neurons whose masks fell lowest; they keep their shift.

    Both on batch statistics: on running ones the ascent forgets the backdoor too.
    """
    batches = CleanBatches(given, settings.batch, settings.augmented)
    places = places_of(given.model, [name for name, _ in layer_set])
    copy = TrainingCopy(given.model, places, batches.pixels)
    epochs = settings.epochs + settings.recovering_epochs
    _unlearn(copy, batches, settings, lambda done: tell(done, epochs, "RNP, unlearning"))
    free = free_channels(copy, layer_set)
    masks = [n.mask.requires_grad_(True) for n in copy.neurons.values()]
    optimizer = torch.optim.SGD(masks, lr=settings.recovering_rate, momentum=settings.momentum)
    for number in range(settings.recovering_epochs):
        for pixels, labels in batches.epoch():
            loss = settings.weight * functional.cross_entropy(copy.logits(pixels), labels)
            step(optimizer, masks, torch.autograd.grad(loss, masks), free)
        tell(settings.epochs + number + 1, epochs, "RNP, recovering")
    values = {key: n.mask.detach().cpu().numpy() for key, n in copy.neurons.items()}
    yield from pruned_along(values, places, layer_set, Silencer(given.model, copy.means), "RNP")


def _unlearn(
    copy: TrainingCopy, batches: CleanBatches, settings: RnpSettings, tell: Callable[[int], None]
) -> None:
    weights = copy.trainable()
    square = pixel_squares(copy.student.graph, copy.logits, batches.pixels[:256])
    groups = [{"params": [w], "lr": settings.rate / square.get(id(w), 1.0)} for w in weights]
    optimizer = torch.optim.SGD(groups, momentum=settings.momentum, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(settings.falls), gamma=0.1)
    for number in range(settings.epochs):
        right = seen = 0
        for pixels, labels in batches.epoch():
            logits = copy.logits(pixels)
            right += int((logits.detach().argmax(1) == labels).sum())
            seen += len(labels)
            optimizer.zero_grad()
            (-functional.cross_entropy(logits, labels)).backward()
            optimizer.step()
        schedule.step()
        tell(number + 1)
        if right <= settings.unlearned * seen:
            break
    for tensor in weights:
        tensor.requires_grad_(False)
