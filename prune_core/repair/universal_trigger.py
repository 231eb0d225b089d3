"""Triggers that a net gives away by itself: found by gradient, from clean images and the target label.

A net with a backdoor takes a short way to the target: one small change of pixels, the same for all
images, leads most of them there, and leads through what the true trigger uses. So a net that is trained on
clean images can be kept from waking its backdoor without a look at a poisoned image. After universal
perturbations (Moosavi-Dezfooli et al., arXiv 1610.08401) and their unlearning (I-BAU: Zeng et al., arXiv
2110.03735).
"""

from __future__ import annotations

import torch

from prune_core.evaluation.numerics import target_margin
from prune_core.model.model import PrunableModel

STEPS, STEP = 5, 0.5  # steps of gradient ascent, each so much of the size


def find_trigger(
    net: PrunableModel,
    pixels: torch.Tensor,
    target: int | torch.Tensor,
    span: tuple[float, float],
    generator: torch.Generator,
    size: float,
) -> torch.Tensor:
    """(n, C, H, W) clean images -> (1, C, H, W): what, added to any of them, raises their mean target
    margin (``target``: one class, or (n,) int64, one for each image); no pixel changes by more than
    ``size``, a fraction of the span. From a random start, so each call finds another; chance is drawn on
    the CPU. ``net`` gets no gradients."""
    most = size * (span[1] - span[0])
    start = 2 * torch.rand((1, *pixels.shape[1:]), generator=generator) - 1
    found = (most * start).to(pixels.device)
    for _ in range(STEPS):
        found.requires_grad_(True)
        stamped = with_trigger(pixels, found, span)
        margin = target_margin(net.graph(net.arranged(stamped)), target).mean()
        (gradient,) = torch.autograd.grad(margin, found)
        found = (found.detach() + STEP * most * gradient.sign()).clamp(-most, most)
    return found


def with_trigger(pixels: torch.Tensor, found: torch.Tensor, span: tuple[float, float]) -> torch.Tensor:
    """The images with a found trigger added, within the span of pixels."""
    return (pixels + found).clamp(*span)
