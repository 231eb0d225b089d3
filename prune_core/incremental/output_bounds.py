"""From the last hidden layer to decisions, without computing most logits.

The output layer is logits = W z + b. Between two hidden vectors, the lead of class y over class j
moves by (w_y - w_j) . (z' - z), at most |w_y - w_j| |z' - z|. So a decision that was made at an
*anchor* z holds everywhere within a radius around it, and a distance is all there is to compute.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from prune_core.incremental.dataflow import Dataflow

# How far the lead of one class over another, as computed incrementally, may be off, relative to
# the largest absolute logit of the image. Errors add up as accepted channels are taken out of kept
# values; tests hold the largest one seen on a long walk to a fifth of this.
GUARD = 2e-5


@dataclass(frozen=True)
class Decisions:
    """About n images and k labels each.

    Attributes:
        wins: (n, k) bool, the label's logit is the largest.
        unsure: (n, k) bool, too near a tie for float32 to tell.
        margin: (n,) float64, first label's logit minus the best other.
        radius: (n, k) float32, within which ``wins`` stays as it is; -1 when unsure. None when not
            asked for.
    """

    wins: torch.Tensor
    unsure: torch.Tensor
    margin: torch.Tensor
    radius: torch.Tensor | None


class OutputLayer:
    """The last linear layer of a network, or none: then ``goal`` is the logits themselves."""

    def __init__(self, flow: Dataflow) -> None:
        self.weight: torch.Tensor | None = None
        self.bias: torch.Tensor | None = None
        self.goal = flow.final
        step = flow.steps[flow.final]
        if isinstance(step.module, nn.Linear) and step.shape is not None and len(step.shape) == 1:
            self.weight, self.bias = step.module.weight, step.module.bias
            (self.goal,) = step.inputs

    @property
    def bounded(self) -> bool:
        """Whether distances can stand for logits."""
        return self.weight is not None

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden if self.weight is None else F.linear(hidden, self.weight, self.bias)

    def decide(
        self, hidden: torch.Tensor, labels: torch.Tensor, logit_size: torch.Tensor, radii: bool
    ) -> Decisions:
        """Decide n images from their hidden vectors.

        Args:
            hidden: (n, d) of ``goal``.
            labels: (n, k) int64.
            logit_size: (n,) least absolute logit that errors count relative to: what the image's
                logits were before anything was taken out of kept values.
            radii: also find the radius within which each decision holds.
        """
        logits = self.logits(hidden)
        low, high = logits.amin(dim=1), logits.amax(dim=1)  # aminmax along an axis is several times as slow
        guard = GUARD * torch.maximum(torch.maximum(high, -low), logit_size)
        wins, unsure, reach = [], [], []
        margin = torch.empty(0)
        for k in range(labels.shape[1]):
            label = labels[:, k : k + 1]
            own = logits.gather(1, label)
            best = logits.scatter(1, label, -torch.inf).amax(dim=1)
            lead = own.flatten() - best
            wins.append(lead > 0)
            unsure.append(~(lead.abs() > guard))
            if k == 0:
                margin = lead.double()
            if radii and self.bounded:
                reach.append(self._radius(logits - own, label, wins[-1], guard))
        radius = torch.stack(reach, dim=1) if reach else None
        return Decisions(torch.stack(wins, 1), torch.stack(unsure, 1), margin, radius)

    def _radius(
        self, lag: torch.Tensor, label: torch.Tensor, wins: torch.Tensor, guard: torch.Tensor
    ) -> torch.Tensor:
        """(n,) distance within which ``wins`` is certain. ``lag``: (n, classes) logit minus the
        label's."""
        assert self.weight is not None
        squares = self.weight.square().sum(dim=1)
        own = squares[label]
        both = own + squares
        # Rounded up: a distance between rows that is too short would promise too much.
        apart = both - 2 * (self.weight[label.flatten()] @ self.weight.T) + 1e-5 * both
        apart = apart.clamp_min_(1e-30).sqrt_()
        # A label that wins must stay ahead of every class, one that loses behind some class.
        sign = torch.where(wins, -1.0, 1.0)[:, None]
        holds = (sign * lag - guard[:, None]) / apart
        stays = holds.scatter(1, label, torch.inf).amin(dim=1)
        loses = holds.scatter(1, label, -torch.inf).amax(dim=1)
        return torch.where(wins, stays, loses).clamp_min(-1.0)


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """(n, d), (n, d) -> (n,) Euclidean distance, rounded up."""
    return (a - b).square_().sum(dim=1).sqrt_() * (1 + 1e-5)
