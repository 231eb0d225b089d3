"""Converters that onnx2torch lacks, in its own registry; ``register`` puts them there."""

from __future__ import annotations

import functools
import importlib

from prune_core.model.onnx2torch_import import load_onnx2torch

load_onnx2torch()  # the files of this folder import it, whichever of them comes first

MODULES = ("versions", "activations", "corrected", "norms", "pooling", "reducing", "resizing", "shaping")


@functools.cache
def register() -> None:
    """Once for each process."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
