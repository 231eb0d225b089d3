"""Forward passes for scores: activations looked at, channels scaled by gates.

Everything here leaves the model as found: no hook stays, no gradient is kept on a parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx

from prune_core.data.images import LabeledImages
from prune_core.model.model import ConvLayer, PrunableModel

BATCH = 128
Gates = Mapping[str, torch.Tensor]


@contextmanager
def watched(
    model: PrunableModel, nodes: Mapping[str, str], see: Callable[[str, torch.Tensor], None]
) -> Iterator[None]:
    """``see`` gets (key, output) of the module ``nodes[key]`` at each forward pass; the hooks are
    gone on leaving, errors included."""
    handles = []
    try:
        for key, node in nodes.items():
            module = model.graph.get_submodule(node)
            handles.append(module.register_forward_hook(lambda m, a, out, key=key: see(key, out)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def over_activations(
    model: PrunableModel,
    layers: list[str],
    images: LabeledImages,
    see: Callable[[str, torch.Tensor], None],
    before_relu: bool = False,
) -> None:
    """Run all images; ``see`` gets (layer, its activations (n, channels, h, w)) batch by batch.
    Activations are taken behind batch norm and ReLU where those follow, or (``before_relu``) at
    the convolution's own output."""
    place = {name: model.layer(name) for name in layers}
    nodes = {
        name: layer.node if before_relu else activation_node(model, layer) for name, layer in place.items()
    }
    with watched(model, nodes, see):
        for pixels, _ in batches(model, images, 256):
            model.logits(pixels)


def batches(
    model: PrunableModel, images: LabeledImages, size: int = BATCH
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """(n, C, H, W) float32 and (n,) int64 on the model's device."""
    for start in range(0, len(images), size):
        stop = min(start + size, len(images))
        pixels = torch.from_numpy(images.floats(start, stop)).to(model.device)
        # A copy: labels out of Ray's object store are read-only, and torch has no such tensors.
        yield pixels, torch.tensor(images.labels[start:stop], device=model.device)


def activation_node(model: PrunableModel, layer: ConvLayer) -> str:
    """The module whose output is the layer's activation: the convolution, or the batch norm and
    the ReLU that alone follow it."""
    node = next(n for n in model.graph.graph.nodes if n.op == "call_module" and n.target == layer.node)
    while len(node.users) == 1:
        (user,) = node.users
        if user.op != "call_module":
            break
        module = model.graph.get_submodule(str(user.target))
        if not isinstance(module, (torch.nn.ReLU, torch.nn.ReLU6, torch.nn.BatchNorm2d)):
            break
        node = user
    return str(node.target)


class Tail:
    """The part of a net from some layers on, on fixed batches: what lies before them is computed
    once. A gate multiplies a channel where pruning would make it zero (behind a batch norm that
    directly follows), so a gate of 0 is a pruned channel and 1 leaves the net as it is."""

    def __init__(
        self, model: PrunableModel, layers: list[str], images: LabeledImages, size: int = BATCH
    ) -> None:
        self.model = model
        self.nodes: list[fx.Node] = list(model.graph.graph.nodes)
        gated = {model.layer(n).batch_norm or model.layer(n).node: n for n in layers}
        self.gate_of = {
            n: gated[str(n.target)] for n in self.nodes if n.op == "call_module" and str(n.target) in gated
        }
        self.behind: set[fx.Node] = set()
        for node in self.nodes:
            if any(i in self.behind or i in self.gate_of for i in node.all_input_nodes):
                self.behind.add(node)
        wanted = {i for n in self.behind for i in n.all_input_nodes if i not in self.behind}
        self.kept: list[dict[fx.Node, Any]] = []
        self.labels: list[torch.Tensor] = []
        with torch.no_grad():
            for pixels, labels in batches(model, images, size):
                values = self._run({}, [n for n in self.nodes if n not in self.behind], pixels)
                self.kept.append({n: values[n] for n in wanted | set(self.gate_of) - self.behind})
                self.labels.append(labels)
        self.todo = [n for n in self.nodes if n in self.behind]

    def __len__(self) -> int:
        return len(self.kept)

    def logits(self, gates: Gates, batch: int) -> torch.Tensor:
        """(n, classes) of a batch. ``gates``: {layer: (channels,) or (n, channels)}; a layer that is
        left out stays as it is. Differentiable in the gates."""
        values = dict(self.kept[batch])
        for node in self.gate_of.keys() - self.behind:
            values[node] = self._gated(node, values[node], gates)
        return self._run(values, self.todo, None, gates)[self.nodes[-1]][0]

    def _gated(self, node: fx.Node, value: torch.Tensor, gates: Gates) -> torch.Tensor:
        gate = gates.get(self.gate_of[node])
        return value if gate is None else value * gate.view(-1, gate.shape[-1], 1, 1)

    def _run(
        self,
        values: dict[fx.Node, Any],
        nodes: list[fx.Node],
        pixels: torch.Tensor | None,
        gates: Gates | None = None,
    ) -> dict[fx.Node, Any]:
        run = fx.Interpreter(self.model.graph)
        for node in nodes:
            if node.op == "placeholder":
                assert pixels is not None
                values[node] = self.model.arranged(pixels)
                continue
            args = fx.map_arg(node.args, lambda n: values[n])
            kwargs = fx.map_arg(node.kwargs, lambda n: values[n])
            out: Any = args
            if node.op != "output":
                out = getattr(run, node.op)(node.target, args, kwargs)
            values[node] = self._gated(node, out, gates) if gates and node in self.gate_of else out
        return values


def ones(model: PrunableModel, layers: list[str]) -> dict[str, torch.Tensor]:
    return {n: torch.ones(model.layer(n).channels, device=model.device) for n in layers}


def as_scores(values: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: v.detach().double().cpu().numpy() for name, v in values.items()}
