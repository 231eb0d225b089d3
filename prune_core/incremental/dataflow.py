"""The fx graph of a prunable network, seen from its channels: who feeds whom, what lies behind a
layer, and how far a channel stays a channel."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from prune_core.incremental.channel_delta import ChannelAct, Moves, conv_of, through
from prune_core.masks import Channel, ChannelMask
from prune_core.model.model import ConvLayer, PrunableModel

Values = Mapping[str, Any]


@dataclass
class Step:
    """One node of the graph.

    Attributes:
        inputs: names of the nodes that feed it and depend on the images, without repeats.
        operands: names of all its arguments in turn, constants too; empty if not all are nodes.
        call: from the values of nodes (by name) to this node's value.
        module: its module, if it is one.
        shape: of its value for one image, without the batch; None when that is no such tensor.
        upstream: layers on whose masks the value depends.
        chain: the layer whose unpruned channels this node carries, if it does.
    """

    name: str
    inputs: tuple[str, ...]
    call: Callable[[Values], Any]
    module: nn.Module | None
    users: tuple[str, ...]
    operands: tuple[str, ...] = ()
    shape: torch.Size | None = None
    upstream: frozenset[str] = frozenset()
    chain: str | None = None


@dataclass
class Chain:
    """A convolution and the operators behind it up to which its channels stay apart and have no
    other user: what a mask does to the layer is the same at the end of it as at its start.

    Attributes:
        nodes: names, from the convolution to the end.
        acts: how each node but the first acts on part of the channels.
        axes: the axis of the channels, at each node.
        pruned: per ``keep_bias`` and node, (1, ...) what every channel would be if it were pruned.
    """

    layer: ConvLayer
    nodes: list[str]
    acts: list[ChannelAct]
    axes: list[int]
    pruned: dict[bool, list[torch.Tensor]] = field(default_factory=dict)

    @property
    def start(self) -> str:
        return self.nodes[0]

    @property
    def end(self) -> str:
        return self.nodes[-1]


class Dataflow:
    """The steps of a network in order, from ``input`` to ``final`` (the logits).

    Values of steps that do not depend on the images are in ``constants``. A value with the layer's
    own mask left out is called *raw*: so stored, it serves masks that differ in that layer.
    """

    def __init__(self, model: PrunableModel, shape: tuple[int, int, int]) -> None:
        self.model = model
        self.steps: dict[str, Step] = {}
        self.constants: dict[str, Any] = {}
        self.chains: dict[str, Chain] = {}
        self._moves: dict[str, Moves | None] = {}
        self._read()
        black = torch.zeros((2, *shape), device=model.device)
        sample = self._trace(model.arranged(black))
        for layer in model.layers:
            if layer.node in self._by_target:
                self._add_chain(layer, sample)
        self._find_upstream()
        self.order = list(self.steps)
        self.place = {name: i for i, name in enumerate(self.order)}

    def _read(self) -> None:
        graph = self.model.graph
        self._by_target: dict[str, str] = {}
        for node in graph.graph.nodes:
            if node.op == "output":
                self.final = str(node.args[0])
            elif node.op == "placeholder":
                self.input = node.name
                self.steps[node.name] = Step(node.name, (), lambda values: None, None, _users(node))
            elif node.op == "get_attr":
                self.constants[node.name] = operator.attrgetter(str(node.target))(graph)
            else:
                self._add_step(node)

    def _add_step(self, node: fx.Node) -> None:
        graph = self.model.graph
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        target = module if module is not None else node.target
        constants = self.constants

        def call(values: Values) -> Any:
            def look(n: fx.Node) -> Any:
                return constants[n.name] if n.name in constants else values[n.name]

            args, kwargs = fx.map_arg(node.args, look), fx.map_arg(node.kwargs, look)
            if node.op == "call_method":
                return getattr(args[0], str(target))(*args[1:], **kwargs)
            return target(*args, **kwargs)  # type: ignore[operator]

        inputs = tuple(n.name for n in node.all_input_nodes if n.name not in constants)
        if not inputs:
            constants[node.name] = call({})
            return
        if module is not None:
            self._by_target[str(node.target)] = node.name
        operands = tuple(a.name for a in node.args if isinstance(a, fx.Node))
        if len(operands) < len(node.args) or node.kwargs:
            operands = ()
        self.steps[node.name] = Step(node.name, inputs, call, module, _users(node), operands)

    @torch.inference_mode()
    def _trace(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        values: dict[str, Any] = {self.input: images}
        for step in self.steps.values():
            value = values[step.name] = images if step.name == self.input else step.call(values)
            if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 2:
                step.shape = value.shape[1:]
        return values

    @torch.inference_mode()
    def _add_chain(self, layer: ConvLayer, sample: Values) -> None:
        name = self._by_target[layer.node]
        chain = Chain(layer, [name], [], [1])
        if len(self.steps[name].inputs) == 1:
            while (found := self._next_in_chain(chain)) is not None:
                following, act, axis = found
                chain.nodes.append(following)
                chain.acts.append(act)
                chain.axes.append(axis)
        for node in chain.nodes:
            self.steps[node].chain = layer.name
        for keep_bias in (False, True):
            chain.pruned[keep_bias] = self._pruned_values(chain, sample[name][:1], keep_bias)
        self.chains[layer.name] = chain

    def _next_in_chain(self, chain: Chain) -> tuple[str, ChannelAct, int] | None:
        step = self.steps[chain.end]
        if len(step.users) != 1 or step.users[0] not in self.steps or step.shape is None:
            return None
        user = self.steps[step.users[0]]
        if user.module is None or user.inputs != (step.name,) or conv_of(user.module) is not None:
            return None
        found = through(user.module, len(step.shape) + 1, chain.axes[-1])
        return None if found is None or user.shape is None else (user.name, *found)

    def _pruned_values(self, chain: Chain, output: torch.Tensor, keep_bias: bool) -> list[torch.Tensor]:
        bias = self.model.conv(chain.layer).bias
        value = torch.zeros_like(output)
        if keep_bias and bias is not None:
            value += bias.reshape(1, -1, 1, 1)
        values = [value]
        every = torch.arange(value.shape[1], device=value.device)
        for node, act in zip(chain.nodes[1:], chain.acts, strict=True):
            value = act(value, every)
            module = self.steps[node].module
            # As PrunableModel.pruned has it: scale and shift of the batch norm go as well.
            norm = chain.layer.batch_norm
            if not keep_bias and norm and module is self.model.graph.get_submodule(norm):
                value = torch.zeros_like(value)
            values.append(value)
        return values

    def _find_upstream(self) -> None:
        for step in self.steps.values():
            found: set[str] = set()
            for name in step.inputs:
                found |= self.steps[name].upstream
                chain = self.steps[name].chain
                if chain is not None and self.chains[chain].end == name:
                    found.add(chain)
            step.upstream = frozenset(found)

    def behind(self, layers: Iterable[str], goal: str) -> list[Step]:
        """The steps up to ``goal`` that a change of those layers' masks can touch, in order."""
        touched = set(layers)
        before = list(self.steps.values())[: self.place[goal] + 1]
        return [s for s in before if touched & s.upstream or s.chain in touched]

    def key(self, node: str, mask: ChannelMask) -> frozenset[Channel] | tuple[object, ...]:
        """What of a mask the raw value of a node depends on."""
        upstream = self.steps[node].upstream
        channels = frozenset(c for c in mask.channels if c.layer in upstream)
        return (channels, mask.keep_bias) if channels else ()

    def masked(self, chain: Chain, raw: torch.Tensor, channels: list[int], keep_bias: bool) -> torch.Tensor:
        """The value at a chain's end with the layer's ``channels`` pruned."""
        if not channels:
            return raw
        index = torch.tensor(channels, device=raw.device)
        pruned = chain.pruned[keep_bias][-1].index_select(chain.axes[-1], index)
        shape = list(raw.shape)
        shape[chain.axes[-1]] = len(channels)
        return raw.index_copy(chain.axes[-1], index, pruned.expand(shape))

    def moves(self, step: Step) -> Moves | None:
        """How a step moves numbers, if that is all it does."""
        if step.name not in self._moves:
            (source,) = step.inputs
            shape = self.steps[source].shape
            found = None
            if shape is not None:
                found = Moves.of(lambda places: step.call({source: places}), shape)
            self._moves[step.name] = found
        return self._moves[step.name]

    def size(self, node: str) -> int:
        """Bytes of a node's value for one image, float32."""
        shape = self.steps[node].shape
        return 0 if shape is None else 4 * shape.numel()

    def outputs_fed(self, layer: str) -> list[str]:
        """The mixing nodes that the layer's channels reach before any other mixing node."""
        found: list[str] = []
        reached = {self.chains[layer].end}
        for step in self.steps.values():
            if reached & set(step.inputs):
                if step.module is not None and mixes(step.module):
                    found.append(step.name)
                else:
                    reached.add(step.name)
        return found


def mixes(module: nn.Module) -> bool:
    """Linear in its input and mixing channels: answered by weight times difference."""
    conv = conv_of(module)
    if conv is not None:
        return conv.groups == 1
    return isinstance(module, nn.Linear) or type(module).__name__ == "OnnxMatMul"


def _users(node: fx.Node) -> tuple[str, ...]:
    return tuple(user.name for user in node.users)


def paths(model: PrunableModel, shape: tuple[int, int, int]) -> dict[str, str]:
    """How a change of one channel travels, per layer: for people, and for tests.

    For example ``{"conv_4": "one channel to node_12, then its part of node_14"}``; a layer whose
    channels meet an operator that is not known by its channels recomputes what lies behind it.
    """
    flow = Dataflow(model, shape)
    told = {}
    for layer in model.layers:
        if layer.name not in flow.chains:
            told[layer.name] = "recomputed whole"
            continue
        fed = flow.outputs_fed(layer.name)
        then = f"then its part of {', '.join(fed)}" if fed else "then what lies behind, whole"
        told[layer.name] = f"one channel to {flow.chains[layer.name].end}, {then}"
    return told
