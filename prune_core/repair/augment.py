"""Varied copies of images, for training on few of them."""

from __future__ import annotations

import torch
from torch.nn import functional


def varied(
    pixels: torch.Tensor, generator: torch.Generator, span: tuple[float, float], shift: int = 2
) -> torch.Tensor:
    """(n, C, H, W) -> the same images moved by up to ``shift`` pixels, half of the batches mirrored,
    each a little brighter or darker and of more or less contrast, kept within ``span``.

    What such an image *is* need not be known: its wanted logits are the BadNet's on the same copy.
    All chance is drawn on the CPU, so it is the same on every device.
    """
    count, _, height, width = pixels.shape
    down, right = torch.randint(0, 2 * shift + 1, (2,), generator=generator).tolist()
    padded = functional.pad(pixels, (shift,) * 4, mode="replicate")
    moved = padded[:, :, down : down + height, right : right + width]
    if torch.rand((), generator=generator) < 0.5:
        moved = moved.flip(3)
    contrast, brightness = (
        (torch.rand((2, count, 1, 1, 1), generator=generator) - 0.5).to(pixels.device).unbind()
    )
    low, high = span
    return (moved * (1 + 0.3 * contrast) + 0.12 * (high - low) * brightness).clamp(low, high)


def blended(pixels: torch.Tensor, generator: torch.Generator, share: float) -> torch.Tensor:
    """(n, C, H, W) -> the same, about ``share`` of them mixed with another of the batch, of which
    they take less than half. After mixup (arXiv 1710.09412), with the BadNet's answer for label."""
    count = len(pixels)
    chosen = torch.rand((count, 1, 1, 1), generator=generator) < share
    own = 0.5 + 0.5 * torch.rand((count, 1, 1, 1), generator=generator)
    own = torch.where(chosen, own, torch.ones_like(own)).to(pixels.device)
    other = pixels[torch.randperm(count, generator=generator).to(pixels.device)]
    return own * pixels + (1 - own) * other


def cropped(pixels: torch.Tensor, generator: torch.Generator, pad: int = 4) -> torch.Tensor:
    """The augmentation of the published defences' own code: random crops and mirroring.

    (n, C, H, W) -> the same images, each moved by up to ``pad`` pixels each way (black comes in) and,
    half of them, mirrored. Chance is drawn on the CPU, so it is the same on every device.
    """
    count, _, height, width = pixels.shape
    moves = torch.randint(0, 2 * pad + 1, (2, count), generator=generator)
    mirrored = torch.rand(count, generator=generator) < 0.5
    padded = functional.pad(pixels, (pad,) * 4)
    down = moves[0][:, None] + torch.arange(height)
    right = moves[1][:, None] + torch.arange(width)
    right = torch.where(mirrored[:, None], right.flip(1), right)
    down, right = down.to(pixels.device), right.to(pixels.device)
    rows = torch.arange(count, device=pixels.device)[:, None, None]
    # Advanced indices on both sides of a slice come first: (n, H, W, C).
    return padded[rows, :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2)
