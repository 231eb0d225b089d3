"""Channels followed through an ONNX graph: which can be taken out, and what they leave behind.

Every value of the graph has *features* along one axis: the channels of an image, the numbers of a
vector. Two things are worked out for each. What it is when it is the same number everywhere in
every image (``known``; a pruned channel is 0, or the constant that a kept bias leaves). And which
features stand or fall together, because a node hands them on (a union of groups). A group can be
removed when whatever mixes its features can do without: the constant goes into a bias, or its
weights there are zero anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from prune_core.files.onnx_fold import Constants
from prune_core.files.onnx_shapes import for_images, shapes_of, told

BATCH = 2  # shapes are inferred for two images, so that the batch axis is told from one of size 1


class Unclear(Exception):
    """A node that does not treat channels in a known way; the reason, in words."""


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a value.

    Attributes:
        axis: where they lie; axis 0 is the batch.
        known: (size,) float64, the constant that a feature is; NaN where it is not one.
        base: number of the first one among all features of the graph.
    """

    axis: int
    known: np.ndarray
    base: int

    @property
    def size(self) -> int:
        return len(self.known)

    @property
    def ids(self) -> np.ndarray:
        return np.arange(self.base, self.base + self.size)


@dataclass
class Flow:
    """The graph as it is analysed. Handlers (``channel_ops``) fill it, node by node.

    Attributes:
        shapes: of values, for ``BATCH`` images; only those that are fully known.
        constants: by value name, those that nodes make of others too.
        features: by value name; a value that is missing cannot lose anything.
        edits: what to do to the graph once it is known which features stay.
        reshapes: numbers of Reshape nodes whose target is rewritten, so may come from a Shape.
    """

    proto: onnx.ModelProto
    shapes: dict[str, tuple[int, ...]]
    constants: dict[str, np.ndarray]
    features: dict[str, Features] = field(default_factory=dict)
    edits: list[Callable[[Rewriter], None]] = field(default_factory=list)
    reshapes: set[int] = field(default_factory=set)
    _parent: list[int] = field(default_factory=list)
    _stays: dict[int, str] = field(default_factory=dict)
    _notes: dict[int, str] = field(default_factory=dict)

    def fresh(self, value: str, axis: int, known: np.ndarray) -> Features:
        """New features of a value, tied to no others yet."""
        made = Features(axis, np.asarray(known, np.float64), len(self._parent))
        self._parent.extend(made.ids.tolist())
        self.features[value] = made
        return made

    def join(self, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Features, by number, that stay or go together: pairs."""
        for one, other in zip(ours.tolist(), theirs.tolist(), strict=True):
            self._parent[self.root(one)] = self.root(other)

    def root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def keep(self, ids: np.ndarray, reason: str) -> None:
        """Features that have to stay, and why."""
        for number in ids.tolist():
            self._stays.setdefault(number, reason)

    def note(self, ids: np.ndarray, reason: str) -> None:
        """A better reason than the one that will be found, if these stay."""
        for number in ids.tolist():
            self._notes.setdefault(number, reason)

    def absorb(self, features: Features, weights: np.ndarray, padded: bool, node: str) -> None:
        """``features`` are mixed with ``weights`` (outputs, features, ...); a constant among them
        can go into the bias, unless zeros are put around the image."""
        used = weights.reshape(weights.shape[0], features.size, -1).any(axis=(0, 2))
        unknown = used & np.isnan(features.known)
        edges = used & ~unknown & (features.known != 0) & padded
        self.keep(features.ids[unknown], f"{node} uses it")
        self.keep(
            features.ids[edges],
            f"{node} pads its input with zeros, so a constant channel differs at the border",
        )

    def reasons(self) -> dict[int, str]:
        """By the root of each group that has to stay: why. Notes say it best."""
        found: dict[int, str] = {}
        for number, reason in self._stays.items():
            found.setdefault(self.root(number), reason)
        for number, reason in self._notes.items():
            if (root := self.root(number)) in found:
                found[root] = reason
        return found

    def removed(self) -> dict[str, np.ndarray]:
        """Per value with features: (size,) bool, what goes. No value loses all it has."""
        staying = set(self.reasons())
        while True:
            gone = {
                name: np.array([self.root(i) not in staying for i in f.ids.tolist()], bool)
                for name, f in self.features.items()
            }
            empty = [name for name, flags in gone.items() if flags.all()]
            if not empty:
                return gone
            first = self.features[empty[0]].base
            self.keep(np.array([first]), "a layer must keep at least one channel")
            staying.add(self.root(first))


@dataclass
class Rewriter:
    """Makes the smaller graph. Weights that change become new constants of one node."""

    flow: Flow
    gone: dict[str, np.ndarray]
    graph: onnx.GraphProto  # of the copy that is changed

    def left(self, value: str) -> np.ndarray:
        """Indices of a value's features that stay."""
        return np.flatnonzero(~self.gone[value])

    def lost(self, value: str) -> np.ndarray:
        """Indices of a value's features that go."""
        return np.flatnonzero(self.gone[value])

    def touched(self, *values: str) -> bool:
        return any(self.gone[value].any() for value in values if value in self.gone)

    def set_input(self, node: int, position: int, array: np.ndarray) -> None:
        """A constant of its own for an input of a node; inputs in between are left out."""
        inputs = self.graph.node[node].input
        old = inputs[position] if position < len(inputs) else ""
        name = self._name(old or f"{self.graph.node[node].output[0]}/bias")
        while len(inputs) <= position:
            inputs.append("")
        inputs[position] = name
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(array, order="C"), name))

    def _name(self, old: str) -> str:
        taken = {v for node in self.graph.node for v in (*node.input, *node.output)}
        taken |= {tensor.name for tensor in self.graph.initializer}
        return next(n for n in (f"{old}_small{i}" for i in _from_one()) if n not in taken)


