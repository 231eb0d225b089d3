"""What an answer costs, reckoned beforehand: multiplications, and bytes that stand in memory meanwhile.

Both only choose between ways to the same counts: afresh or by differences, how many images at a time.
"""

from __future__ import annotations

from collections import Counter

from torch import nn

from prune_core.incremental.activation_cache import Kept
from prune_core.incremental.channel_delta import conv_of
from prune_core.incremental.dataflow import Dataflow, Step, mixes
from prune_core.incremental.propagate import WHOLE_SHARE
from prune_core.masks import ChannelMask, channels_apart

# By differences a multiplication takes so much longer: measured on a ResNet-18, 1.15 times (fourth layer) to
# 1.5 times (first) where nearly all of the network lies behind the channel.
DIFFERENCES = 1.25


class Costs:
    """Of one network; multiplications and bytes are for one image."""

    def __init__(self, flow: Dataflow, kept: Kept, goal: str) -> None:
        self.flow, self.kept, self.goal = flow, kept, goal
        self.work = {step.name: _work(flow, step) for step in flow.steps.values()}
        self.whole = sum(self.work[name] for name in flow.order[: flow.place[goal] + 1])
        self._fed = {layer: frozenset(flow.outputs_fed(layer)) for layer in flow.chains}
        self._known: dict[tuple[tuple[str, int], ...], tuple[float, int]] = {}

    def of(self, base: ChannelMask, mask: ChannelMask) -> float:
        """Multiplications of telling ``mask`` by its differences from ``base``."""
        return self._both(base, mask)[0] * DIFFERENCES

    def held(self, base: ChannelMask, mask: ChannelMask) -> int:
        """Bytes of an image's values while ``mask`` is told from ``base``."""
        return self._both(base, mask)[1]

    @property
    def held_afresh(self) -> int:
        """Bytes of an image's values in a forward pass that lets go of what is used up: about what goes into
        and comes out of a residual block."""
        return 4 * max((self.flow.size(step) for step in self.flow.steps), default=0)

    def _both(self, base: ChannelMask, mask: ChannelMask) -> tuple[float, int]:
        touched = Counter(channel.layer for channel in channels_apart(base, mask))
        key = tuple(sorted(touched.items()))
        if key not in self._known:
            self._known[key] = self._reckoned(touched)
        return self._known[key]

    def _reckoned(self, touched: Counter[str]) -> tuple[float, int]:
        work, held, wanted = 0.0, 0, [] if touched else [self.goal]
        for step in self.flow.behind(touched, self.goal):
            held += 2 * self.flow.size(step.name)
            feeders = touched.keys() & step.upstream
            if not feeders:  # in the layer's own chain: a few channels of it
                wanted += self._own(step)
                continue
            apart = sum(touched[layer] for layer in feeders)
            share = min(1.0, apart / max(1, self._inputs(step)))
            direct = all(step.name in self._fed[layer] for layer in feeders)
            if direct and share <= WHOLE_SHARE and step.name in self.kept.nodes:
                work += share * self.work[step.name]
            else:
                work += self.work[step.name]
                wanted += [name for name in step.inputs if direct]  # whole, with the new channels in
        again = self._from_kept(wanted)
        return work + sum(self.work[n] for n in again), held + 2 * sum(map(self.flow.size, again))

    def _own(self, step: Step) -> list[str]:
        """What is wanted whole for channels of a layer that are at hand nowhere in its chain."""
        chain = self.flow.chains[str(step.chain)]
        served = step.name != chain.start or any(node in self.kept.nodes for node in chain.nodes)
        return [] if served else list(step.inputs)

    def _from_kept(self, nodes: list[str]) -> set[str]:
        """What has to be computed for the values of ``nodes``, as far as it is not kept."""
        stack, found = list(nodes), set[str]()
        while stack:
            node = stack.pop()
            if node not in found and node not in self.kept.nodes:
                found.add(node)
                stack += self.flow.steps[node].inputs
        return found

    def _inputs(self, step: Step) -> int:
        conv = None if step.module is None else conv_of(step.module)
        if conv is not None:
            return conv.in_channels
        return step.module.in_features if isinstance(step.module, nn.Linear) else 1


def _work(flow: Dataflow, step: Step) -> float:
    """Multiplications of a step that mixes channels; others count as none."""
    if step.module is None or step.shape is None or not mixes(step.module):
        return 0.0
    conv = conv_of(step.module)
    if conv is not None:
        return float(conv.weight.numel() * step.shape[1:].numel())
    weight = getattr(step.module, "weight", None)
    if weight is None:
        weight = next((flow.constants[n] for n in step.operands if n in flow.constants), None)
    return 0.0 if weight is None else float(weight.numel() * step.shape[:-1].numel())
