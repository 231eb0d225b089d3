"""A score by training: a mask over all channels of the layer set at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from prune_core.evaluation.numerics import target_margin
from prune_core.orders.given import OrderInput, Scores
from prune_core.orders.passes import Tail, as_scores, ones

STEPS = 160
IMAGES = 48  # of a kind, a step
RATE = 0.05
SAFE = 2.0  # logits by which the target should stay behind the best other
FIRST, LAST = 0.003, 0.3  # weight of the attack: at the first step, and at the last


def learned_mask(given: OrderInput) -> Scores:
    """Mean over training of a mask in [0, 1]^K that multiplies the channels, lowest first. It is
    trained by Adam on cross-entropy on clean images + w * mean(max(0, margin + 2)) on poisoned
    ones, from all ones; the net itself stays as it is.

    w grows from step to step (geometrically): channels that cost little go first, those that the
    attack shares with clean images last. So the order follows the frontier, where a mask for one w
    would know one point of it. After ANP (arXiv 2110.14430) and RNP (arXiv 2305.14876), which
    train masks on clean images only; poisoned images say it more directly.
    """
    clean = Tail(given.model, given.layers, given.some(given.clean), IMAGES)
    poisoned = Tail(given.model, given.layers, given.some(given.attacked()), IMAGES)
    draw = np.random.default_rng(given.seed)
    turns = [_turns(draw, len(side)) for side in (clean, poisoned)]
    mask = {n: m.requires_grad_(True) for n, m in ones(given.model, given.layers).items()}
    total = {n: torch.zeros_like(m) for n, m in mask.items()}
    adam = torch.optim.Adam(mask.values(), lr=RATE)
    for step in range(STEPS):
        weight = FIRST * (LAST / FIRST) ** (step / (STEPS - 1))
        c, b = next(turns[0]), next(turns[1])
        with torch.enable_grad():
            margins = target_margin(poisoned.logits(mask, b), poisoned.labels[b])
            attack = (margins + SAFE).clamp(min=0).mean()
            loss = cross_entropy(clean.logits(mask, c), clean.labels[c]) + weight * attack
            adam.zero_grad()
            loss.backward()
        adam.step()
        with torch.no_grad():
            for name, values in mask.items():
                values.clamp_(0, 1)
                total[name] += values
    return as_scores({name: summed / STEPS for name, summed in total.items()})


def _turns(draw: np.random.Generator, count: int) -> Iterator[int]:
    """Batch numbers without end, each round in a new order."""
    while True:
        yield from draw.permutation(count).tolist()
