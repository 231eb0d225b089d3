"""RNP: reconstructive neuron pruning. Li et al., ICML 2023, arXiv 2305.14876."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from prune_core.baselines.masked import THRESHOLDS, CleanBatches
from prune_core.baselines.thresholds import pruned_below
from prune_core.model.layer_sets import LayerSet
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of, student_of
from prune_core.repair.losses import logits_of
from prune_core.repair.nets import Given, MadeNet, Tell
from prune_core.repair.scaling import scaled
from prune_core.threads import steps_on_fixed_threads

UNLEARNED = 0.1  # the paper unlearns until clean accuracy is at most that
ASCENT_RATE, ASCENT_STEPS = 1e-4, 100
MASK_RATE, MASK_STEPS = 0.2, 150


@steps_on_fixed_threads
def rnp(given: Given, layer_set: LayerSet, tell: Tell) -> Iterator[MadeNet]:
    """Unlearn: raise the loss on clean images until they are hardly right any more; what still
    works then is the backdoor. Recover: learn masks in [0, 1] on the unlearned net that win clean
    images back. Prune in the BadNet the channels whose masks fell lowest.

    The paper ascends by SGD; here by Adam, whose step does not depend on the scale of pixels.
    """
    student, batches = student_of(given.model), CleanBatches(given)
    weights = [p.tensor for p in parameters_of(student) if p.kind in ("conv", "dense")]
    for tensor in weights:
        tensor.requires_grad_(True)
    ascent = torch.optim.Adam(weights, lr=ASCENT_RATE)
    steps = ASCENT_STEPS + MASK_STEPS
    for number, (pixels, labels) in enumerate(batches.take(ASCENT_STEPS), 1):
        loss = functional.cross_entropy(student.graph(student.arranged(pixels)), labels)
        ascent.zero_grad()
        (-loss).backward()
        ascent.step()
        tell(number, steps, "RNP, unlearning")
        if _accuracy(student, pixels, labels) <= UNLEARNED and (
            _accuracy(student, batches.pixels, batches.labels) <= UNLEARNED
        ):
            break
    for tensor in weights:
        tensor.requires_grad_(False)
    masks = {
        name: torch.ones(student.layer(name).channels, device=student.device, requires_grad=True)
        for name, _ in layer_set
    }
    for number, (pixels, labels) in enumerate(batches.take(MASK_STEPS), 1):
        with scaled(student, masks):
            loss = functional.cross_entropy(student.graph(student.arranged(pixels)), labels)
        gradients = torch.autograd.grad(loss, list(masks.values()))
        with torch.no_grad():
            for mask, gradient in zip(masks.values(), gradients, strict=True):
                mask.copy_((mask - MASK_RATE * gradient).clamp(0, 1))
        tell(ASCENT_STEPS + number, steps, "RNP, recovering")
    values = {name: mask.detach().cpu().numpy() for name, mask in masks.items()}
    yield from pruned_below(values, layer_set, THRESHOLDS, "RNP")


def _accuracy(model: PrunableModel, pixels: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits_of(model, pixels).argmax(1) == labels).float().mean())
