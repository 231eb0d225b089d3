"""A physically smaller GoodNet: pruned channels are taken out of the network, not only zeroed.

Works on the ONNX form and on what its weights say: a channel whose kernel is zero is a constant,
the constant moves into the bias of whatever takes it, and the channel goes, through forks, sums,
concatenations, flattening and batch norms. Where that would change what the network computes (a
constant that meets zero padding, a sum with a channel that is in use) it stays, and is reported.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from prune_core.compaction.flow import Flow, Rewriter, Unclear, name_of, read_flow
from prune_core.compaction.operators import HANDLERS
from prune_core.errors import InputError

KEPT_KEY = "goodnet.kept_channels"
# What may stand between a Shape node and the Reshape that it serves.
_SHAPE_MATHS = ("Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Cast", "Mul", "Identity")


@dataclass(frozen=True)
class Compacted:
    """A smaller network and what became of its channels.

    Attributes:
        proto: the network, without the channels that went; ``metadata_props`` name those left.
        removed: per convolution with a loss, the channels that went, as counted before.
        held_back: per convolution, channel -> why it is still there though it is a constant.
    """

    proto: onnx.ModelProto
    removed: dict[str, list[int]]
    held_back: dict[str, dict[int, str]]

    @property
    def channels_removed(self) -> int:
        return sum(map(len, self.removed.values()))


def compact(proto: onnx.ModelProto, shape: Sequence[int]) -> Compacted:
    """Take out every channel that the network can do without.

    Args:
        proto: a valid ONNX model with one input, images; it is not changed.
        shape: of one image, as the input has it (without the batch).

    Returns:
        A model with the same input and output, and the same result but for rounding. It may be as
        large as before, when nothing could go.

    Raises:
        InputError: the input does not take such images.
    """
    flow = _analysed(proto, shape)
    gone = flow.removed()
    small = onnx.ModelProto()
    small.CopyFrom(proto)
    writer = Rewriter(flow, gone, small.graph)
    for edit in flow.edits:
        edit(writer)
    _tidy(small)
    removed, held_back, left = _channels(flow, gone)
    kept = {entry.key: entry.value for entry in small.metadata_props}
    onnx.helper.set_model_props(small, kept | {KEPT_KEY: json.dumps(left)})
    return Compacted(small, removed, held_back)


def _analysed(proto: onnx.ModelProto, shape: Sequence[int]) -> Flow:
    try:
        flow = read_flow(proto, shape)
    except (ValueError, IndexError, RuntimeError) as error:
        text = " ".join(str(error).split())[:200]
        raise InputError(f"the network does not accept images of {tuple(shape)}: {text}") from None
    for number, node in enumerate(proto.graph.node):
        if node.op_type in ("Constant", "Shape") or all(v in flow.constants for v in node.output):
            continue
        try:
            if node.op_type not in HANDLERS:
                raise Unclear(f"{name_of(node)}: what {node.op_type} does to channels is not known")
            HANDLERS[node.op_type](flow, number, node)
        except Unclear as reason:
            for value in node.input:
                if value in flow.features:
                    flow.keep(flow.features[value].ids, str(reason))
    for output in proto.graph.output:
        if output.name in flow.features:
            flow.keep(flow.features[output.name].ids, "it is a class")
    _keep_what_shapes_need(flow)
    return flow


def _keep_what_shapes_need(flow: Flow) -> None:
    """A value whose Shape is asked for may lose channels only where the answer ends in a Reshape
    that gets a new target anyway."""
    nodes = flow.proto.graph.node
    for asker in nodes:
        if asker.op_type != "Shape" or asker.input[0] not in flow.features:
            continue
        found, fine = {asker.output[0]}, True
        for number, node in enumerate(nodes):
            if not found & set(node.input):
                continue
            if node.op_type in _SHAPE_MATHS:
                found |= set(node.output)
            elif node.op_type != "Reshape" or node.input[0] in found or number not in flow.reshapes:
                fine = False
        if not fine or found & {o.name for o in flow.proto.graph.output}:
            ids = flow.features[asker.input[0]].ids
            flow.keep(ids, f"{name_of(asker)} asks for the number of channels")


def _channels(
    flow: Flow, gone: dict[str, np.ndarray]
) -> tuple[dict[str, list[int]], dict[str, dict[int, str]], dict[str, list[int]]]:
    """Of every convolution: channels that went; constants that stayed and why; those left."""
    removed, held_back, left = {}, {}, {}
    reasons = flow.reasons()
    for node in flow.proto.graph.node:
        features = flow.features.get(node.output[0])
        if node.op_type != "Conv" or features is None:
            continue
        flags, name = gone[node.output[0]], name_of(node)
        left[name] = np.flatnonzero(~flags).tolist()
        if flags.any():
            removed[name] = np.flatnonzero(flags).tolist()
        stuck = np.flatnonzero(~flags & ~np.isnan(features.known)).tolist()
        if stuck:
            roots = [flow.root(features.base + channel) for channel in stuck]
            held_back[name] = {c: reasons.get(r, "it is used") for c, r in zip(stuck, roots, strict=True)}
    return removed, held_back, left


def _tidy(model: onnx.ModelProto) -> None:
    """Drop nodes and constants that nothing uses, put nodes in order, forget stale shapes."""
    graph = model.graph
    outputs = {output.name for output in graph.output}
    nodes = list(graph.node)
    while True:
        used = outputs | {value for node in nodes for value in node.input}
        kept = [node for node in nodes if used & set(node.output)]
        if len(kept) == len(nodes):
            break
        nodes = kept
    ready = {t.name for t in graph.initializer} | {i.name for i in graph.input} | {""}
    ordered: list[onnx.NodeProto] = []
    while nodes:
        now = next(n for n in nodes if ready.issuperset(n.input))
        nodes.remove(now)
        ready |= set(now.output)
        copy = onnx.NodeProto()
        copy.CopyFrom(now)
        ordered.append(copy)
    tensors = [t for t in graph.initializer if t.name in used]
    constants = {t.name for t in graph.initializer}
    inputs = [i for i in graph.input if i.name not in constants]
    for repeated, values in ((graph.node, ordered), (graph.initializer, tensors), (graph.input, inputs)):
        fresh = [type(v).FromString(v.SerializeToString()) for v in values]
        del repeated[:]
        repeated.extend(fresh)
    del graph.value_info[:]
    model.ir_version = max(model.ir_version, 4)  # before, constants had to stand among the inputs
