"""A state_dict into the module of an architecture, or one line that says which keys do not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from prune_core.errors import InputError
from prune_core.torch_nets.architectures import Architecture, takes_classes

SHOWN = 3
# Counts batches seen in training; inference does not use it, and old files lack it.
_COUNTER = "num_batches_tracked"


def module_with(architecture: Architecture, arrays: Mapping[str, np.ndarray], source: str) -> nn.Module:
    """The module, in evaluation mode, with these weights.

    Where all keys fit and only the number of classes is another, and nobody gave one, it is taken from
    the file. Raises InputError that names keys that are missing, left over, or of another shape.
    """
    module = architecture.made()
    arrays = _without_common_prefix(arrays, module.state_dict())
    classes = _classes(module.state_dict(), arrays)
    if classes is not None and takes_classes(architecture):
        arguments = {**architecture.arguments, "num_classes": classes}
        module = replace(architecture, arguments=arguments).made()
    put_in(module, arrays, source, architecture.text)
    return module.eval()


def put_in(module: nn.Module, arrays: Mapping[str, np.ndarray], source: str, named: str) -> None:
    """``module.load_state_dict``, strict but for counters of batches. Raises InputError; ``named``: what
    the module is called."""
    wanted = {k: v for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    missing = [k for k in wanted if k not in arrays and not k.endswith(_COUNTER)]
    left_over = [k for k in arrays if k not in wanted and not k.endswith(_COUNTER)]
    shapes = [k for k in wanted if k in arrays and tuple(wanted[k].shape) != arrays[k].shape]
    said = []
    if missing:
        said.append(f"{len(missing)} missing ({_some(missing)})")
    if left_over:
        said.append(f"{len(left_over)} left over ({_some(left_over)})")
    if shapes:
        differ = [f"{k} is {arrays[k].shape}, expected {tuple(wanted[k].shape)}" for k in shapes]
        said.append(f"{len(shapes)} of another shape ({_some(differ, '; ')})")
    if said:
        raise InputError(
            f"{source}: its keys do not fit {named}: {', '.join(said)}; it has {len(arrays)} tensors, the "
            f"architecture {len(wanted)}"
        )
    with torch.no_grad():
        for key, tensor in wanted.items():
            if key in arrays:
                tensor.copy_(torch.from_numpy(np.array(arrays[key])))


def _some(words: Iterable[str], between: str = ", ") -> str:
    words = list(words)
    return between.join(words[:SHOWN]) + (f"{between}..." if len(words) > SHOWN else "")


def _without_common_prefix(
    arrays: Mapping[str, np.ndarray], wanted: Mapping[str, object]
) -> Mapping[str, np.ndarray]:
    """Names without a first part that all share (as ``model.`` of Lightning), where more then fit."""
    while arrays:
        first = next(iter(arrays)).partition(".")[0] + "."
        if not all(key.startswith(first) and key != first for key in arrays):
            break
        shorter = {key.removeprefix(first): value for key, value in arrays.items()}
        if len(wanted.keys() & shorter.keys()) <= len(wanted.keys() & arrays.keys()):
            break
        arrays = shorter
    return arrays


def _classes(wanted: Mapping[str, torch.Tensor], arrays: Mapping[str, np.ndarray]) -> int | None:
    """The number of classes in the file, where it alone makes shapes differ: in each such tensor the
    first axis, the same lengths everywhere."""
    differ = [
        (tuple(wanted[k].shape), arrays[k].shape)
        for k in wanted
        if k in arrays and tuple(wanted[k].shape) != arrays[k].shape
    ]
    if not differ or any(len(a) != len(b) or not a or a[1:] != b[1:] for a, b in differ):
        return None
    pairs = {(a[0], b[0]) for a, b in differ}
    return int(next(iter(pairs))[1]) if len(pairs) == 1 else None
