"""The part of a network that training leaves as it is: its results are worked out once and kept."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import fx

from prune_core.model.model import PrunableModel

KEPT = 1 << 30  # bytes of results that may be kept


class Front:
    """A network cut in two: ``front``, which no changed module reaches, and the rest.

    ``logits`` of rows are those of the whole network on these images: the same operations in the same
    order, of which the front's were done before. Gradients reach whatever lies in the rest. Where nothing
    can be cut off, or what it says takes more memory than ``KEPT``, the whole network runs each time.
    """

    def __init__(
        self, model: PrunableModel, changed: Collection[str], images: torch.Tensor, batch: int = 128
    ) -> None:
        """
        Args:
            changed: names of the graph's modules that are not what they were, or will not be.
            images: (N, C, H, W) on the network's device.
        """
        self.model, self.images = model, images
        self.kept: list[torch.Tensor] = []
        cut = _cut(model.graph, changed)
        if cut is None:
            return
        front, self.rest = cut
        with torch.no_grad():
            few = images[:2]
            said = front(model.arranged(few))
            size = sum(value.numel() * value.element_size() for value in said) / len(few)
            if any(len(value) != len(few) for value in said) or size * len(images) > KEPT:
                return
            parts = [front(model.arranged(some)) for some in images.split(batch)]
        self.kept = [torch.cat(column) for column in zip(*parts, strict=True)]

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """(n,) int64 -> (n, classes), as the network is now."""
        if not self.kept:
            logits: torch.Tensor = self.model.graph(self.model.arranged(self.images[rows]))
            return logits
        return self.rest(*(value[rows].contiguous(memory_format=_format(value)) for value in self.kept))


def _format(value: torch.Tensor) -> torch.memory_format:
    last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _cut(graph: fx.GraphModule, changed: Collection[str]) -> tuple[fx.GraphModule, fx.GraphModule] | None:
    """The front, images -> values that the rest needs, and the rest, these -> logits. Modules are shared
    with ``graph``. None where nothing but the images would be kept."""
    nodes = list(graph.graph.nodes)
    moved: set[fx.Node] = set()  # whatever a changed module reaches
    seen: set[fx.Node] = set()  # whatever the images reach
    for node in nodes:
        if node.op == "placeholder" or seen.intersection(node.all_input_nodes):
            seen.add(node)
        if (node.op == "call_module" and node.target in changed) or moved.intersection(node.all_input_nodes):
            moved.add(node)
    moved.update(node for node in nodes if node.op == "output")
    between = [n for n in nodes if n in seen and n not in moved and moved.intersection(n.users)]
    if not between or any(node.op == "placeholder" for node in between):
        return None
    front, rest = fx.Graph(), fx.Graph()
    first: dict[fx.Node, fx.Node] = {}
    then: dict[fx.Node, fx.Node] = {node: rest.placeholder(node.name) for node in between}
    for node in nodes:
        if node in moved or node not in seen:  # constants belong to both
            then[node] = rest.node_copy(node, then.__getitem__)
        if node not in moved:
            first[node] = front.node_copy(node, first.__getitem__)
    front.output(tuple(first[node] for node in between))
    return fx.GraphModule(graph, front), fx.GraphModule(graph, rest)
