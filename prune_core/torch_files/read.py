"""A PyTorch network's weights, from any of the files in which they are handed over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from prune_core.errors import InputError
from prune_core.torch_files.checkpoint import said_of, state_of
from prune_core.torch_files.pickled import arrays_of, is_tensor, load_pickled
from prune_core.torch_files.tensors import load_tensors

PICKLED = (".pth", ".pt", ".ckpt", ".pt2", ".tar", ".bin")
SUFFIXES = (*PICKLED, ".safetensors")


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The state_dict of a file as arrays, in its order, and what the file says of the network beside
    (``checkpoint.said_of``). Runs in the reader process. Raises InputError."""
    if path.suffix.lower() == ".safetensors":
        return state_of(load_tensors(path), lambda value: isinstance(value, np.ndarray), str(path)), {}
    saved = load_pickled(path)
    state = state_of(saved, is_tensor, str(path))
    arrays = dict(arrays_of(state, str(path)))
    if not any(a.dtype.kind == "f" for a in arrays.values()):
        raise InputError(f"{path}: none of its {len(arrays)} tensors holds floats; these are no weights")
    return arrays, said_of(saved)
