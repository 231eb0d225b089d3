"""BatchNormalization of opset 7 and 8, LayerNormalization, GroupNormalization."""

from __future__ import annotations

from typing import Any

import torch
from onnx2torch.utils.common import OperationConverterResult
from torch import nn

from prune_core.model.converters.registry import constant, converts, of_first_input, rank_of, registered


@converts("BatchNormalization", 7)
def batch_norm(node: Any, graph: Any) -> OperationConverterResult:
    if node.attributes.get("spatial", 1) != 1:
        raise NotImplementedError("spatial=0, which normalizes each pixel by itself")
    return registered("BatchNormalization", 9)(node, graph)


_norms = {version: registered("BatchNormalization", version) for version in (9, 14, 15)}


def _not_trained(version: int) -> Any:
    def batch_norm(node: Any, graph: Any) -> OperationConverterResult:
        outputs = [value for value in node.output_values if value]
        if len(outputs) > 1 or node.attributes.get("training_mode", 0):
            raise NotImplementedError("statistics of a batch; call net.eval() before the export")
        return _norms[version](node, graph)

    return batch_norm


for _version in _norms:
    converts("BatchNormalization", _version)(_not_trained(_version))


@converts("LayerNormalization", 17)
def layer_norm(node: Any, graph: Any) -> OperationConverterResult:
    if len([value for value in node.output_values if value]) > 1:
        raise NotImplementedError("mean and deviation as outputs")
    scale, shift = constant(node, graph, 1), constant(node, graph, 2)
    axis = node.attributes.get("axis", -1)
    axes = -axis if axis < 0 else rank_of(node, graph) - axis
    if scale is None or scale.dim() != axes or (shift is not None and shift.shape != scale.shape):
        raise NotImplementedError("a scale of another shape than what is normalized")
    module = nn.LayerNorm(tuple(scale.shape), eps=node.attributes.get("epsilon", 1e-5))
    module.weight.data = scale
    module.bias.data = torch.zeros_like(scale) if shift is None else shift
    return of_first_input(module, node)


@converts("GroupNormalization", 18, 21)
def group_norm(node: Any, graph: Any) -> OperationConverterResult:
    scale, shift = constant(node, graph, 1), constant(node, graph, 2)
    groups = node.attributes["num_groups"]
    shape = graph.value_info[node.input_values[0]].type.tensor_type.shape
    channels = shape.dim[1].dim_value
    if scale is None or shift is None or groups < 1 or channels < 1 or channels % groups:
        raise NotImplementedError(f"{groups} groups of {channels or 'an unknown number of'} channels")
    if scale.numel() == shift.numel() == groups != channels:  # of opset 18: one for each group
        scale, shift = (t.repeat_interleave(channels // groups) for t in (scale, shift))
    if scale.numel() != channels or shift.numel() != channels:
        raise NotImplementedError("a scale that is not one number for each channel or group")
    module = nn.GroupNorm(groups, channels, eps=node.attributes.get("epsilon", 1e-5))
    module.weight.data, module.bias.data = scale, shift
    return of_first_input(module, node)
