"""What has been done to a network: which kernels are zero, and what differs from the BadNet.

Reads weights only, so it says what a file is, whatever its maker says of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from onnx import numpy_helper

from prune_core.data.checks.findings import Finding
from prune_core.errors import InputError
from prune_core.files.constants import constants
from prune_core.model.model import ConvLayer, PrunableModel


def inspect_model(
    model: PrunableModel,
    against: PrunableModel | None = None,
    layers: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Pruned and changed channels, as plain data.

    Of every convolution: ``zeroed``, the channels with an all-zero kernel, and ``constant``, those
    of them that still put out a value other than zero (a bias or batch norm shift was left).
    ``channels_total`` and ``channels_pruned`` count ``layers``; without that, all convolutions but
    the first, which defences leave alone (the only one of a network that has just one).

    With ``against`` (the BadNet), per layer with a difference: ``changed``, channels whose kernel
    differs in any bit of value; ``bias_changed``. ``channels_changed`` counts ``changed`` within
    the counted layers. ``other_changed``: the names of other constants that differ or that only one
    of the two has, such as dense kernels; null when the files do not name them alike.
    ``compared_by`` says how layers were matched: ``name``, or ``position`` when names differ. ``findings``:
    where it looks as if the two were exchanged.

    Raises InputError for an unknown layer, and for networks that cannot be compared.
    """
    kernels = model.kernels()
    zeroed = {name: _where((k == 0).all(axis=(1, 2, 3))) for name, k in kernels.items()}
    if layers is None:
        counted = [layer.name for layer in model.layers[1:] or model.layers]
    else:
        counted = list(dict.fromkeys(model.layer(name).name for name in layers))
    found: dict[str, Any] = {
        "model": model.name,
        "against": None if against is None else against.name,
        "layers": [
            {
                "name": layer.name,
                "channels": layer.channels,
                "zeroed": zeroed[layer.name],
                "constant": _constant(model, layer, zeroed[layer.name]),
            }
            for layer in model.layers
        ],
        "counted_layers": counted,
        "channels_total": sum(model.layer(name).channels for name in counted),
        "channels_pruned": sum(len(zeroed[name]) for name in counted),
        "changed": {},
    }
    if against is not None:
        found |= _differences(model, against, counted)
    return found


def _differences(model: PrunableModel, badnet: PrunableModel, counted: list[str]) -> dict[str, Any]:
    by_name, pairs = _matched(model, badnet)
    changed, bias_changed = {}, {}
    put_back = 0  # channels that are zero in the BadNet alone
    for ours, theirs in pairs:
        kernel, original = (_array(net.conv(la).weight) for net, la in ((model, ours), (badnet, theirs)))
        if kernel.shape != original.shape:
            raise InputError(
                f"{model.name}: the kernel of {ours.name} has shape {kernel.shape}, that of "
                f"{theirs.name} in {badnet.name} has {original.shape}; networks can be compared "
                "only when one was made from the other"
            )
        if rows := _where(_differ(kernel, original).any(axis=(1, 2, 3))):
            changed[ours.name] = rows
            put_back += int((kernel[rows].any(axis=(1, 2, 3)) & ~original[rows].any(axis=(1, 2, 3))).sum())
        if rows := _where(_differ(_bias(model, ours), _bias(badnet, theirs))):
            bias_changed[ours.name] = rows
    return {
        "changed": changed,
        "channels_changed": sum(len(changed.get(name, ())) for name in counted),
        "bias_changed": bias_changed,
        "other_changed": _other_changed(model, badnet) if by_name else None,
        "compared_by": "name" if by_name else "position",
        "findings": _exchanged(model, badnet, put_back, sum(map(len, changed.values()))),
    }


def _exchanged(
    model: PrunableModel, badnet: PrunableModel, put_back: int, changed: int
) -> list[dict[str, Any]]:
    """That the file to compare with is the repaired one, where all that differs is zero there alone."""
    if not changed or put_back < changed:
        return []
    said = (
        f"all {changed} kernels that differ are zero in {badnet.name} and not in {model.name}: were the two "
        "exchanged? --against takes the BadNet"
    )
    return [Finding("warning", "networks-exchanged", said, {"kernels": changed}).to_json()]


def _matched(model: PrunableModel, badnet: PrunableModel) -> tuple[bool, list[tuple[ConvLayer, ConvLayer]]]:
    """Pairs of layers to compare, and whether their names made them pairs. Converters rename
    layers, so without common names the order counts; shapes are checked by the caller."""
    if model.by_name.keys() == badnet.by_name.keys():
        return True, [(layer, badnet.layer(layer.name)) for layer in model.layers]
    if len(model.layers) == len(badnet.layers):
        return False, list(zip(model.layers, badnet.layers, strict=True))
    fewer, more = sorted((model, badnet), key=lambda net: len(net.layers))
    lone = next(name for name in more.by_name if name not in fewer.by_name)
    raise InputError(
        f"{model.name} has {len(model.layers)} convolutions and {badnet.name} has "
        f"{len(badnet.layers)}: {lone} of {more.name} is not in {fewer.name}; networks can be "
        "compared only when one was made from the other"
    )


def _other_changed(model: PrunableModel, badnet: PrunableModel) -> list[str] | None:
    ours, theirs = _other_constants(model), _other_constants(badnet)
    if ours.keys().isdisjoint(theirs) and (ours or theirs):
        return None
    lone = ours.keys() ^ theirs.keys()
    differing = [
        name
        for name in ours.keys() & theirs.keys()
        if ours[name].shape != theirs[name].shape or _differ(ours[name], theirs[name]).any()
    ]
    return sorted([*lone, *differing])


def _other_constants(model: PrunableModel) -> dict[str, np.ndarray]:
    """Floating-point constants that are no convolution's kernel or bias, by name."""
    graph = model.proto.graph
    of_convs = {name for node in graph.node if node.op_type == "Conv" for name in node.input}
    arrays = {
        name: numpy_helper.to_array(tensor)
        for name, tensor in constants(graph).items()
        if name not in of_convs
    }
    return {name: array for name, array in arrays.items() if array.dtype.kind == "f"}


def _constant(model: PrunableModel, layer: ConvLayer, zeroed: list[int]) -> list[int]:
    """Of the channels with a zero kernel, those that put out something else than zero, before the
    activation."""
    value = torch.from_numpy(_bias(model, layer)).to(model.device)
    if layer.batch_norm is not None:
        norm = model.graph.get_submodule(layer.batch_norm)
        value = norm(value.reshape(1, -1, 1, 1)).flatten()
    left = _array(value)
    return [channel for channel in zeroed if left[channel] != 0]


def _bias(model: PrunableModel, layer: ConvLayer) -> np.ndarray:
    """(channels,); zeros for a convolution without one."""
    bias = model.conv(layer).bias
    return np.zeros(layer.channels, np.float32) if bias is None else _array(bias)


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Elementwise; a NaN is like a NaN."""
    differ: np.ndarray = (a != b) & ~(np.isnan(a) & np.isnan(b))
    return differ


def _where(flags: ArrayLike) -> list[int]:
    return [int(row) for row in np.flatnonzero(flags)]
