"""What stands behind a convolution and belongs to it: a bias or a scale for each channel in nodes of
their own, as some exporters write them. Pruning a channel takes them too, so that it is zero whatever
the exporter did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx


@dataclass(frozen=True)
class Affine:
    """One node behind a convolution that adds to each channel, or scales it.

    Attributes:
        node: its number in the graph.
        value: the name of what it takes.
        zeroed: input positions of constants that pruning sets to zero, and their axis of channels.
        factor, term: (channels,) float64; it makes ``factor * x + term`` of x.
        shifts: it adds and nothing else.
        direct: no node stands between the convolution and it but such as this.
    """

    node: int
    value: str
    zeroed: dict[int, int]
    factor: np.ndarray
    term: np.ndarray
    direct: bool = True

    @property
    def shifts(self) -> bool:
        return bool(self.zeroed) and bool((self.factor == 1).all()) and 2 not in self.zeroed


def tail_of(
    graph: onnx.GraphProto, number: int, constants: Mapping[str, np.ndarray], users: Users
) -> list[Affine]:
    """The nodes that belong to the convolution that is node ``number``, in order."""
    channels = int(constants[graph.node[number].input[1]].shape[0])
    value, order, direct = graph.node[number].output[0], [0, 1, 2, 3], True
    found: list[Affine] = []
    while (following := users.only(value)) is not None:
        node = graph.node[following]
        if passes(node, constants):
            value = node.output[0]
            continue
        if node.op_type == "Transpose":
            perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), [3, 2, 1, 0])
            if sorted(perm) != [0, 1, 2, 3] or perm[0] != 0:
                break
            order, value, direct = [order[axis] for axis in perm], node.output[0], False
            continue
        part = _affine(node, following, value, order.index(1), channels, constants)
        if part is None:
            break
        found.append(replace(part, direct=direct))
        value = node.output[0]
    # A scale without a term behind leaves a zero a zero: it is none of the convolution's.
    while found and not found[-1].zeroed:
        found.pop()
    return found


class Users:
    """Who takes the values of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._of: dict[str, list[int]] = {}
        for number, node in enumerate(graph.node):
            for value in node.input:
                self._of.setdefault(value, []).append(number)
        self._put_out = {output.name for output in graph.output}

    def only(self, value: str) -> int | None:
        """The one node that takes a value once; None when there are more, or it is put out."""
        found = self._of.get(value, [])
        return found[0] if len(found) == 1 and value not in self._put_out else None


def passes(node: onnx.NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a node hands on what it gets, in a network that is not trained."""
    if node.op_type == "Dropout" and len([value for value in node.output if value]) == 1:
        training = node.input[2] if len(node.input) > 2 else ""
        return not training or (training in constants and not constants[training].any())
    return node.op_type == "Identity"


def _affine(
    node: onnx.NodeProto,
    number: int,
    value: str,
    axis: int,
    channels: int,
    constants: Mapping[str, np.ndarray],
) -> Affine | None:
    """None when the node does something else, or not with one number for each channel."""
    if node.op_type == "BatchNormalization":
        return _batch_norm(node, number, value, axis, channels, constants)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(node.input) != 2 or node.attribute:
        return None
    position = 1 if node.input[0] == value else 0
    name = node.input[position]
    if name not in constants or (position == 0 and node.op_type == "Div"):
        return None
    held = per_channel(constants[name], axis, channels)
    if held is None:
        return None
    along, numbers = held
    one, zero = np.ones(channels), np.zeros(channels)
    with np.errstate(all="ignore"):
        factor, term = {
            "Add": (one, numbers),
            "Sub": (one, -numbers) if position == 1 else (-one, numbers),
            "Mul": (numbers, zero),
            "Div": (1 / numbers, zero),
        }[node.op_type]
    if not np.isfinite(factor).all():
        return None
    return Affine(number, value, {position: along} if node.op_type in ("Add", "Sub") else {}, factor, term)


def _batch_norm(
    node: onnx.NodeProto,
    number: int,
    value: str,
    axis: int,
    channels: int,
    constants: Mapping[str, np.ndarray],
) -> Affine | None:
    parts = [constants.get(name) for name in node.input[1:5]]
    odd = any(p is None or p.shape != (channels,) or p.dtype.kind != "f" for p in parts)
    if node.input[0] != value or axis != 1 or len(parts) != 4 or odd or len(node.output) > 1:
        return None
    scale, shift, mean, variance = (np.asarray(p, np.float64) for p in parts)
    epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
    return Affine(number, value, {1: 0, 2: 0}, factor, shift - mean * factor)


def per_channel(array: np.ndarray, axis: int, channels: int) -> tuple[int, np.ndarray] | None:
    """(axis of the channels in the constant, (channels,) float64) of a constant operand that has one
    number for each channel of an image; None when it has not. One number alone is a channel's only
    where it has the axes of an image: ``x + 3`` is no bias."""
    along = axis - (4 - array.ndim)
    if array.dtype.kind != "f" or array.ndim > 4 or along < 0 or array.size != channels:
        return None
    if array.shape[along] != channels or (channels == 1 and array.ndim < 3):
        return None
    return along, array.reshape(-1).astype(np.float64)
