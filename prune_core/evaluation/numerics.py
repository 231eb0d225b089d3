"""What a count is: ties, margins and their rounding, the same whoever works them out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from prune_core.data.images import LabeledImages
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel

# Twenty times the relative error seen in float32 logits of the networks at hand.
TIE = 2e-5


# Relative error of a *mean* margin: errors of single images cancel in it.
MARGIN_TIE = 2e-6


# Two logits this near each other in float64 are equal, say of two copies of one output unit.
EXACT_TIE = 1e-11


@dataclass(frozen=True)
class Reply:
    """What a net says about one set of images.

    Attributes:
        classes: (N,) int64, the class of the largest logit.
        margins: (N,) float64, logit of the image's label minus the best other; of poisoned images that
            is the target margin.
    """

    classes: np.ndarray
    margins: np.ndarray


class ExactNet:
    """The network in float64, for the few images on which float32 cannot decide."""

    def __init__(self, model: PrunableModel, batch: int = 128) -> None:
        self._model, self.batch = model, batch

    @cached_property
    def model(self) -> PrunableModel:
        """Made at the first doubt; on the network's device where that is a GPU of CUDA, else on the CPU,
        since other devices have no float64."""
        at = self._model.device if self._model.device.type == "cuda" else torch.device("cpu")
        return replace(self._model, graph=copy.deepcopy(self._model.graph).to(at).double())

    def reply(self, images: LabeledImages, mask: ChannelMask) -> Reply:
        classes, margins = [], []
        with self.model.pruned(mask) as model:
            for start in range(0, len(images), self.batch):
                stop = min(start + self.batch, len(images))
                pixels = torch.from_numpy(images.floats(start, stop)).double()
                logits = model.logits(pixels.to(model.device))
                tied = logits >= (logits.amax(dim=1) - EXACT_TIE * logits.abs().amax(dim=1))[:, None]
                classes.append(tied.to(torch.uint8).argmax(dim=1).cpu().numpy())
                margins.append(target_margins(logits, images.labels[start:stop]))
        return Reply(np.concatenate(classes), np.concatenate(margins))


def decided(logits: torch.Tensor, tie: float) -> tuple[np.ndarray, np.ndarray]:
    """Per row: the class of the largest logit, and whether the runner-up is within ``tie`` of it,
    relative to the largest absolute logit of the row. (n, classes) -> (n,) int64, (n,) bool.

    A row with a NaN or an infinity is not near a tie: its class is what argmax says.
    """
    top = logits.topk(2, dim=1)
    gap = top.values[:, 0] - top.values[:, 1]
    unsure = gap <= tie * logits.abs().amax(dim=1)
    return top.indices[:, 0].cpu().numpy(), unsure.cpu().numpy()


def target_margin(logits: torch.Tensor, target: int | torch.Tensor) -> torch.Tensor:
    """(n, classes) -> (n,): logit of the target minus the best of the others; above 0 the attack
    succeeds. ``target``: one class, or (n,) int64, one for each row. Differentiable, in the logits' own
    precision and on their device."""
    if isinstance(target, torch.Tensor):
        rows = target[:, None]
        own = logits.gather(1, rows).flatten()
        return own - logits.scatter(1, rows, -torch.inf).amax(dim=1)
    others = logits.clone()
    others[:, target] = -torch.inf
    return logits[:, target] - others.amax(dim=1)


def target_margins(logits: torch.Tensor, targets: np.ndarray) -> np.ndarray:
    """``target_margin`` as (n,) float64 on the CPU; ``targets``: (n,)."""
    wanted = torch.tensor(targets, dtype=torch.int64, device=logits.device)
    return target_margin(logits, wanted).double().cpu().numpy()


def margin_unit(badnet_margins: np.ndarray) -> float:
    """The unit in which mean margins are told: a power of two, about a thousandth of the BadNet's
    mean absolute margin. A fall of less is none."""
    size = float(np.abs(badnet_margins).mean())
    if not np.isfinite(size) or size == 0.0:
        return 2.0**-10
    return float(2.0 ** (np.floor(np.log2(size)) - 10))


def rounded_margin(mean: float, unit: float, tie: float, exactly: Callable[[], float]) -> float:
    """``mean`` in whole ``unit``s; ``exactly`` is asked when ``mean`` is so near the border between
    two units that its error (``tie``, relative to the BadNet's margin) could decide."""
    if not np.isfinite(mean):
        return mean
    position = mean / unit
    if abs(position - np.floor(position) - 0.5) <= tie * 2.0**11:
        position = exactly() / unit
    return float(np.floor(position + 0.5) * unit)
