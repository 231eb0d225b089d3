"""A GoodNet as the state_dict of the PyTorch module that the BadNet came from.

What pruning sets to zero in the ONNX form, it sets to zero here, under the module's own names:
``load_state_dict(..., strict=True)`` takes it.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import numpy_helper
from safetensors import SafetensorError
from safetensors.numpy import load
from torch import nn

from prune_core.errors import InputError
from prune_core.export.zeroings import zeroings
from prune_core.files.onnx_fold import Constants
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, from_source
from prune_core.torch_nets.source import TorchSource
from prune_core.torch_nets.weights import put_in

PARAMETERS = "parameters"  # in a mask's file
Rows = dict[str, dict[str, Any]]  # key of the state_dict -> {"axis": 0, "rows": [3, 7]}


class NoStateDict(Exception):
    """The network cannot be held by a module's state_dict; the text says why."""


def zeroed_rows(model: PrunableModel, mask: ChannelMask) -> Rows:
    """What ``mask`` sets to zero, by key of the state_dict.

    Where a batch norm has no weights of its own, the mean that it takes away is set to zero: then a
    channel of zeros stays one. Raises NoStateDict: the network came from no module, or a tensor that would
    change serves other layers too or is none of the module's.
    """
    if model.source is None:
        raise NoStateDict("it did not come from a PyTorch module")
    keys: dict[str, list[str]] = {}
    for key, constant in model.source.constant_of.items():
        keys.setdefault(constant, []).append(key)
    graph, known = model.proto.graph, Constants(model.proto)
    used = [value for node in graph.node for value in node.input]
    found: Rows = {}
    for at in zeroings(model, mask, known):
        node, axis = graph.node[at.node], at.axis
        constant = node.input[at.position]
        if constant not in keys and node.op_type == "BatchNormalization" and node.input[3] in keys:
            if (known[node.input[2]] != 0).any():
                raise NoStateDict(f"the shift of {node.name} is not in its state_dict")
            constant, axis = node.input[3], 0
        if constant not in keys:
            raise NoStateDict(f"{node.name} computes with a tensor that is not in its state_dict")
        if used.count(constant) > 1:
            raise NoStateDict(f"{keys[constant][0]} serves {used.count(constant)} layers")
        for key in keys[constant]:
            entry = found.setdefault(key, {"axis": axis, "rows": []})
            entry["rows"] = sorted({*entry["rows"], *at.rows})
    return found


def pruned_state(model: PrunableModel, mask: ChannelMask) -> dict[str, np.ndarray]:
    """The whole state_dict of the GoodNet: changed weights where there are some, then the mask's rows set
    to zero. Raises NoStateDict."""
    rows = zeroed_rows(model, mask)
    assert model.source is not None
    if lone := sorted(model.weights.keys() - set(model.source.constant_of.values())):
        raise NoStateDict(f"the changed {lone[0]} is not in its state_dict")
    held = {tensor.name: tensor for tensor in model.proto.graph.initializer}
    found: dict[str, np.ndarray] = {}
    for key, tensor in model.source.module.state_dict().items():
        if not isinstance(tensor, torch.Tensor):
            continue
        found[key] = np.array(tensor.numpy(), order="C")
        constant = model.source.constant_of.get(key)
        if constant in model.weights:
            found[key] = np.array(numpy_helper.to_array(held[constant]).reshape(found[key].shape))
    for key, entry in rows.items():
        found[key][(slice(None),) * entry["axis"] + (entry["rows"],)] = 0
    return found


def loaded_state(source: TorchSource, path: Path) -> PrunableModel:
    """The module with a file's weights, as its users load them (strict), as a network. Raises InputError
    where the file does not fit."""
    module = copy.deepcopy(source.module)
    try:
        arrays = load(path.read_bytes())
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as safetensors: {text}") from None
    put_in(module, arrays, path.name, "the module")
    return from_source(TorchSource.of(module, source.image, path.name), path.name)


def with_rows_zero(module: nn.Module, rows: Rows, name: str) -> nn.Module:
    """A copy of a module with rows of its tensors set to zero; ``name``: where the rows are from.

    Raises InputError for a tensor that it lacks, or that is too small.
    """
    try:
        made = copy.deepcopy(module)
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"the module cannot be copied: {text}") from None
    state = made.state_dict()
    # The module may be wrapped (DataParallel, torch.compile) where the BadNet was not.
    front = next((f for f in ("", "module.", "_orig_mod.") if all(f + k in state for k in rows)), None)
    if front is None:
        lone = [key for key in rows if key not in state]
        raise InputError(
            f"{name}: it prunes {lone[0]!r}, which the module's state_dict lacks ({len(lone)} of {len(rows)} "
            "tensors); expected the module that the BadNet is"
        )
    with torch.no_grad():
        for key, entry in rows.items():
            tensor, axis, chosen = state[front + key], entry["axis"], entry["rows"]
            size = tensor.shape[axis] if tensor.ndim > axis else 0
            if not all(0 <= row < size for row in chosen):
                raise InputError(
                    f"{name}: it prunes rows up to {max(chosen)} of {key!r}, which is {tuple(tensor.shape)}; "
                    "expected the module that the BadNet is"
                )
            tensor.index_fill_(axis, torch.tensor(chosen, device=tensor.device), 0)
    return made


def checked_rows(value: Any, name: str) -> Rows:
    """``parameters`` of a mask's file. Raises InputError."""
    fits = isinstance(value, dict) and all(
        isinstance(entry, dict)
        and type(entry.get("axis")) is int
        and 0 <= entry["axis"] < 8
        and isinstance(entry.get("rows"), list)
        and all(type(row) is int for row in entry["rows"])
        for entry in value.values()
    )
    if not fits:
        raise InputError(f"{name}: its {PARAMETERS!r} are damaged")
    rows: Rows = value
    return rows
