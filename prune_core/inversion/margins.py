"""How far any image at all can lead to a class: the maximum margin of its logit over all others.

A net that was taught a backdoor gives the target such a lead for some inputs as it gives no other class,
whatever the trigger looks like. No clean image is needed. After MM-BD (Wang, Xiang, Miller and Kesidis, IEEE
S&P 2024, arXiv 2205.06900), who climb from random images and compare the classes' greatest margins; here they
are compared as the sizes of triggers are, on a log scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from prune_core.evaluation.numerics import target_margin
from prune_core.inversion.anomaly import Others, others_of
from prune_core.inversion.search import Span
from prune_core.model.model import PrunableModel
from prune_core.model.precision import full_float32
from prune_core.threads import fixed_threads

STARTS, STEPS = 3, 100
SHORT = 20  # steps from one start, where there are so many classes that they are screened
RATE = 0.05  # Adam's, of the span of pixels
LEAST = 1e-3  # logits: a class that never wins counts as one that hardly does
TOLD = 5


@fixed_threads()
def greatest_margins(
    net: PrunableModel,
    shape: tuple[int, int, int],
    targets: torch.Tensor,
    span: Span,
    steps: int,
    generator: torch.Generator,
    tell: Callable[[], None] = lambda: None,
) -> torch.Tensor:
    """Climb from a random image for every entry of ``targets``.

    Args:
        shape: (C, H, W) of an image.
        targets: (jobs,) int64 classes; a class may stand there several times, for several starts.
        span: lowest and highest value of a pixel as the network takes it, each (C, 1, 1).
        generator: of the CPU; draws the starts.
        tell: called after every step.

    Returns:
        (jobs,) logits by which the class leads the best other one in the image that it ends with.
    """
    low, wide = span[0], span[1] - span[0]
    image = torch.rand((len(targets), *shape), generator=generator).to(low.device).requires_grad_(True)
    optimizer = torch.optim.Adam([image], lr=RATE)

    def margins() -> torch.Tensor:
        return target_margin(net.graph(net.arranged(low + image * wide)), targets)

    with full_float32():
        for _ in range(steps):
            optimizer.zero_grad()
            (-margins().sum()).backward()
            optimizer.step()
            with torch.no_grad():
                image.clamp_(0, 1)
            tell()
        with torch.no_grad():
            return margins()


@dataclass(frozen=True, eq=False)
class Margins:
    """The greatest margin of every class that was searched in full.

    Attributes:
        targets: (classes,) int64.
        found: (classes, starts) logits.
    """

    targets: np.ndarray
    found: np.ndarray

    @property
    def greatest(self) -> np.ndarray:
        """(classes,) over starts."""
        greatest: np.ndarray = np.maximum(self.found.max(axis=1), LEAST)
        return greatest

    @property
    def others(self) -> Others:
        """What they are compared with; of 1 / margin, so that a small one is odd, as of sizes."""
        return others_of(1 / self.greatest)

    @property
    def anomalies(self) -> dict[int, float]:
        """By class: robust standard deviations by which its margin lies above the others' on a log scale."""
        others = self.others
        return {int(t): others.anomaly(1 / m) for t, m in zip(self.targets, self.greatest, strict=True)}

    def to_json(self) -> dict[str, Any]:
        """The most anomalous classes, and what they are compared with."""
        anomalies, greatest = self.anomalies, dict(zip(self.targets.tolist(), self.greatest, strict=True))
        first = sorted(anomalies, key=lambda one: -anomalies[one])[:TOLD]
        return {
            "classes": len(self.targets),
            "starts": self.found.shape[1],
            "spread": self.others.spread,
            "rows": [
                {"class": one, "margin": float(greatest[one]), "anomaly": anomalies[one]} for one in first
            ],
        }
