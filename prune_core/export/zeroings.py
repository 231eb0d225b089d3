"""Which rows of which constants a mask sets to zero in a network's ONNX form."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prune_core.files.onnx_fold import Constants
from prune_core.files.onnx_tail import Users, tail_of
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel


@dataclass(frozen=True)
class Zeroing:
    """Rows of one constant: input ``position`` of node number ``node``, along ``axis``."""

    node: int
    position: int
    axis: int
    rows: list[int]


def zeroings(model: PrunableModel, mask: ChannelMask, known: Constants) -> Iterator[Zeroing]:
    """All that ``mask`` sets to zero; what ``PrunableModel.pruned`` sets to zero in the torch graph.
    ``known``: the network's constants. Raises InputError for a layer or channel that is not there."""
    with model.pruned(mask):  # for its checks of the mask: one place says which channels there are
        pass
    graph, users = model.proto.graph, Users(model.proto.graph)
    numbers = [number for number, node in enumerate(graph.node) if node.op_type == "Conv"]
    for name, rows in mask.by_layer().items():
        conv = numbers[model.layer(name).onnx_index]
        yield Zeroing(conv, 1, 0, rows)
        if mask.keep_bias:
            continue
        if len(graph.node[conv].input) > 2 and graph.node[conv].input[2]:
            yield Zeroing(conv, 2, 0, rows)
        for part in tail_of(graph, conv, known, users):
            for position, axis in part.zeroed.items():
                yield Zeroing(part.node, position, axis, rows)
