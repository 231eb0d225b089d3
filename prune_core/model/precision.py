"""float32 in full, whatever shorter form a GPU or a CPU would take in its place.

What a count is rests on float32 that is off by some 1e-6 (``evaluation/numerics``). By default cuDNN computes
convolutions of float32 in TF32, whose 10 bits are off by 1e-3: enough to decide another class without any
doubt being seen. So whatever counts, or ranks channels, does so in here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

FULL = "ieee"


@contextmanager
def full_float32() -> Iterator[None]:
    """No TF32 and no bfloat16 in place of float32; as it was set before on leaving, errors included. Also a
    decorator, ``@full_float32()``. For the process as a whole, as torch has it."""
    kernels = _kernels()
    before = [kernel.fp32_precision for kernel in kernels]
    if all(precision == FULL for precision in before):
        yield
        return
    try:
        for kernel in kernels:
            kernel.fp32_precision = FULL
        yield
    finally:
        for kernel, precision in zip(kernels, before, strict=True):
            kernel.fp32_precision = precision


def _kernels() -> list[Any]:
    """Those that may round what they multiply."""
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    return [cuda.matmul, cudnn.conv, cpu.matmul, cpu.conv]  # type: ignore[attr-defined]
