"""I-BAU: adversarial unlearning by implicit hypergradients. Zeng et al., ICLR 2022, arXiv 2110.03735."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import changed_weights, parameters_of, student_of
from prune_core.repair.nets import Given, MadeNet
from prune_core.repair.published import CleanBatches, check_trained, pixel_squares, zero
from prune_core.threads import steps_on_fixed_threads

Tensors = Sequence[torch.Tensor]


@dataclass(frozen=True)
class IBauSettings:
    """The authors'. ``share``: of a batch's images, those that show the perturbation; ``penalty``: on its
    squared length, in spans of pixels; ``terms``: of the series for the hypergradient, with a step of
    ``inner_rate``; ``search_rate``: of the search for the perturbation."""

    rounds: int = 5
    batch: int = 100
    rate: float = 1e-3
    share: float = 0.01
    penalty: float = 1e-3
    terms: int = 5
    inner_rate: float = 0.1
    search_rate: float = 10.0


PUBLISHED = IBauSettings()


@steps_on_fixed_threads
def i_bau(
    given: Given,
    mask: ChannelMask,
    weights: Weights,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
    settings: IBauSettings = PUBLISHED,
) -> Iterator[MadeNet]:
    """min over w of max over d of the loss on clean images, some of which show the perturbation d, the same
    for all. A round finds d by one pass of gradient ascent against the net's own answers, then takes a
    step for each batch along the hypergradient, which counts in how the worst d moves with w.

    Knows no target: d may lead anywhere. Batch norm is on running statistics, as in the authors' code.
    Pruned channels stay zero. It trains the last layer, as published (see ``ft_sam``).
    Raises InputError where weights are no longer finite.
    """
    model = given.model
    student = student_of(model.with_weights(weights))
    parameters = parameters_of(student)
    tensors = [p.tensor.requires_grad_(True) for p in parameters]
    held = list(student.tensors_of(mask))
    zero(held)
    batches = CleanBatches(given, settings.batch)
    images = list(batches.epoch())
    span = float(batches.pixels.max() - batches.pixels.min()) or 1.0
    net = _Net(student, images, span, settings, batches.generator)
    squares = pixel_squares(student.graph, net.logits, batches.pixels[:256])
    # Adam's steps do not grow with gradients: those of kernels that see raw pixels are the smaller.
    groups = [{"params": [t], "lr": settings.rate / squares.get(id(t), 1.0) ** 0.5} for t in tensors]
    optimizer = torch.optim.Adam(groups)
    before = {p.name: p.value() for p in parameters_of(model)}
    for number in range(1, settings.rounds + 1):
        found = net.perturbation()
        for pixels, labels in images:
            optimizer.zero_grad()
            for tensor, gradient in zip(
                tensors, net.hypergradient(found, tensors, pixels, labels), strict=True
            ):
                tensor.grad = gradient
            optimizer.step()
            zero(held)
        tell(number, settings.rounds, "I-BAU")
        note = f"I-BAU, round {number} of {settings.rounds}"
        check_trained(tensors, note)
        yield MadeNet(mask, {**weights, **changed_weights(parameters, before)}, note)


@dataclass(frozen=True, eq=False)
class _Net:
    student: PrunableModel
    images: list[tuple[torch.Tensor, torch.Tensor]]
    span: float
    settings: IBauSettings
    generator: torch.Generator

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.student.graph(self.student.arranged(pixels))
        return logits

    def inner(self, found: torch.Tensor, pixels: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """What the perturbation makes small: minus the loss, and its length."""
        loss = functional.cross_entropy(self.logits(pixels + self.span * found), labels)
        return self.settings.penalty * found.square().sum() - loss

    def perturbation(self) -> torch.Tensor:
        """(1, C, H, W) in spans of pixels."""
        found = torch.zeros_like(self.images[0][0][:1])
        for pixels, _ in self.images:
            found.requires_grad_(True)
            with torch.no_grad():
                says = self.logits(pixels).argmax(1)
            (gradient,) = torch.autograd.grad(self.inner(found, pixels, says), found)
            found = found.detach() - self.settings.search_rate * gradient
        return found

    def hypergradient(
        self, found: torch.Tensor, tensors: Tensors, pixels: torch.Tensor, labels: torch.Tensor
    ) -> list[torch.Tensor]:
        """dL/dw + (dd/dw)' dL/dd, with dd/dw of the fixed point of a descent step of ``inner`` on the first
        batch, by a series of ``terms`` (Grazzi et al., arXiv 2006.16218)."""
        found = found.detach().requires_grad_(True)
        chosen = torch.randperm(len(pixels), generator=self.generator)[
            : int(len(pixels) * self.settings.share)
        ]
        shown = torch.zeros(len(pixels), 1, 1, 1, device=pixels.device)
        shown[chosen.to(pixels.device)] = self.span
        outer = functional.cross_entropy(self.logits(pixels + shown * found), labels)
        by_found, *direct = torch.autograd.grad(outer, [found, *tensors], materialize_grads=True)
        slope = torch.autograd.grad(self.inner(found, *self.images[0]), found, create_graph=True)[0]
        stepped = found - self.settings.inner_rate * slope
        series = torch.zeros_like(found)
        for _ in range(self.settings.terms):
            (series_moved,) = torch.autograd.grad(stepped, found, series, retain_graph=True)
            series = series_moved + by_found
        through = torch.autograd.grad(stepped, tensors, series, allow_unused=True)
        return [d if t is None else d + t for d, t in zip(direct, through, strict=True)]