def _from_one() -> Iterator[str]:
    yield ""
    number = 2
    while True:
        yield f"_{number}"
        number += 1


def read_flow(proto: onnx.ModelProto, shape: Sequence[int]) -> Flow:
    """Shapes and constants of a model for images of ``shape`` (as its input has them, without the
    batch). The images themselves have no features: nothing can be taken from them."""
    held = dict(Constants(proto))
    (given,) = [i for i in proto.graph.input if i.name not in held]
    wanted = [d.dim_value for d in given.type.tensor_type.shape.dim[1:]]
    if len(wanted) != len(shape) or any(w not in (0, s) for w, s in zip(wanted, shape, strict=True)):
        raise ValueError(f"its input is {wanted} (0: any)")
    return Flow(proto, shapes_of(told(for_images(proto, BATCH, shape))), held)


def constants_of(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """Arrays of initializers and of Constant nodes, by value name; of names given to them too."""
    found = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute:
            value = onnx.helper.get_attribute_value(node.attribute[0])
            if isinstance(value, onnx.TensorProto):
                found[node.output[0]] = numpy_helper.to_array(value)
            elif isinstance(value, int | float | list):
                kind = np.float32 if node.attribute[0].name.startswith("value_float") else np.int64
                found[node.output[0]] = np.array(value, kind)
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


def name_of(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} {node.output[0]}"


def fields(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def constant(flow: Flow, node: onnx.NodeProto, position: int) -> np.ndarray | None:
    """The constant at an input; None when that is left out. Unclear when it is no constant."""
    if position >= len(node.input) or not node.input[position]:
        return None
    if node.input[position] not in flow.constants:
        raise Unclear(f"{name_of(node)} has weights that are not constants")
    return flow.constants[node.input[position]]


def single(flow: Flow, node: onnx.NodeProto) -> Features:
    """The features of the first input. Unclear when there are none."""
    if node.input[0] not in flow.features:
        raise Unclear(f"what reaches {name_of(node)} cannot be traced by channels")
    return flow.features[node.input[0]]


def handed_on(flow: Flow, node: onnx.NodeProto, axis: int, known: np.ndarray) -> Features:
    """The output has the features of the first input, one by one."""
    given = single(flow, node)
    made = flow.fresh(node.output[0], axis, known)
    flow.join(made.ids, given.ids)
    return made
