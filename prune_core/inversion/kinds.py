"""What a trigger may look like, as numbers that a gradient can move: many of them side by side."""

from __future__ import annotations

from dataclasses import dataclass

import torch

KINDS = ("patch", "blend", "add")
_EDGE = 1e-4  # how near 0 and 1 a sigmoid starts


@dataclass(frozen=True, eq=False)
class Stamps:
    """Triggers as they are put on images, one for each job, in what the network takes.

    Attributes:
        kind: one of ``KINDS``.
        mask: (jobs, 1, H, W) how much of a pixel the trigger covers, 0 to 1; of ``add`` all ones.
        pattern: (jobs, C, H, W) what covers it; of ``add`` what is added.
        size: (jobs,) of a ``patch`` the pixels covered (the sum of the mask), of a ``blend`` its opacity, of
            ``add`` the root mean square of what is added, as a fraction of the span of pixels.
    """

    kind: str
    mask: torch.Tensor
    pattern: torch.Tensor
    size: torch.Tensor

    def on(self, images: torch.Tensor, span: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """(n, C, H, W) images with every trigger on: (jobs, n, C, H, W), within the span."""
        if self.kind == "add":
            return torch.clamp(images[None] + self.pattern[:, None], *span)
        mask = self.mask[:, None]
        return images[None] * (1 - mask) + self.pattern[:, None] * mask

    def of(self, rows: torch.Tensor | slice) -> Stamps:
        return Stamps(self.kind, self.mask[rows], self.pattern[rows], self.size[rows])


class Variables:
    """The free numbers behind ``Stamps``, from a random start. ``span``: lowest and highest value of a
    pixel, each (C, 1, 1), as the network takes them. ``within``: (jobs, 1, H, W), 1 where a ``patch`` may
    lie, 0 elsewhere; it starts out on most of it. ``whole``: it covers all of that, and only what stands in
    it is free."""

    def __init__(
        self,
        kind: str,
        jobs: int,
        shape: tuple[int, int, int],
        span: tuple[torch.Tensor, torch.Tensor],
        generator: torch.Generator,
        within: torch.Tensor | None = None,
        whole: bool = False,
    ) -> None:
        self.kind, self.shape, self.within, self.whole = kind, shape, within, whole
        self.low, self.wide = span[0], span[1] - span[0]
        channels, height, width = shape
        device = span[0].device
        drawn = torch.rand((jobs, channels, height, width), generator=generator)
        if kind == "add":
            self.free = [(0.05 * (2 * drawn - 1)).to(device)]
        else:
            self.free = [torch.logit(drawn, _EDGE).clamp(-3, 3).to(device)]
            cover = torch.rand((jobs, 1, height, width), generator=generator)
            if kind == "blend":
                self.free.append(torch.full((jobs, 1, 1, 1), -1.0, device=device))
            elif not whole:
                self.free.append(((-2.0 if within is None else 1.0) + 1.0 * cover).to(device))
        for tensor in self.free:
            tensor.requires_grad_(True)

    def stamps(self) -> Stamps:
        channels, height, width = self.shape
        first = self.free[0]
        if self.kind == "add":
            size = first.square().mean(dim=(1, 2, 3)).add(1e-12).sqrt()
            ones = torch.ones((len(first), 1, height, width), device=first.device)
            return Stamps(self.kind, ones, first * self.wide, size)
        if self.within is not None and self.whole:
            mask = self.within
        else:
            mask = torch.sigmoid(self.free[1]).expand(-1, 1, height, width)
            mask = mask if self.within is None else mask * self.within
        pattern = self.low + torch.sigmoid(first) * self.wide
        size = mask.mean(dim=(1, 2, 3)) if self.kind == "blend" else mask.sum(dim=(1, 2, 3))
        return Stamps(self.kind, mask, pattern, size)
