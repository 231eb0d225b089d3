"""Which batch norm scales what a convolution puts out, also where more than the batch norm uses it."""

from __future__ import annotations

import torch
from torch import fx, nn

from prune_core.model.model import ConvLayer, PrunableModel


def norm_after(model: PrunableModel, layer: ConvLayer) -> str | None:
    """The module of the batch norm that takes a convolution's output in: its own, or one among several
    users, or, as in pre-activation blocks, one behind the additions that the output goes into. None where
    there is none, as where an exporter folded it into the convolution."""
    if layer.batch_norm is not None:
        return layer.batch_norm
    start = next(n for n in model.graph.graph.nodes if n.op == "call_module" and n.target == layer.node)
    waiting, seen = [start], set()
    while waiting:
        node = waiting.pop(0)
        users = [u for u in node.users if u.op == "call_module"]
        for user in users:  # a direct one before what lies behind an addition
            module = model.graph.get_submodule(str(user.target))
            if isinstance(module, nn.BatchNorm2d) and module.num_features == layer.channels:
                return str(user.target)
        added = [u for u in users if u not in seen and is_addition(model, u)]
        seen.update(added)
        waiting += added
    return None


def is_addition(model: PrunableModel, node: fx.Node) -> bool:
    """Whether a node adds two values that are both computed from the images."""
    module = model.graph.get_submodule(str(node.target))
    return getattr(module, "math_op_function", None) is torch.add and (
        sum(i.op != "get_attr" for i in node.all_input_nodes) == 2
    )
