"""Model files -> ONNX, by their suffix. Runs in the reader process (``contained``)."""

from __future__ import annotations

from pathlib import Path

import onnx

from prune_core.errors import InputError
from prune_core.files.onnx_read import normalized, read_onnx
from prune_core.files.onnx_sizes import check_sizes
from prune_core.keras_files.container import open_keras
from prune_core.keras_files.h5 import KERAS_SUFFIXES, read_keras
from prune_core.keras_files.translate import architecture_of


def proto_of(path: Path, architecture: str | None = None) -> tuple[onnx.ModelProto, str | None]:
    """The ONNX form of a model file, and the architecture that had to be assumed, if one had.

    What the caller will do to it in C++ (bring the opset down, infer shapes) has been tried, and no
    value of it is larger than ``onnx_sizes.MAX_VALUES``. Raises InputError.
    """
    assumed = None
    if path.suffix.lower() in KERAS_SUFFIXES:
        if architecture is None:
            with open_keras(path) as file:
                assumed = architecture_of(file) if file.model_config is None else None
        proto = read_keras(path, architecture or assumed)
    elif path.suffix.lower() == ".onnx":
        proto = read_onnx(path)
    else:
        raise InputError(f"{path}: model files end in .h5 (Keras) or .onnx, not {path.suffix or 'nothing'!r}")
    check_sizes(normalized(proto, str(path)), str(path))
    return proto, assumed
