"""One small change of all images that lets the trigger work again; the weights stay as they are.

After the query-based re-activation attack of Min et al., arXiv 2410.09838: whoever can only send images
may send the trigger together with a perturbation. Ours is universal, found by a few steps of signed gradient
ascent on the mean target margin (as ``repair.universal_trigger``), from the trigger itself. With gradients,
so it finds at least what queries alone would. The same search from clean images tells how much of it is the
perturbation's own doing: what leads a net anywhere needs no backdoor.
"""

from __future__ import annotations

from typing import Any

import torch

from prune_core.audits.entries import Entry
from prune_core.audits.subject import Asked, Heap, hits
from prune_core.evaluation.numerics import target_margin
from prune_core.model.model import PrunableModel
from prune_core.repair.universal_trigger import with_trigger

STEPS, SIZE, STEP, BATCH = 20, 8 / 255, 0.25, 64


def perturbation_settings(start: str) -> dict[str, Any]:
    """``start``: ``trigger`` or ``clean``, the images to which the perturbation is added."""
    return {"start": start, "size": round(SIZE, 4), "steps": STEPS}


def perturbed(asked: Asked, setting: dict[str, Any], seed: int) -> Entry:
    """A perturbation for each trigger, found on validation, counted on other images: of validation's clean
    ones, those of odd rank, while it is sought with the others."""
    shown, trigger = asked.exhibits, setting["start"] == "trigger"
    pool = shown.pool if trigger else tuple(heap.every_other(0) for heap in shown.free_valid)
    valid = shown.valid if trigger else tuple(heap.every_other(1) for heap in shown.free_valid)
    generator = torch.Generator().manual_seed(seed)
    with asked.subject.model.pruned(asked.subject.mask) as net:
        found = [_found(net, heap, shown.span, generator) for heap in pool]

        def added(number: int, pixels: torch.Tensor) -> torch.Tensor:
            return with_trigger(pixels, found[number], shown.span)

        return Entry(
            "perturbation",
            setting,
            seed,
            clean=asked.clean,
            attacked=hits(net, shown.test if trigger else shown.free_test, added),
            valid=hits(net, valid, added),
            before=asked.clean,
            assumed=f"the net's gradients, {'the trigger' if trigger else 'clean images'} and a change of "
            f"every pixel by up to {100 * SIZE:.0f} % of the span",
        )


def _found(
    net: PrunableModel, heap: Heap, span: tuple[float, float], generator: torch.Generator
) -> torch.Tensor:
    """(1, C, H, W)."""
    most = SIZE * (span[1] - span[0])
    found = torch.zeros_like(heap.pixels[:1])
    for _ in range(STEPS):
        rows = torch.randperm(len(heap.targets), generator=generator)[:BATCH].to(heap.targets.device)
        found.requires_grad_(True)
        stamped = with_trigger(heap.pixels[rows], found, span)
        margin = target_margin(net.graph(net.arranged(stamped)), heap.targets[rows]).mean()
        (gradient,) = torch.autograd.grad(margin, found)
        found = (found.detach() + STEP * most * gradient.sign()).clamp(-most, most)
    return found
