"""Nets whose activations are kept, so that others can be told as differences from them.

A *base* is a mask, its outcome and, under a budget of memory, the activations of its net. The first is the
unpruned net. When questions go on from a mask that was asked before, that becomes the base, by the same
differences. Two bases are kept, since the seed policy tries channels in one net and accumulates them in
another.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch

from prune_core.data.images import Split
from prune_core.evaluation.numerics import TIE, ExactNet, decided
from prune_core.incremental.activation_cache import Kept
from prune_core.incremental.base_values import Rows
from prune_core.incremental.bases import Base, Outcome, apart, check_finite, layers_apart
from prune_core.incremental.batches import BLOCK, FIRST_BLOCK, ImageBlocks
from prune_core.incremental.channel_delta import Piece
from prune_core.incremental.costs import Costs
from prune_core.incremental.dataflow import Dataflow, Step
from prune_core.incremental.output_bounds import OutputLayer, distance
from prune_core.incremental.propagate import Run
from prune_core.masks import ChannelMask, channels_apart
from prune_core.model.memory import free_memory
from prune_core.model.model import PrunableModel

# What the process takes besides images, weights and activations: Python, torch, allocator.
OVERHEAD = int(0.75 * 2**30)
WEIGHTS = 3  # times their bytes: the graph, and its copy in float64
BLOCK_PART = 4  # of the room for activations, a fourth is for those of the block in hand
LEAST_BLOCK = 16  # images; fewer at a time would save little memory and cost much time

Outcomes = OrderedDict[ChannelMask, Outcome]


class KeptBases:
    """The bases of one network on one split; the model is only read.

    Attributes:
        labels: (N, k) int64, as ``Outcome.wins`` has its columns; clean images first.
        logit_size: (N,) largest absolute logit of each image in the BadNet.
        badnet_classes: (poisoned images,) int64; ``agrees``: the same, bool, where it is the image's target.
    """

    def __init__(self, model: PrunableModel, split: Split, memory_gb: float) -> None:
        """``memory_gb``: GiB that the process may take, images included. Nothing is kept before
        ``start``."""
        self.model, self.split = model, split
        self.exact = ExactNet(model)
        self.flow = Dataflow(model, split.clean.shape)
        self.output = OutputLayer(self.flow)
        self.images = ImageBlocks(model, split, sum(map(self.flow.size, self.flow.steps)))
        self.first_poisoned, self.total = self.images.first_poisoned, self.images.total
        self.labels = self._label_table().to(model.device)
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.graph.parameters())
        taken = OVERHEAD + WEIGHTS * weights + sum(i.pixels.nbytes for i in self.images.sets)
        room, free = max(0, int(memory_gb * 2**30) - taken), free_memory(model.device)
        self.block_bytes = None if free is not None else room // BLOCK_PART
        if free is not None:  # on a GPU kept values stand in its memory, and blocks beside them
            room = min(room, free // 2)
        self.kept = Kept(self.flow, self.total, room - (self.block_bytes or 0))
        walked = [la.name for la in model.layers[1:] or model.layers if la.name in self.flow.chains]
        self.kept.choose(self.output.goal, reversed(walked))
        self.costs = Costs(self.flow, self.kept, self.output.goal)
        self.nothing = ChannelMask()
        self.bases: list[Base] = []
        self._ceilings: dict[tuple[str, object], torch.Tensor] = {}

    def _label_table(self) -> torch.Tensor:
        columns = [np.concatenate([i.labels for i in self.images.sets])]
        truth = self.split.poisoned.true_labels
        if truth is not None:
            columns.append(np.concatenate([self.split.clean.labels, truth]))
        return torch.from_numpy(np.stack(columns, axis=1))

    @torch.inference_mode()
    def start(self) -> None:
        """The unpruned net on every image: what is kept, anchors, what the BadNet says. Raises NotFinite."""
        self.logit_size = torch.zeros(self.total, device=self.model.device)
        classes = np.empty(self.total, np.int64)
        unsure = np.empty(self.total, bool)
        wins = torch.empty(self.labels.shape, dtype=torch.bool, device=self.model.device)
        doubt = torch.empty_like(wins)
        radius = torch.full(self.labels.shape, -1.0, device=self.model.device)
        margins = torch.empty(self.total, dtype=torch.float64, device=self.model.device)
        rooms = {n: self.kept.make(n, ()) for n in self.kept.nodes}
        hidden: list[torch.Tensor] = []
        for rows in self.images.slices(self.block_afresh):
            values = self._forward(rows, {*self.kept.nodes, self.output.goal})
            for node, room in rooms.items():
                if room is not None:
                    room[rows] = values[node]
            goal = values[self.output.goal]
            logits = self.output.logits(goal)
            self.logit_size[rows] = logits.abs().amax(dim=1)
            at = slice(rows.start, rows.stop)
            classes[at], unsure[at] = decided(logits, TIE)
            told = self.output.decide(goal, self.labels[rows], self.logit_size[rows], radii=True)
            check_finite(told.margin)
            wins[rows], doubt[rows], margins[rows] = told.wins, told.unsure, told.margin
            if told.radius is not None:
                radius[rows] = told.radius
                hidden.append(goal.float().clone())
        anchor = torch.cat(hidden) if hidden else torch.zeros((self.total, 0))
        for unclear, found in self._exactly(self.nothing, torch.from_numpy(unsure)):
            classes[unclear] = found
        self.settle(self.nothing, wins, doubt)
        outcome = Outcome(wins, margins[self.first_poisoned :])
        self.origin = outcome
        self.bases = [Base(self.nothing, outcome, anchor, radius, radius.amin(dim=1))]
        self.badnet_classes = classes[self.first_poisoned :]
        agrees = self.badnet_classes == self.split.targets
        self.agrees = torch.from_numpy(agrees).to(self.model.device)

    def afresh(self, mask: ChannelMask, rows: Rows) -> torch.Tensor:
        """``OutputLayer.goal`` in the net with ``mask``, by a whole forward pass."""
        with self.model.pruned(mask):
            return self._forward(rows, {self.output.goal})[self.output.goal]

    def _forward(self, rows: Rows, wanted: set[str]) -> dict[str, torch.Tensor]:
        """The values of wanted nodes by the graph as it stands, others let go of on the way."""
        values: dict[str, torch.Tensor] = {}
        left = {s.name: set(s.users) & self.flow.steps.keys() for s in self.flow.steps.values()}
        for step in self.flow.steps.values():
            here = step.name == self.flow.input
            with self.model.taking(self.split.clean.shape):
                values[step.name] = self.images.pixels(rows) if here else step.call(values)
            for name in step.inputs:
                left[name].discard(step.name)
                if not left[name] and name not in wanted:
                    del values[name]
        return values

    def forget(self) -> None:
        """After an interruption, kept values may be half changed: start over when asked again."""
        self.kept.values.clear()
        self.bases = []

    # Doubt ----------------------------------------------------------------------------------

    def _exactly(self, mask: ChannelMask, chosen: torch.Tensor) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, classes) of chosen images, (N,) bool, by the float64 network."""
        picked = chosen.cpu().numpy()
        for images, offset in zip(self.images.sets, (0, self.first_poisoned), strict=True):
            rows = np.flatnonzero(picked[offset : offset + len(images)])
            if len(rows):
                reply = self.exact.reply(images.keeping(rows), mask)
                yield rows + offset, reply.classes

    def settle(self, mask: ChannelMask, wins: torch.Tensor, doubt: torch.Tensor) -> None:
        """Correct ``wins`` where there is doubt; both (N, k)."""
        for rows, classes in self._exactly(mask, doubt.any(dim=1)):
            where = torch.from_numpy(rows).to(wins.device)
            found = torch.from_numpy(classes).to(wins.device)
            wins[where] = found[:, None] == self.labels[where]

    # Bases ----------------------------------------------------------------------------------

    def base_for(self, mask: ChannelMask, recent: Outcomes) -> Base:
        """The base to answer from. A mask that was asked before (``recent``, the latest last) and that
        lies one channel away was accepted, by all appearances: it becomes a base."""
        if not self.bases:
            self.start()
        nearest = min(self.bases, key=lambda b: apart(b.mask, mask))
        if apart(nearest.mask, mask) <= 1:
            return nearest
        for parent in self._parents(mask, recent):
            start = min(self.bases, key=lambda b: apart(b.mask, parent))
            # One step on, the base moves along; further away, a second one is set up.
            moves = apart(start.mask, parent) == 1 or len(self.bases) > 1
            return self._moved(start, parent, recent, moves)
        return nearest

    def _parents(self, mask: ChannelMask, recent: Outcomes) -> Iterator[ChannelMask]:
        for known in reversed(recent):
            one_less = known.keep_bias == mask.keep_bias and known.channels < mask.channels
            if one_less and len(known) == len(mask) - 1:
                yield known
        if len(mask) == 1:
            yield self.nothing

    def _moved(self, start: Base, mask: ChannelMask, recent: Outcomes, in_place: bool) -> Base:
        """A base with ``mask``, made from another one, which it replaces if ``in_place``."""
        outcome = recent[mask] if mask.channels else self.origin
        others = [b.mask for b in self.bases if not (in_place and b is start)]
        steps = self.flow.behind(layers_apart(start.mask, mask), self.output.goal)
        writes = self._writes(steps, start.mask, mask, others)
        base = Base(mask, outcome, start.anchor, start.radius, start.slack.clone())
        if not in_place:
            base.anchor, base.radius = base.anchor.clone(), base.radius.clone()
        changed = self.changed(start.mask, mask)
        if any(fresh for _, fresh in writes.values()):
            changed[:] = True
        for rows in self.images.chosen(changed, self.block(start.mask, mask)):
            run = self.run(start.mask, mask, rows)
            run.go(steps)
            if self.output.bounded:
                self._anchor(base, rows, run.new(self.output.goal))
            for node, (room, fresh) in writes.items():
                form = run.raw_forms[node] if self.flow.steps[node].chain else run.forms.get(node)
                if isinstance(form, Piece):
                    form = form.into(run.raw(node))
                if form is None and fresh:
                    form = run.raw(node)
                if form is not None:
                    room[rows] = form
            run.let_go()
        for node, (room, fresh) in writes.items():
            if not fresh:
                self.kept.values[node, self.flow.key(node, mask)] = room
        self.bases = [b for b in self.bases if not (in_place and b is start)] + [base]
        self._ceilings = {k: c for k, c in self._ceilings.items() if k in self.kept.values}
        self.kept.keep_only({(n, self.flow.key(n, b.mask)) for n in self.kept.nodes for b in self.bases})
        return base

    def _writes(
        self, steps: list[Step], start: ChannelMask, mask: ChannelMask, others: list[ChannelMask]
    ) -> dict[str, tuple[torch.Tensor, bool]]:
        """Where new values go, per kept node whose value changes: (tensor, whether it is new)."""
        writes = {}
        for step in steps:
            node = step.name
            key, old = self.flow.key(node, mask), self.flow.key(node, start)
            if node not in self.kept.nodes or key == old or self.kept.get(node, key) is not None:
                continue
            room = self.kept.get(node, old)
            shared = any(self.flow.key(node, other) == old for other in others)
            if room is None or shared:
                room = self.kept.make(node, key)
                if room is not None:
                    writes[node] = (room, True)
            else:
                writes[node] = (room, False)
        return writes

    def _anchor(self, base: Base, rows: Rows, hidden: torch.Tensor) -> None:
        """Anchor anew the images that have moved far from where they were decided."""
        moved = distance(hidden, base.anchor[rows])
        radius = base.radius[rows].amin(dim=1)
        far = (moved >= 0.5 * radius).nonzero().flatten()
        if len(far):
            where = far + rows.start if isinstance(rows, slice) else rows[far]
            told = self.output.decide(hidden[far], self.labels[where], self.logit_size[where], True)
            assert told.radius is not None
            base.anchor[where], base.radius[where] = hidden[far], told.radius
            moved[far] = 0.0
        base.slack[rows] = base.radius[rows].amin(dim=1) - moved

    def _serves(self, layers: set[str], base: ChannelMask) -> bool:
        """Whether the layers' channels can be had from what is kept of a base."""
        return all(
            any(self.kept.get(n, self.flow.key(n, base)) is not None for n in chain.nodes)
            for chain in (self.flow.chains[layer] for layer in layers)
        )

    def block(self, base: ChannelMask, mask: ChannelMask) -> int:
        """How many images to take at a time: fewer, where much has to be computed again."""
        most = BLOCK if self._serves(layers_apart(base, mask), base) else FIRST_BLOCK
        return self._within(most, self.costs.held(base, mask))

    @property
    def block_afresh(self) -> int:
        """The same for whole forward passes."""
        return self._within(FIRST_BLOCK, self.costs.held_afresh)

    def _within(self, most: int, image: int) -> int:
        """So many images of ``image`` bytes of values each as the memory for a block bears. A GPU's
        blocks have their own measure (``times_a_block``)."""
        if self.block_bytes is None:
            return most
        return max(min(most, LEAST_BLOCK), min(most, self.block_bytes // max(1, image)))

    def changed(self, base: ChannelMask, mask: ChannelMask) -> torch.Tensor:
        """(N,) bool, on the CPU: images in which the channels that two masks differ in change
        anything at all. All, where to find out would cost as much as the answer."""
        changed = torch.ones(self.total, dtype=torch.bool)
        layers = layers_apart(base, mask)
        if len(layers) != 1 or not self._serves(layers, base):
            return changed
        chain = self.flow.chains[next(iter(layers))]
        channels = sorted(c.index for c in channels_apart(base, mask))
        parts = []
        held = len(channels) * sum(map(self.flow.size, chain.nodes)) // chain.layer.channels
        for rows in self.images.slices(self._within(8 * BLOCK, 2 * held)):
            piece = self.run(base, mask, rows).changed_piece(chain, channels)
            parts.append((piece.new != piece.old).flatten(1).any(dim=1))
        return torch.cat(parts).cpu()

    def run(self, base: ChannelMask, mask: ChannelMask, rows: Rows) -> Run:
        return Run(self.flow, self.kept, base, mask, rows, lambda: self.images.pixels(rows))

    def ceiling(self, node: str, mask: ChannelMask) -> torch.Tensor | None:
        """(C,) largest raw value of each channel of a kept convolution over all images."""
        key = (node, self.flow.key(node, mask))
        kept = self.kept.values.get(key)
        if kept is None or kept.ndim != 4:
            return None
        if key not in self._ceilings:
            parts = [kept[rows].amax(dim=0).amax(dim=(1, 2)) for rows in self.images.slices(8 * BLOCK)]
            self._ceilings[key] = torch.stack(parts).amax(dim=0)
        return self._ceilings[key]
