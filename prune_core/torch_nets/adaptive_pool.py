"""Adaptive mean pooling to any size in operators that ONNX has.

torch's exporter knows only sizes that divide the image's. AlexNet and VGG, which pool to 6 x 6 and 7 x 7,
get images of 1 x 1 there when the pictures are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional


def adaptive_avg_pool2d(images: torch.Tensor, output_size: Any) -> torch.Tensor:
    """``torch.nn.functional.adaptive_avg_pool2d`` by slices, means and concatenation.
    (..., C, H, W) -> (..., C, h, w)."""
    pair = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    for axis, size in zip((-2, -1), pair, strict=True):
        if size is not None:
            images = _pooled(images, axis, int(size))
    return images


def _pooled(images: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    given = int(images.shape[axis])
    if given == size:
        return images
    parts = []
    for number in range(size):
        start, stop = number * given // size, -(-(number + 1) * given // size)
        part = images if stop - start == given else images.narrow(axis, start, stop - start)
        parts.append(part if stop - start == 1 else part.mean(dim=axis, keepdim=True))
    return torch.cat(parts, dim=axis)


@contextmanager
def exportable_pools() -> Iterator[None]:
    """torch's own function gives way to this one where the exporter would refuse its sizes."""
    theirs = functional.adaptive_avg_pool2d

    def chosen(input: torch.Tensor, output_size: Any) -> torch.Tensor:  # noqa: A002
        pair = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
        sides = [int(side) for side in input.shape[-2:]]
        fits = all(size is None or side % size == 0 for side, size in zip(sides, pair, strict=True))
        return theirs(input, output_size) if fits else adaptive_avg_pool2d(input, output_size)

    functional.adaptive_avg_pool2d = chosen
    try:
        yield
    finally:
        functional.adaptive_avg_pool2d = theirs
