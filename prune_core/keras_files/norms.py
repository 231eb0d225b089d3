"""Keras layers that normalise, rescale, or scale by weights, as ONNX nodes, channels first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from prune_core.keras_files.config import WAY_OUT
from prune_core.keras_files.onnx_builder import Tensor
from prune_core.keras_files.windows import Call

_EPSILON = 1e-7  # keras.backend.epsilon(), below which a Normalization lets no deviation be


def to_onnx_order(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """Rows of `values`, one per Keras feature of `tensor`, in the order of the ONNX features."""
    if tensor.order is None:
        return values
    ordered = np.empty_like(values)
    ordered[tensor.order] = values
    return ordered


def batch_normalization(call: Call) -> Tensor:
    """BatchNormalization, on its moving statistics."""
    graph, layer, tensor = call.graph, call.layer, call.input
    if call.onnx_axis(tensor) != 1:
        layer.refuse("it normalises an axis other than the channels")
    count = tensor.shape[:1]
    gamma = call.take("gamma", count) if layer.flag("scale", True) else np.ones(count, np.float32)
    beta = call.take("beta", count) if layer.flag("center", True) else np.zeros(count, np.float32)
    parameters = {
        "gamma": gamma,
        "beta": beta,
        "moving_mean": call.take("moving_mean", count),
        "moving_variance": call.take("moving_variance", count),
    }
    names = [
        graph.constant(f"{layer.name}/{key}", to_onnx_order(tensor, values))
        for key, values in parameters.items()
    ]
    epsilon = layer.number("epsilon", 1e-3, 0, 1)
    out = graph.node("BatchNormalization", layer.name, [tensor.value, *names], tensor.shape, epsilon=epsilon)
    return Tensor(out.value, out.shape, tensor.order)


def layer_normalization(call: Call) -> Tensor:
    """LayerNormalization, of each place over its channels, or of the whole image."""
    layer, tensor = call.layer, call.input
    if layer.config.get("rms_scaling") not in (None, False):
        layer.refuse(f"rms_scaling is not supported; {WAY_OUT}")
    rank = len(tensor.shape) + 1
    said: Any = layer.config.get("axis", -1)
    given = said if isinstance(said, list) else [said]
    if not given or any(type(a) is not int or not -rank <= a < rank or a % rank == 0 for a in given):
        layer.refuse(f"axis {said!r} does not exist in its input of {rank} axes")
    places = sorted({a % rank for a in given})
    if len(places) != len(given):
        layer.refuse(f"axis {said!r} names an axis twice")
    moved = [(0, 2, 3, 1)[a] if tensor.is_image and call.channels_last else a for a in places]
    shape = tuple(tensor.shape[a - 1] for a in moved)
    weights = {}
    for key, flag in (("gamma", "scale"), ("beta", "center")):
        if not layer.flag(flag, True):
            continue
        values = call.take(key, shape)
        if tensor.is_image:
            # From the file's order of axes to channels first; axes that are not normalised have size 1.
            values = values.transpose(np.argsort(moved))
            full = [tensor.shape[a - 1] if a in moved else 1 for a in (1, 2, 3)]
            weights[key] = values.reshape(full)
        else:
            weights[key] = to_onnx_order(tensor, values)
    return _normalised(call, tensor, sorted(moved), weights)


def group_normalization(call: Call) -> Tensor:
    """GroupNormalization, over each group of channels."""
    graph, layer, image = call.graph, call.layer, call.image()
    if call.onnx_axis(image) != 1:
        layer.refuse("it normalises an axis other than the channels")
    channels, height, width = image.shape
    said = layer.config.get("groups", 32)
    groups = channels if said == -1 else layer.integer("groups", 32)
    if channels % groups:
        layer.refuse(f"{groups} groups do not divide {channels} channels")
    weights = {
        key: call.take(key, (channels,)).reshape(channels, 1, 1)
        for key, flag in (("gamma", "scale"), ("beta", "center"))
        if layer.flag(flag, True)
    }
    apart = graph.constant(f"{layer.name}/groups", np.array([0, groups, -1], np.int64))
    size = (groups, channels // groups * height * width)
    rows = graph.node("Reshape", f"{layer.name}/apart", [image.value, apart], size)
    rows = _normalised(call, rows, [2], {})
    back = graph.constant(f"{layer.name}/shape", np.array([0, channels, height, width], np.int64))
    out = graph.node("Reshape", f"{layer.name}/together", [rows.value, back], image.shape)
    return _scaled(call, out, weights)


def _normalised(call: Call, tensor: Tensor, axes: list[int], weights: dict[str, np.ndarray]) -> Tensor:
    graph, layer = call.graph, call.layer
    name = layer.name
    shape = [1 if a + 1 in axes else size for a, size in enumerate(tensor.shape)]
    mean = graph.node("ReduceMean", f"{name}/mean", [tensor.value], shape, axes=axes, keepdims=1)
    apart = graph.node("Sub", f"{name}/sub", [tensor.value, mean.value], tensor.shape)
    square = graph.node("Mul", f"{name}/square", [apart.value, apart.value], tensor.shape)
    variance = graph.node("ReduceMean", f"{name}/variance", [square.value], shape, axes=axes, keepdims=1)
    epsilon = graph.constant(f"{name}/epsilon", np.array(layer.number("epsilon", 1e-3, 0, 1), np.float32))
    above = graph.node("Add", f"{name}/add", [variance.value, epsilon], shape)
    deviation = graph.node("Sqrt", f"{name}/sqrt", [above.value], shape)
    out = graph.node("Div", f"{name}/div", [apart.value, deviation.value], tensor.shape)
    return _scaled(call, Tensor(out.value, out.shape, tensor.order), weights)


def _scaled(call: Call, tensor: Tensor, weights: dict[str, np.ndarray]) -> Tensor:
    """Times gamma and plus beta, where there are such."""
    for key, op in (("gamma", "Mul"), ("beta", "Add")):
        if key in weights:
            name = call.graph.constant(f"{call.layer.name}/{key}", weights[key])
            out = call.graph.node(
                op, f"{call.layer.name}/{op.lower()}_{key}", [tensor.value, name], tensor.shape
            )
            tensor = Tensor(out.value, out.shape, tensor.order)
    return tensor


def rescaling(call: Call) -> Tensor:
    """Rescaling: one scale and offset, or one for each channel."""
    tensor = call.input
    scale, offset = (_per_channel(call, key, default) for key, default in (("scale", None), ("offset", 0.0)))
    for key, values, op in (("scale", scale, "Mul"), ("offset", offset, "Add")):
        if (values == (1 if op == "Mul" else 0)).all():
            continue
        name = call.graph.constant(f"{call.layer.name}/{key}", values)
        node = f"{call.layer.name}/{op.lower()}_{key}"
        out = call.graph.node(op, node, [tensor.value, name], tensor.shape)
        tensor = Tensor(out.value, out.shape, tensor.order)
    return tensor


def normalization(call: Call) -> Tensor:
    """Normalization by a mean and a variance, one for each channel or one for all."""
    graph, layer, tensor = call.graph, call.layer, call.input
    if layer.flag("invert", False):
        layer.refuse(f"invert is not supported; {WAY_OUT}")
    told = layer.config.get("mean") is not None
    said = layer.config.get("axis", -1)
    alone = said is None or said == []
    if not alone and call.onnx_axis(tensor) != 1:
        layer.refuse(f"it normalises an axis other than the channels; {WAY_OUT}")
    if told:
        mean, variance = (_per_channel(call, key, None) for key in ("mean", "variance"))
        if (variance < 0).any():
            layer.refuse("variance is negative")
    else:
        shape = () if alone else tensor.shape[:1]
        mean, variance = (_as_channels(call, call.take(key, shape)) for key in ("mean", "variance"))
        call.take("count", ())
    deviation = np.maximum(np.sqrt(np.maximum(variance, 0)), np.float32(_EPSILON))
    for key, values, op in (("mean_taken", mean, "Sub"), ("deviation", deviation, "Div")):
        name = graph.constant(f"{layer.name}/{key}", values)
        out = graph.node(op, f"{layer.name}/{op.lower()}", [tensor.value, name], tensor.shape)
        tensor = Tensor(out.value, out.shape, tensor.order)
    return tensor


def prelu(call: Call) -> Tensor:
    """PReLU: a slope for each channel, or for each place."""
    graph, layer, tensor = call.graph, call.layer, call.input
    shared: Any = layer.config.get("shared_axes") or []
    rank = len(tensor.shape) + 1
    if not isinstance(shared, list) or any(type(a) is not int or not 1 <= a < rank for a in shared):
        layer.refuse(f"shared_axes should be a list of axes within 1 .. {rank - 1}, not {shared!r}")
    last = tensor.is_image and call.channels_last
    sizes = (*tensor.shape[1:], tensor.shape[0]) if last else tensor.shape
    slopes = call.take("alpha", tuple(1 if a + 1 in shared else size for a, size in enumerate(sizes)))
    if last:
        slopes = slopes.transpose(2, 0, 1)
    elif len(slopes) > 1:
        slopes = to_onnx_order(tensor, slopes) if not tensor.is_image else slopes
    name = graph.constant(f"{layer.name}/alpha", slopes)
    out = graph.node("PRelu", layer.name, [tensor.value, name], tensor.shape)
    return Tensor(out.value, out.shape, tensor.order)


def _per_channel(call: Call, key: str, default: float | None) -> np.ndarray:
    """A field that holds one number, or one for each channel; to be broadcast over the tensor."""
    value: Any = call.layer.config.get(key, default)
    if isinstance(value, dict):  # an array, as Keras 3 may write it
        value = value.get("config", {}).get("value") if isinstance(value.get("config"), dict) else None
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    numbers = value if isinstance(value, list) else [value]
    fine = all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) <= 1e30 for v in numbers)
    if not fine or not numbers or not all(map(math.isfinite, numbers)):
        call.layer.refuse(f"{key} should be a number, or one for each channel, not {str(value)[:80]}")
    return _as_channels(call, np.array(numbers, np.float32))


def _as_channels(call: Call, values: np.ndarray) -> np.ndarray:
    """(1,), or one for each channel with the axes of the tensor."""
    tensor = call.input
    if values.size == 1:
        return values.reshape(1)
    if values.size != tensor.shape[0]:
        call.layer.refuse(f"it has {values.size} numbers for {tensor.shape[0]} channels")
    return values.reshape(-1, 1, 1) if tensor.is_image else to_onnx_order(tensor, values)
