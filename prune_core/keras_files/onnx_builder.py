"""A small writer of ONNX graphs: channels first, shapes known, names that mean something."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prune_core.errors import InputError

# The newest opset that onnx2torch 1.5 converts throughout, and the IR version it came with.
OPSET = 17
IR_VERSION = 8
INPUT = "images"
_MAX_ELEMENTS = 2**25


@dataclass(frozen=True)
class Tensor:
    """A value of the graph.

    :ivar value: its ONNX name.
    :ivar shape: without the batch: (C, H, W) for images, (F,) for vectors.
    :ivar order: for a vector whose features the source format counts in another order:
        source feature i is ONNX feature `order[i]`. None where both agree.
    """

    value: str
    shape: tuple[int, ...]
    order: np.ndarray | None = None

    @property
    def is_image(self) -> bool:
        """Whether it has height and width."""
        return len(self.shape) == 3


@dataclass
class OnnxBuilder:
    """Collects nodes and constants. A node's name is also its torch module's after onnx2torch.

    :ivar source: the file that the graph is made from, for messages.
    """

    source: Path
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    _names: set[str] = field(default_factory=lambda: {INPUT})

    def node(
        self, op: str, name: str, inputs: Sequence[str], shape: Sequence[int], **attributes: Any
    ) -> Tensor:
        """Append a node with one result of the given shape (without the batch).

        :raises InputError: the name is taken, or the shape is absurd.
        """
        self._claim(name)
        if math.prod(shape) > _MAX_ELEMENTS:
            raise InputError(
                f"{self.source}: {name!r} would give {math.prod(shape)} values per image; too many"
            )
        # A result is named apart from its node: onnx2torch looks both up in one table.
        value = f"{name}:0"
        self.nodes.append(helper.make_node(op, list(inputs), [value], name=name, **attributes))
        return Tensor(value, tuple(shape))

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add an initializer; its name is returned for use as an input."""
        self._claim(name)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def model(self, name: str, input_shape: Sequence[int], result: Tensor) -> onnx.ModelProto:
        """The finished model; its output is `probabilities` after a Softmax, else `logits`.

        :param input_shape: of the input `images`, without the batch.
        """
        last = next((node for node in self.nodes if node.output[0] == result.value), None)
        if last is None:
            raise InputError(f"{self.source}: the network returns its input unchanged")
        output = "probabilities" if last.op_type == "Softmax" else "logits"
        for node in self.nodes:
            inputs = [output if value == result.value else value for value in node.input]
            node.ClearField("input")
            node.input.extend(inputs)
        last.output[0] = output
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", *input_shape])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", *result.shape])],
            self.constants,
        )
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="goodnet",
        )

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise InputError(f"{self.source}: {name!r} names two things; rename that layer")
        self._names.add(name)
