"""The augmentation of the published defences' own code: random crops and mirroring."""

from __future__ import annotations

import torch
from torch.nn import functional


def cropped(pixels: torch.Tensor, generator: torch.Generator, pad: int = 4) -> torch.Tensor:
    """(n, C, H, W) -> the same images, each moved by up to ``pad`` pixels each way (black comes in) and,
    half of them, mirrored. Chance is drawn on the CPU, so it is the same on every device."""
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
