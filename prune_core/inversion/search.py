"""Trigger inversion: the smallest trigger that leads clean images to a class, for many classes at once.

After Neural Cleanse (Wang et al., S&P 2019): a loss for the target plus the trigger's size, whose weight
grows while the trigger leads enough images to the class and falls while it does not. Every class is a job
of its own; jobs share images and forward passes and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from prune_core.evaluation.numerics import target_margin
from prune_core.inversion.kinds import Stamps, Variables
from prune_core.model.model import PrunableModel
from prune_core.model.precision import full_float32
from prune_core.threads import fixed_threads

CLEARANCE = 1.0  # logits by which the target shall win
WITHIN, NUMBERS = 512, 1_600_000  # images of one forward pass at most, and numbers in them
RATES = {"patch": 0.25, "blend": 0.25, "add": 0.02}  # Adam's
WEIGHTS = {"patch": 1.0, "blend": 2.0, "add": 5.0}  # of the size at the start, as a fraction of its most
PATIENCE = 1.15  # by which the weight changes in a step
MEMORY = 0.6  # of the success seen so far, in its running mean

Span = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Effort:
    """``steps`` of ``images`` images each; a trigger counts once it leads ``success`` (a fraction) of those
    that show another class to the target."""

    steps: int
    images: int
    success: float = 0.95


@dataclass(frozen=True, eq=False)
class Inverted:
    """What was found for every job. ``size``: of the smallest trigger that was successful, infinite where
    none was; ``stamps``: that trigger, or the last one; ``margin``: mean logit margin of the target at the
    last step."""

    size: torch.Tensor
    stamps: Stamps
    margin: torch.Tensor


@fixed_threads()
def invert(
    net: PrunableModel,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor,
    kind: str,
    effort: Effort,
    span: Span,
    generator: torch.Generator,
    tell: Callable[[int], None] = lambda steps: None,
    within: torch.Tensor | None = None,
    whole: bool = False,
) -> Inverted:
    """Search a trigger for every entry of ``targets``.

    Args:
        pixels: (n, C, H, W) clean images as the network takes them; ``labels`` (n,) what they show. Images
            that show a job's target have no part in it.
        targets: (jobs,) int64 classes; a class may stand there several times, for several starts.
        kind: one of ``kinds.KINDS``.
        span: lowest and highest value of a pixel as the network takes it, each (C, 1, 1).
        generator: of the CPU; draws starts and batches.
        tell: called with the number of steps done.
        within: (jobs, 1, H, W), 1 where the ``patch`` of a job may lie; None for anywhere.
        whole: it covers all of that; its size is no part of the loss then.
    """
    jobs, count = len(targets), min(effort.images, len(pixels))
    channels, height, width = pixels.shape[1:]
    variables = Variables(kind, jobs, (channels, height, width), span, generator, within, whole)
    optimizer = torch.optim.Adam(variables.free, lr=RATES[kind], betas=(0.5, 0.9))
    device = pixels.device
    most = torch.full((jobs,), float(height * width) if kind == "patch" else 1.0, device=device)
    if within is not None:
        most = within.sum(dim=(1, 2, 3))
    weight = torch.full((jobs,), WEIGHTS[kind], device=device)
    seen, best = torch.zeros(jobs, device=device), torch.full((jobs,), torch.inf, device=device)
    kept = [tensor.detach().clone() for tensor in variables.free]
    margins = torch.zeros(jobs, device=device)
    order, at = torch.empty(0, dtype=torch.int64), 0
    with full_float32():
        for step in range(effort.steps):
            if at + count > len(order):
                order, at = torch.randperm(len(pixels), generator=generator), 0
            rows = order[at : at + count].to(device)
            at += count
            optimizer.zero_grad()
            stamps = variables.stamps()
            hits, margins = _pushed(net, pixels[rows], labels[rows], targets, stamps, span)
            if not whole:
                (weight * stamps.size / most).sum().backward()
            seen = hits if step == 0 else MEMORY * seen + (1 - MEMORY) * hits
            good = (seen >= effort.success) & (hits >= effort.success)
            size = stamps.size.detach()
            better = good & (size < best)
            best = torch.where(better, size, best)
            for old, tensor in zip(kept, variables.free, strict=True):
                old[better] = tensor.detach()[better]
            weight = torch.where(good, weight * PATIENCE, weight)
            weight = torch.where(seen < effort.success, weight / PATIENCE, weight)
            optimizer.step()
            tell(step + 1)
    with torch.no_grad():
        lost = torch.isinf(best)
        for old, tensor in zip(kept, variables.free, strict=True):
            old[lost] = tensor[lost]
            tensor.copy_(old)
        return Inverted(best, variables.stamps(), margins)


def _pushed(
    net: PrunableModel,
    some: torch.Tensor,
    shown: torch.Tensor,
    targets: torch.Tensor,
    stamps: Stamps,
    span: Span,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Add the gradient of every job's loss to its variables; (jobs,) success, mean margin on this batch."""
    hits, margins = (torch.zeros(len(targets), device=some.device) for _ in range(2))
    for part, loss, margin, others in _losses(net, some, shown, targets, stamps, span):
        loss.sum().backward(retain_graph=True)
        total = others.sum(1).clamp(min=1)
        hits[part] = (((margin > 0) * others).sum(1) / total).detach()
        margins[part] = ((margin * others).sum(1) / total).detach()
    return hits, margins


@torch.no_grad()
def loss_of(
    net: PrunableModel,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor,
    stamps: Stamps,
    span: Span,
) -> torch.Tensor:
    """(jobs,) the loss that is searched by, on images that show another class, without the size."""
    parts = _losses(net, pixels, labels, targets, stamps, span)
    return torch.cat([loss for _, loss, _, _ in parts])


def _losses(
    net: PrunableModel,
    some: torch.Tensor,
    shown: torch.Tensor,
    targets: torch.Tensor,
    stamps: Stamps,
    span: Span,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For some jobs at a time: which, (jobs,) their losses, (jobs, n) margins, and 1 for each image that
    shows another class."""
    count, jobs = len(some), len(targets)
    for part in torch.arange(jobs, device=some.device).split(max(1, _at_once(some) // count)):
        goal = targets[part]
        stamped = stamps.of(part).on(some, span).flatten(0, 1)
        logits = net.graph(net.arranged(stamped))
        margin = target_margin(logits, goal.repeat_interleave(count)).view(len(part), count)
        others = (shown[None] != goal[:, None]).float()
        loss = (functional.softplus(CLEARANCE - margin) * others).sum(1) / others.sum(1).clamp(min=1)
        yield part, loss, margin, others


@torch.no_grad()
def success_of(
    net: PrunableModel,
    pixels: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor,
    stamps: Stamps,
    span: Span,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(jobs,) images that get the job's target with its trigger on, and images that show another class."""
    hits, totals = [], []
    within = _at_once(pixels)
    per = max(1, within // len(pixels))
    for part in torch.arange(len(targets), device=pixels.device).split(per):
        goal = targets[part]
        said = []
        for some in pixels.split(within):
            stamped = stamps.of(part).on(some, span).flatten(0, 1)
            said.append(net.graph(net.arranged(stamped)).argmax(1).view(len(part), len(some)))
        others = labels[None] != goal[:, None]
        hits.append(((torch.cat(said, 1) == goal[:, None]) & others).sum(1))
        totals.append(others.sum(1))
    return torch.cat(hits), torch.cat(totals)


def _at_once(pixels: torch.Tensor) -> int:
    """Images of one forward pass: fewer where they are large, for memory."""
    return max(8, min(WITHIN, NUMBERS // pixels[0].numel()))
