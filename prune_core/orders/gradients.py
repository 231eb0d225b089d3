"""Scores from gradients with respect to channels: first-order effect of removing one."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from prune_core.data.images import LabeledImages
from prune_core.orders.given import OrderInput, Scores
from prune_core.orders.passes import Tail, as_scores


def taylor(given: OrderInput) -> Scores:
    """abs(sum over space of a_k dL/da_k), mean over images, largest first; L is the cross-entropy
    to the true label on poisoned images. The first term of the Taylor series of what removing the
    channel does to L. After Molchanov et al. 2017, arXiv 1611.06440."""
    return {n: -s for n, s in as_scores(_first_terms(given, given.truly_labelled())).items()}


def attack_clean_ratio(given: OrderInput) -> Scores:
    """``taylor`` on poisoned images over the same on clean images, largest first: what matters to
    the attack and not to clean images. A thousandth of the layers' mean is added below, for
    channels without any effect on clean images. Cf. arXiv 2208.06537."""
    attack = _first_terms(given, given.truly_labelled())
    clean = _first_terms(given, given.clean)
    least = torch.cat(list(clean.values())).mean() / 1000 + 1e-20
    return {n: -s for n, s in as_scores({n: attack[n] / (clean[n] + least) for n in attack}).items()}


def _first_terms(given: OrderInput, images: LabeledImages) -> dict[str, torch.Tensor]:
    """{layer: (channels,)}. A gate g_k that multiplies a_k has dL/dg_k = sum a_k dL/da_k at 1; one
    gate an image keeps the images apart."""
    tail = Tail(given.model, given.layers, given.some(images))
    total = {n: torch.zeros(given.model.layer(n).channels, dtype=torch.float64) for n in given.layers}
    count = 0
    for batch, labels in enumerate(tail.labels):
        gates = {
            n: torch.ones(
                len(labels), given.model.layer(n).channels, device=given.model.device, requires_grad=True
            )
            for n in given.layers
        }
        with torch.enable_grad():
            loss = cross_entropy(tail.logits(gates, batch).double(), labels, reduction="sum")
            slopes = torch.autograd.grad(loss, list(gates.values()))
        for name, slope in zip(gates, slopes, strict=True):
            total[name] += slope.abs().double().sum(dim=0).cpu()
        count += len(labels)
    return {name: summed / count for name, summed in total.items()}
