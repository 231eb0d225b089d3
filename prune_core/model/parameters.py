"""Which of a network's ONNX constants can be trained, and where they lie in its torch graph."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from prune_core.files.constants import constants
from prune_core.files.onnx_normalize import normalized
from prune_core.model.model import ConvLayer, PrunableModel


@dataclass(frozen=True, eq=False)
class Parameter:
    """A tensor of the graph that is one ONNX constant, perhaps transposed.

    Attributes:
        name: the ONNX constant.
        role: ``kernel`` or ``bias``, ``scale`` or ``shift`` of a batch norm.
        kind: ``conv``, ``dense`` or ``norm``: what it belongs to.
        node: the module in the graph.
    """

    name: str
    role: str
    kind: str
    node: str
    tensor: torch.Tensor
    transposed: bool

    def value(self) -> np.ndarray:
        """A copy of the values, in the order of the ONNX constant."""
        tensor = self.tensor.detach().t() if self.transposed else self.tensor.detach()
        array: np.ndarray = tensor.cpu().numpy().copy()
        return array


def parameters_of(model: PrunableModel) -> list[Parameter]:
    """Kernels and biases of convolutions and dense layers, scales and shifts of batch norms, in
    dataflow order.

    What is trained later is no longer the constant, so ask before. A constant that several nodes use
    is left out (training one copy would untie them), and so is what the graph holds in another form
    than the file.
    """
    graph = normalized(model.proto, model.name).graph
    file = constants(model.proto.graph)
    arrays = {t.name: t for t in graph.initializer if t.name in file}
    uses: dict[str, int] = {}
    for node in model.proto.graph.node:
        for value in node.input:
            uses[value] = uses.get(value, 0) + 1
    found: list[Parameter] = []
    modules = dict(model.graph.named_modules())
    for node in graph.node:
        for position, role, kind, tensor in _held(node, modules.get(node.name)):
            name = node.input[position] if position < len(node.input) else ""
            if tensor is None or uses.get(name) != 1 or name not in arrays:
                continue
            value = numpy_helper.to_array(arrays[name])
            transposed = _is_transposed(tensor, value)
            if transposed is not None:
                found.append(Parameter(name, role, kind, node.name, tensor, transposed))
    return found


def student_of(model: PrunableModel) -> PrunableModel:
    """A copy to train: its graph is its own, the rest is shared."""
    return replace(model, graph=copy.deepcopy(model.graph))


def changed_weights(
    parameters: Iterable[Parameter], before: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The values of ``parameters`` that differ from those ``before``."""
    after = {p.name: p.value() for p in parameters}
    return {name: new for name, new in after.items() if not np.array_equal(new, before[name])}


def last_dense(parameters: Iterable[Parameter]) -> str | None:
    """The module of the last dense layer, which tells the classes apart."""
    nodes = [p.node for p in parameters if p.kind == "dense"]
    return nodes[-1] if nodes else None


def of_layer(parameters: Iterable[Parameter], layer: ConvLayer) -> list[Parameter]:
    """The kernel and bias of a convolution and the scale and shift of the batch norm behind it."""
    return [p for p in parameters if p.node in (layer.node, layer.batch_norm)]


def _held(node: onnx.NodeProto, module: nn.Module | None) -> list[tuple[int, str, str, torch.Tensor | None]]:
    """(position among the node's inputs, role, kind, tensor of its module)."""
    if isinstance(module, nn.Sequential) and len(module):  # padding in front of a convolution
        module = module[-1]
    if isinstance(module, nn.Conv2d):
        return [(1, "kernel", "conv", module.weight), (2, "bias", "conv", module.bias)]
    if isinstance(module, nn.Linear):
        return [(1, "kernel", "dense", module.weight), (2, "bias", "dense", module.bias)]
    if isinstance(module, nn.BatchNorm2d):
        return [(1, "scale", "norm", module.weight), (2, "shift", "norm", module.bias)]
    return []


def _is_transposed(tensor: torch.Tensor, value: np.ndarray) -> bool | None:
    """None when the tensor is not the constant, neither as it is nor transposed."""
    held = tensor.detach().cpu().numpy()
    if held.shape == value.shape and np.array_equal(held, value.astype(held.dtype)):
        return False
    if value.ndim == 2 and held.shape == value.shape[::-1] and np.array_equal(held.T, value):
        return True
    return None
