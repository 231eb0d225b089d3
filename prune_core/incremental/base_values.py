"""Values of a network under the mask whose activations are kept, made when wanted."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from prune_core.incremental.activation_cache import Kept
from prune_core.incremental.channel_delta import conv_of, convolved, through
from prune_core.incremental.dataflow import Chain, Dataflow, Step
from prune_core.masks import ChannelMask

Rows = slice | torch.Tensor


class BaseValues:
    """One block of images under ``base``: from what is kept, else computed from the nearest kept
    values, if need be from the pixels. The model's weights are only read: masks are laid over
    the values at the ends of chains."""

    def __init__(
        self,
        flow: Dataflow,
        kept: Kept,
        base: ChannelMask,
        rows: Rows,
        pixels: Callable[[], torch.Tensor],
    ) -> None:
        """``rows``: a slice, or (n,) indices; ``pixels``: their images as the graph wants them."""
        self.flow, self.kept, self.base = flow, kept, base
        self.rows, self.pixels = rows, pixels
        self._raw: dict[str, torch.Tensor] = {}
        self._old: dict[str, torch.Tensor] = {}

    @property
    def count(self) -> int:
        if isinstance(self.rows, slice):
            return int(self.rows.stop - self.rows.start)
        return len(self.rows)

    def old(self, name: str) -> torch.Tensor:
        chain = self._chain_ending(name)
        if chain is None:
            return self.raw(name)
        if name not in self._old:
            pruned = pruned_in(chain, self.base)
            self._old[name] = self.flow.masked(chain, self.raw(name), pruned, self.base.keep_bias)
        return self._old[name]

    def raw(self, name: str) -> torch.Tensor:
        """``old``, with the mask of the layer whose chain the node is on left out."""
        if name in self._raw:
            return self._raw[name]
        missing, stack, seen = [], [name], set()
        while stack:
            node = stack.pop()
            if node in self._raw or node in seen:
                continue
            seen.add(node)
            kept = self._kept(node)
            if kept is not None:
                self._raw[node] = kept[self.rows]
            else:
                missing.append(node)
                stack.extend(self.flow.steps[node].inputs)
        for node in sorted(missing, key=self.flow.place.__getitem__):
            step = self.flow.steps[node]
            if node == self.flow.input:
                self._raw[node] = self.pixels()
            else:
                self._raw[node] = step.call({i: self.old(i) for i in step.inputs})
        return self._raw[name]

    def old_part(self, name: str, axis: int, index: torch.Tensor) -> torch.Tensor:
        """``old`` at some indices of an axis, without making the whole where that can be."""
        chain = self._chain_ending(name)
        if name in self._old or (chain is None and name in self._raw):
            return self.old(name).index_select(axis, index)
        if chain is not None and axis == chain.axes[-1]:
            return self._channels(chain, index, self.base)
        step = self.flow.steps[name]
        kept = self._kept(name)
        if chain is None and kept is not None:
            return _part(kept, self.rows, axis, index)
        if step.module is not None and len(step.inputs) == 1 and len(step.operands) == 1:
            shape = self.flow.steps[step.inputs[0]].shape
            ndim = 0 if shape is None else len(shape) + 1
            for before in range(1, ndim):
                found = through(step.module, ndim, before)
                if found is not None and found[1] == axis:
                    return found[0](self.old_part(step.inputs[0], before, index), index)
        if self._adds(step) and len(step.inputs) == 2:
            return step.call({i: self.old_part(i, axis, index) for i in step.inputs})
        return self.old(name).index_select(axis, index)

    def _kept(self, name: str) -> torch.Tensor | None:
        return self.kept.get(name, self.flow.key(name, self.base))

    def _at_hand(self, name: str) -> bool:
        return name in self._raw or self._kept(name) is not None

    def _chain_ending(self, name: str) -> Chain | None:
        layer = self.flow.steps[name].chain
        chain = None if layer is None else self.flow.chains[layer]
        return chain if chain is not None and chain.end == name else None

    def _channels(self, chain: Chain, index: torch.Tensor, mask: ChannelMask) -> torch.Tensor:
        """Values at a chain's end with ``mask`` on the layer and its input the base's."""
        pruned, keep_bias = set(pruned_in(chain, mask)), mask.keep_bias
        if not pruned:  # nothing to read back from a GPU, which would wait for it
            return self._raw_channels(chain, index)
        gone = torch.tensor([c in pruned for c in index.tolist()], device=index.device)
        axis = chain.axes[-1]
        if not gone.any():
            return self._raw_channels(chain, index)
        constant = chain.pruned[keep_bias][-1].index_select(axis, index)
        if gone.all():
            return constant.expand(self.count, *constant.shape[1:])
        values = constant.repeat(self.count, *(1 for _ in constant.shape[1:]))
        alive = (~gone).nonzero().flatten()
        return values.index_copy_(axis, alive, self._raw_channels(chain, index[alive]))

    def _raw_channels(self, chain: Chain, index: torch.Tensor) -> torch.Tensor:
        """Unpruned channels at a chain's end, from the last node of it that is at hand."""
        at = len(chain.nodes) - 1
        while at > 0 and chain.nodes[at] not in self._raw and self._kept(chain.nodes[at]) is None:
            at -= 1
        node, axis = chain.nodes[at], chain.axes[at]
        kept = self._kept(node)
        step = self.flow.steps[node]
        if node in self._raw:
            values = self._raw[node].index_select(axis, index)
        elif kept is not None:
            values = _part(kept, self.rows, axis, index)
        elif step.module is not None and _ungrouped(step.module):
            values = convolved(step.module, self.old(step.inputs[0]), None, index, bias=True)
        else:
            values = self.raw(node).index_select(axis, index)
        for act in chain.acts[at:]:
            values = act(values, index)
        return values

    def _adds(self, step: Step) -> bool:
        """Whether a step combines two values number by number."""
        name = type(step.module).__name__
        return (
            name == "OnnxBinaryMathOperation"
            and len(step.operands) == 2
            and not getattr(step.module, "broadcast", None)
        )


def _ungrouped(module: nn.Module) -> bool:
    conv = conv_of(module)
    return conv is not None and conv.groups == 1


def _part(kept: torch.Tensor, rows: Rows, axis: int, index: torch.Tensor) -> torch.Tensor:
    """Some images and some indices of an axis, copying no more than those."""
    if isinstance(rows, slice):
        return kept[rows].index_select(axis, index)
    if len(index) == 1:
        return kept.select(axis, int(index)).index_select(0, rows).unsqueeze(axis)
    if axis == 1:
        return kept[rows[:, None], index]
    return kept.index_select(0, rows).index_select(axis, index)


def pruned_in(chain: Chain, mask: ChannelMask) -> list[int]:
    """The channels of a chain's layer that a mask prunes, sorted."""
    return sorted(c.index for c in mask.channels if c.layer == chain.layer.name)
