"""Activations that are kept from one question to the next, under a budget of memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import torch

from prune_core.incremental.dataflow import Dataflow


class Kept:
    """Raw values of chosen nodes for all images, by node and by what of a mask they depend on.

    A node is kept for every image or not at all; what is not kept is computed again, from the
    nearest kept nodes, by who asks.
    """

    def __init__(self, flow: Dataflow, images: int, budget: int) -> None:
        """``budget``: bytes that the kept values may take."""
        self.flow, self.images, self.budget = flow, images, budget
        self.values: dict[tuple[str, Hashable], torch.Tensor] = {}
        self.nodes: list[str] = []

    def choose(self, goal: str, layers: Iterable[str]) -> None:
        """Decide which nodes are worth keeping: ``goal``, then what questions about the layers
        need, last layers first, because theirs are small and their questions cheap to serve."""
        self._want(goal)
        last = self.flow.place[goal]
        for layer in layers:
            chain = self.flow.chains[layer]
            for node in self.flow.outputs_fed(layer):
                if self.flow.place[node] <= last:
                    self._want(node)
            if not any(node in self.nodes for node in chain.nodes):
                self._want(min(chain.nodes, key=self.flow.size))

    def _want(self, node: str) -> None:
        taken = sum(self.flow.size(n) for n in self.nodes) + self.flow.size(node)
        fits = self.flow.size(node) > 0 and taken * self.images <= self.budget
        if fits and node not in self.nodes:
            self.nodes.append(node)

    def get(self, node: str, key: Hashable) -> torch.Tensor | None:
        """(images, ...) float32, or None."""
        return self.values.get((node, key))

    def make(self, node: str, key: Hashable) -> torch.Tensor | None:
        """Room for a value that is not there yet; None when the budget has none."""
        taken = sum(t.numel() * 4 for t in self.values.values())
        if taken + self.flow.size(node) * self.images > self.budget:
            return None
        shape = self.flow.steps[node].shape
        assert shape is not None
        room = torch.empty((self.images, *shape), device=self.flow.model.device)
        self.values[node, key] = room
        return room

    def keep_only(self, wanted: set[tuple[str, Hashable]]) -> None:
        """Let go of everything else."""
        for name in [n for n in self.values if n not in wanted]:
            del self.values[name]
