"""Converters that onnx2torch lacks, in its own registry; ``register`` puts them there."""

from __future__ import annotations

import functools
import importlib

MODULES = ("versions", "activations", "corrected", "norms", "pooling", "reducing", "resizing", "shaping")


@functools.cache
def register() -> None:
    """Once for each process; onnx2torch has to be importable (``onnx2torch_import``)."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}")
