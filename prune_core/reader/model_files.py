"""Model files -> ONNX, by their suffix. Runs in the reader process (``contained``)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import onnx

from prune_core.errors import InputError
from prune_core.files.onnx_normalize import normalized
from prune_core.files.onnx_read import read_onnx_named
from prune_core.files.onnx_sizes import check_sizes
from prune_core.keras_files.h5 import KERAS_SUFFIXES, opened, read_keras
from prune_core.keras_files.translate import architecture_of


def proto_of(
    path: Path, architecture: str | None = None, beside: Callable[[int], None] = lambda size: None
) -> tuple[onnx.ModelProto, str | None, str]:
    """The ONNX form of a model file, the architecture that had to be assumed, if one had, and the
    digest of all bytes that make the network. ``beside`` is told how many lie in other files.

    What the caller will do to it in C++ (bring the opset down, infer shapes) has been tried, and no
    value of it is larger than ``onnx_sizes.MAX_VALUES``. Raises InputError.
    """
    assumed = None
    if path.suffix.lower() in KERAS_SUFFIXES:
        if architecture is None:
            with opened(path) as file:
                assumed = architecture_of(file) if file.model_config is None else None
        proto = read_keras(path, architecture or assumed)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    elif path.suffix.lower() == ".onnx":
        proto, digest = read_onnx_named(path, beside)
    else:
        raise InputError(
            f"{path}: model files end in .h5 or .keras (Keras), .onnx, or .pth, .pt, .safetensors (PyTorch "
            f"weights), not {path.suffix or 'nothing'!r}"
        )
    check_sizes(normalized(proto, str(path)), str(path))
    return proto, assumed, digest


def digest_of(path: Path, beside: Callable[[int], None] = lambda size: None) -> str:
    """The digest of ``proto_of``. Raises InputError."""
    if path.suffix.lower() == ".onnx":
        return read_onnx_named(path, beside)[1]
    return hashlib.sha256(path.read_bytes()).hexdigest()
