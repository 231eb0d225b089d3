"""Operators that mix channels: convolutions and dense layers. Constants among what they take go into
their bias; their own outputs are new channels. See ``channel_ops``."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx

from prune_core.compaction.flow import Features, Flow, Rewriter, Unclear, constant, fields, name_of


def conv(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given, weight = flow.features.get(node.input[0]), constant(flow, node, 1)
    if weight is None or weight.ndim != 4 or (given is not None and given.axis != 1):
        raise Unclear(f"{name_of(node)} is not a 2-d convolution over channels")
    bias, info = constant(flow, node, 2), fields(node)
    shift = np.zeros(len(weight)) if bias is None else bias.astype(np.float64)
    padded = any(info.get("pads", ())) or b"SAME" in info.get("auto_pad", b"")
    groups = info.get("group", 1)
    if groups == 1:
        if given is not None and given.size != weight.shape[1]:
            raise Unclear(f"{name_of(node)} takes {weight.shape[1]} channels and gets {given.size}")
        _mixing(flow, number, node, given, weight, shift, padded, bias is not None)
    elif given is not None and groups == given.size and weight.shape[1] == 1:
        _depthwise(flow, number, node, given, weight, shift, padded)
    else:
        made = flow.fresh(node.output[0], 1, np.full(len(weight), np.nan))
        flow.keep(made.ids, f"{name_of(node)} is a grouped convolution, whose groups stay equal in size")
        raise Unclear(f"{name_of(node)} is a grouped convolution, whose groups stay equal in size")


def _constants(
    given: Features, trusted: np.ndarray, sums: np.ndarray, used: np.ndarray, shift: np.ndarray
) -> np.ndarray:
    """(out,): what an output channel is where all that it takes is constant and ``trusted`` (in,), else
    NaN. ``sums`` (out, in): what a constant of 1 gives; ``used`` (out, in): whether it is taken."""
    fits = ~np.isnan(given.known) & trusted
    plain = np.where(fits, given.known, 0.0)
    known: np.ndarray = np.where((used & ~fits).any(axis=1), np.nan, shift + sums @ plain)
    return known


def _mixing(
    flow: Flow,
    number: int,
    node: onnx.NodeProto,
    given: Features | None,
    weight: np.ndarray,
    shift: np.ndarray,
    padded: bool,
    has_bias: bool,
) -> None:
    sums = weight.astype(np.float64).sum(axis=(2, 3))  # (out, in): what a constant of 1 gives
    used: np.ndarray = (weight != 0).any(axis=(2, 3))
    if given is None:
        known = np.where(used.any(axis=1), np.nan, shift)
    else:
        known = _constants(given, (given.known == 0) | (not padded), sums, used, shift)
        flow.absorb(given, weight, padded, name_of(node))
    flow.fresh(node.output[0], 1, known)
    x, y = node.input[0], node.output[0]

    def edit(to: Rewriter) -> None:
        if not to.touched(x, y):
            return
        rows = to.left(y)
        smaller, moved = weight[rows], shift[rows]
        if given is not None:
            lost = to.lost(x)
            moved = moved + sums[np.ix_(rows, lost)] @ np.nan_to_num(given.known[lost])
            smaller = smaller[:, to.left(x)]
        to.set_input(number, 1, smaller)
        if has_bias or moved.any():
            to.set_input(number, 2, moved.astype(weight.dtype))

    flow.edits.append(edit)


def _depthwise(
    flow: Flow,
    number: int,
    node: onnx.NodeProto,
    given: Features,
    weight: np.ndarray,
    shift: np.ndarray,
    padded: bool,
) -> None:
    times = len(weight) // given.size
    source = np.arange(len(weight)) // times
    value = given.known[source]
    sums = weight.astype(np.float64).sum(axis=(1, 2, 3))
    known = np.where((value == 0) | (not padded), value * sums + shift, np.nan)
    known = np.where(weight.any(axis=(1, 2, 3)), known, shift)
    made = flow.fresh(node.output[0], 1, known)
    flow.join(made.ids, given.ids[source])
    edges = ~np.isnan(value) & np.isnan(known)
    flow.note(made.ids[edges], f"{name_of(node)} pads its input, so a constant channel differs at the border")
    x, y = node.input[0], node.output[0]

    def edit(to: Rewriter) -> None:
        if not to.touched(x, y):
            return
        to.set_input(number, 1, weight[to.left(y)])
        if len(node.input) > 2 and node.input[2]:
            to.set_input(number, 2, shift[to.left(y)].astype(weight.dtype))
        group = next(a for a in to.graph.node[number].attribute if a.name == "group")
        group.i = len(to.left(x))

    flow.edits.append(edit)


def gemm(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    info, weight, bias = fields(node), constant(flow, node, 1), constant(flow, node, 2)
    if info.get("transA", 0) or weight is None or weight.ndim != 2:
        raise Unclear(f"{name_of(node)} is not a dense layer")
    transposed = bool(info.get("transB", 0))
    rows = (weight if transposed else weight.T).astype(np.float64) * info.get("alpha", 1.0)
    if bias is not None and (
        bias.ndim > 2 or bias.size not in (1, len(rows)) or (bias.ndim == 2 and len(bias) > 1)
    ):
        raise Unclear(f"{name_of(node)} has a bias of shape {bias.shape}, not one number for each output")
    beta = info.get("beta", 1.0)
    shift = np.zeros(len(rows)) if bias is None else np.broadcast_to(bias, (1, len(rows)))[0] * beta
    axis = 1

    def put(to: Rewriter, smaller: np.ndarray, moved: np.ndarray, changed: bool) -> None:
        smaller = smaller / info.get("alpha", 1.0)
        to.set_input(number, 1, (smaller if transposed else smaller.T).astype(weight.dtype))
        if bias is not None or changed:
            to.set_input(number, 2, (moved / (beta or 1.0)).astype(weight.dtype))

    if beta == 0.0 and bias is not None:
        raise Unclear(f"{name_of(node)} multiplies its bias by 0")
    _dense(flow, node, rows, shift, axis, put)


def matmul(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    weight, shape = constant(flow, node, 1), flow.shapes.get(node.input[0])
    if weight is None or weight.ndim != 2 or shape is None:
        raise Unclear(f"{name_of(node)} is not a dense layer")

    def put(to: Rewriter, smaller: np.ndarray, moved: np.ndarray, changed: bool) -> None:
        to.set_input(number, 1, smaller.T.astype(weight.dtype))
        if changed:  # what constants leave needs a node of its own here
            product = to.graph.node[number]
            inner = f"{product.output[0]}_before_constants"
            added = to.graph.node.add()  # put in order at the end
            added.CopyFrom(
                onnx.helper.make_node("Add", [inner, ""], [product.output[0]], f"{product.name}/constants")
            )
            product.output[0] = inner
            to.set_input(len(to.graph.node) - 1, 1, moved.astype(weight.dtype))

    _dense(flow, node, weight.T.astype(np.float64), np.zeros(weight.shape[1]), len(shape) - 1, put)


def _dense(
    flow: Flow,
    node: onnx.NodeProto,
    rows: np.ndarray,
    shift: np.ndarray,
    axis: int,
    put: Callable[[Rewriter, np.ndarray, np.ndarray, bool], None],
) -> None:
    """``rows`` (out, in) and ``shift`` (out,), along the last axis."""
    given = flow.features.get(node.input[0])
    if given is not None and given.axis != axis:
        raise Unclear(f"{name_of(node)} mixes along an axis other than that of the channels")
    if given is not None and given.size != rows.shape[1]:
        raise Unclear(f"{name_of(node)} takes {rows.shape[1]} numbers and gets {given.size}")
    known = np.full(len(rows), np.nan)
    if given is not None:
        known = _constants(given, np.ones(given.size, bool), rows, rows != 0, shift)
        flow.absorb(given, rows, False, name_of(node))
    flow.fresh(node.output[0], axis, known)
    x, y = node.input[0], node.output[0]

    def edit(to: Rewriter) -> None:
        if not to.touched(x, y):
            return
        left = to.left(y)
        smaller, moved = rows[left], shift[left]
        if given is not None:
            lost = to.lost(x)
            gained = smaller[:, lost] @ np.nan_to_num(given.known[lost])
            put(to, smaller[:, to.left(x)], moved + gained, bool(gained.any()))
        else:
            put(to, smaller, moved, False)

    flow.edits.append(edit)
