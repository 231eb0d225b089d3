"""Places where a patch may lie: a search that starts all over the image does not always meet a small one."""

from __future__ import annotations

import numpy as np
import torch

from prune_core.inversion.search import Effort

A_SIDE = 6  # windows along each side of the image;
SHARE = 0.2  # of the side that a window takes: neighbours share a few pixels
LOOK = Effort(steps=10, images=6)  # of the search that chooses a class's window,
JUDGED = 48  # images that its outcome is judged on


def look_passes(images: int) -> int:
    """Images through the network for one class and window, where there are so many; judging goes forth only
    and counts for a third."""
    return LOOK.steps * min(LOOK.images, images) + min(JUDGED, images) // 3


def windows_of(height: int, width: int) -> torch.Tensor:
    """(windows, 1, H, W), 1 inside and 0 outside: windows on a grid that overlap and cover the image. Fewer
    than ``A_SIDE`` along a side that has fewer pixels."""
    rows, columns = _spans(height), _spans(width)
    made = torch.zeros((len(rows) * len(columns), 1, height, width))
    for number, (row, column) in enumerate((r, c) for r in rows for c in columns):
        made[number, 0, row, column] = 1.0
    return made


def _spans(length: int) -> list[slice]:
    wide = int(np.ceil(SHARE * length))
    starts = sorted({int(s) for s in np.rint(np.linspace(0, length - wide, A_SIDE))})
    return [slice(start, start + wide) for start in starts]
