"""onnx2torch's registry, and the few helpers that its converters are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx2torch.node_converters.registry import (
    _CONVERTER_REGISTRY,
    OperationDescription,
    add_converter,
)
from onnx2torch.utils.common import OnnxMapping, OperationConverterResult
from torch import nn

Converter = Callable[[Any, Any], OperationConverterResult]


def converts(operator: str, *versions: int) -> Callable[[Converter], Converter]:
    """Registers a converter for the versions of an operator that changed it, in place of one that is
    there. It is only asked for by us: a conversion of the caller's own sees it too, with the same result
    or a refusal where there was a wrong one."""

    def decorate(converter: Converter) -> Converter:
        for version in versions:
            _CONVERTER_REGISTRY.pop(OperationDescription("", operator, version), None)
            add_converter(operation_type=operator, version=version)(converter)
        return converter

    return decorate


def registered(operator: str, version: int) -> Converter:
    """The converter that stands in the registry. Raises KeyError."""
    found: Converter = _CONVERTER_REGISTRY[OperationDescription("", operator, version)]
    return found


def is_registered(operator: str, version: int) -> bool:
    return OperationDescription("", operator, version) in _CONVERTER_REGISTRY


def of_first_input(module: nn.Module, node: Any) -> OperationConverterResult:
    """A module of the first input alone."""
    return OperationConverterResult(module, OnnxMapping((node.input_values[0],), node.output_values))


def constant(node: Any, graph: Any, position: int) -> torch.Tensor | None:
    """The constant at an input; None where that is left out. Raises NotImplementedError when it is no
    constant."""
    name = node.input_values[position] if position < len(node.input_values) else ""
    if not name:
        return None
    if name not in graph.initializers:
        raise NotImplementedError(f"its input {position + 1} is not constant")
    tensor: torch.Tensor = graph.initializers[name].to_torch()
    return tensor


def numbers(tensor: torch.Tensor) -> list[int]:
    """Integers of a constant: axes, sizes."""
    return [int(number) for number in tensor.flatten().tolist()]


def rank_of(node: Any, graph: Any) -> int:
    """How many axes the first input has. Raises NotImplementedError when that is not known."""
    info = graph.value_info.get(node.input_values[0])
    if info is None or not info.type.tensor_type.HasField("shape"):
        raise NotImplementedError("how many axes its input has is not known")
    return len(info.type.tensor_type.shape.dim)


def images(node: Any, graph: Any) -> None:
    """Raises NotImplementedError unless the first input has the axes of images."""
    if (rank := rank_of(node, graph)) != 4:
        raise NotImplementedError(f"its input has {rank} axes, not the 4 of images")


def pair(values: Sequence[int] | None, default: int) -> tuple[int, int]:
    found = tuple(values or (default, default))
    if len(found) != 2:
        raise NotImplementedError(f"{len(found)} sizes where images have 2")
    return found[0], found[1]
