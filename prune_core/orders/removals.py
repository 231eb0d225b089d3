"""Scores from taking channels out and looking: alone, or out of random coalitions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from prune_core.evaluation.numerics import target_margin
from prune_core.orders.given import OrderInput, Scores
from prune_core.orders.passes import Tail, as_scores, ones

COALITIONS = 4  # random permutations of a Shapley estimate
IMAGES = {"ablation": 192, "shapley": 64}  # of a kind: each look at a channel is a pass over them
ENOUGH = 0.5  # of the attack's margin and of clean accuracy: below either, a coalition is spent


def ablation(given: OrderInput) -> Scores:
    """Fall of the mean target margin on poisoned images when channel k alone is removed, over the
    clean images lost plus one, largest first; a margin that rises is multiplied instead, so that
    harm never looks small because it costs much. Leave-one-out; the margin form is ours."""
    found = ones(given.model, given.layers)
    for name, channels in given.layer_set:
        sides, gates = _Sides(given, [name], IMAGES["ablation"]), ones(given.model, [name])
        margin, right = sides.look(gates)
        for k in channels:
            gates[name][k] = 0
            left, still = sides.look(gates)
            gates[name][k] = 1
            fall, cost = margin - left, max(0, right - still) + 1
            found[name][k] = -(fall / cost if fall > 0 else fall * cost)
    return as_scores(found)


def shapley(given: OrderInput) -> Scores:
    """Mean marginal effect of removing channel k over random coalitions of channels removed before
    it, largest first. The effect is the fall of the mean positive target margin (as a share of the
    BadNet's) minus the fall of clean accuracy. A coalition grows channel by channel and ends when
    half of the margin or of the accuracy is gone: beyond, the net says nothing about the channel.
    Channels that no coalition reached count as without effect.
    Source: Guan et al. 2022, Few-shot Backdoor Defense Using Shapley Estimation, arXiv 2112.14889
    (permutation sampling with early stops)."""
    sides = _Sides(given, given.layers, IMAGES["shapley"], positive=True)
    everyone = [(name, k) for name, channels in given.layer_set for k in channels]
    total = dict.fromkeys(everyone, 0.0)
    seen = dict.fromkeys(everyone, 0)
    draw = np.random.default_rng(given.seed)
    start_margin, start_right = sides.look(ones(given.model, given.layers))
    for _ in range(COALITIONS):
        gates = ones(given.model, given.layers)
        margin, right = start_margin, start_right
        # Those seen least come first, so that short coalitions still reach every channel.
        turn = sorted(draw.permutation(len(everyone)).tolist(), key=lambda i: seen[everyone[i]])
        for i in turn:
            if margin < ENOUGH * start_margin or right < ENOUGH * start_right:
                gates = ones(given.model, given.layers)
                margin, right = start_margin, start_right
            name, k = channel = everyone[i]
            gates[name][k] = 0
            left, still = sides.look(gates)
            fall = (margin - left) / max(start_margin, 1e-6)
            total[channel] += fall - (right - still) / sides.clean_total
            seen[channel] += 1
            margin, right = left, still
    found = ones(given.model, given.layers)
    for (name, k), summed in total.items():
        found[name][k] = -summed / max(1, seen[name, k])
    return as_scores(found)


class _Sides:
    """Mean target margin on poisoned and right answers on clean images, a few of both."""

    def __init__(self, given: OrderInput, layers: list[str], limit: int, positive: bool = False) -> None:
        few = replace(given, limit=min(limit, given.limit))
        self.positive = positive
        self.clean = Tail(given.model, layers, few.some(given.clean))
        self.poisoned = Tail(given.model, layers, few.some(given.attacked()))
        self.clean_total = sum(len(labels) for labels in self.clean.labels)

    @torch.no_grad()
    def look(self, gates: dict[str, torch.Tensor]) -> tuple[float, int]:
        found = torch.cat(
            [
                target_margin(self.poisoned.logits(gates, b), self.poisoned.labels[b])
                for b in range(len(self.poisoned))
            ]
        ).double()
        right = sum(
            int((self.clean.logits(gates, b).argmax(dim=1) == self.clean.labels[b]).sum())
            for b in range(len(self.clean))
        )
        return float((found.clamp(min=0) if self.positive else found).mean()), right
