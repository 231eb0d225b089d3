"""What each ONNX operator does with channels: hands them on, mixes them, or is not known.

A handler says so to the ``Flow``, and leaves an edit that makes the node smaller afterwards.
Operators without a handler keep all channels that reach them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from prune_core.compaction.flow import (
    BATCH,
    Flow,
    Rewriter,
    Unclear,
    constant,
    fields,
    handed_on,
    name_of,
    single,
)
from prune_core.compaction.linear import conv, gemm, matmul

Handler = Callable[[Flow, int, onnx.NodeProto], None]

# Each number by itself; what else they take has to be constant.
POINTWISE = frozenset((
    "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
    "Softplus", "Softsign", "Clip", "Erf", "Gelu", "Mish", "ThresholdedRelu", "Abs", "Neg", "Exp",
    "Log", "Sqrt", "Reciprocal", "Sign", "Floor", "Ceil", "Round", "Sin", "Cos", "Cast",
))  # fmt: skip
ARITHMETIC: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "Add": np.add,
    "Sum": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "PRelu": lambda x, slope: np.where(x < 0, x * slope, x),
}


def batch_norm(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given = single(flow, node)
    parts = [constant(flow, node, position) for position in range(1, 5)]
    if given.axis != 1 or any(p is None for p in parts) or fields(node).get("training_mode", 0):
        raise Unclear(f"{name_of(node)} does not normalise channels by constants")
    scale, shift, mean, variance = (np.asarray(p, np.float64) for p in parts)
    factor = scale / np.sqrt(variance + fields(node).get("epsilon", 1e-5))
    known = np.where(scale == 0, shift, (given.known - mean) * factor + shift)
    handed_on(flow, node, 1, known)
    _slice_inputs(flow, number, node, dict.fromkeys(range(1, 5), 0))


def pointwise(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given = single(flow, node)
    for position in range(1, len(node.input)):
        constant(flow, node, position)
    at = np.flatnonzero(~np.isnan(given.known))
    known = np.full(given.size, np.nan)
    if len(at):
        known[at] = _computed(flow, node, given.known[at])
    handed_on(flow, node, given.axis, known)


def _computed(flow: Flow, node: onnx.NodeProto, values: np.ndarray) -> np.ndarray:
    """What the operator makes of numbers, by ONNX's own reference implementation."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[0], copy.output[0] = "x", "y"
    others = [n for n in copy.input[1:] if n]
    given = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])]
    made = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])]
    held = [onnx.numpy_helper.from_array(flow.constants[n], n) for n in others]
    graph = onnx.helper.make_graph([copy], "one", given, made, held)
    model = onnx.helper.make_model(graph, opset_imports=list(flow.proto.opset_import))
    (result,) = ReferenceEvaluator(model).run(None, {"x": values.astype(np.float32)})
    return np.asarray(result, np.float64)


def arithmetic(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    act, shape = ARITHMETIC[node.op_type], flow.shapes.get(node.output[0])
    operands = [flow.features.get(name) for name in node.input]
    wide = max((f for f in operands if f is not None), key=lambda f: f.size, default=None)
    if wide is None or shape is None or shape[wide.axis] != wide.size:
        raise Unclear(f"what reaches {name_of(node)} cannot be traced by channels")
    axis, size = wide.axis, wide.size
    known, sliced, joined = None, {}, []
    for position, (name, features) in enumerate(zip(node.input, operands, strict=True)):
        if features is None:
            values, cut = _operand(flow, node, position, axis, size, len(shape))
            if cut is not None:
                sliced[position] = cut
        elif len(flow.shapes.get(name, ())) == len(shape) and features.axis == axis:
            if features.size == size:
                joined.append(features)
            else:  # one feature for all: it stays, the others need not
                flow.keep(features.ids, f"{name_of(node)} uses it")
            values = np.broadcast_to(features.known, (size,))
        else:
            raise Unclear(f"{name_of(node)} meets channels along different axes")
        known = values if known is None else _met(node.op_type, act, known, values)
    assert known is not None
    made = flow.fresh(node.output[0], axis, known)
    for features in joined:
        flow.join(made.ids, features.ids)
        lost = ~np.isnan(features.known) & np.isnan(known)
        flow.note(
            made.ids[lost],
            f"{name_of(node)} adds it to a channel that is in use"
            if node.op_type in ("Add", "Sum")
            else f"{name_of(node)} needs it",
        )
    _slice_inputs(flow, number, node, sliced)


def _met(
    op: str, act: Callable[[np.ndarray, np.ndarray], np.ndarray], a: np.ndarray, b: np.ndarray
) -> np.ndarray:
    with np.errstate(all="ignore"):
        result = np.asarray(act(a, b), np.float64)
    if op == "Mul":  # zero times whatever the other is
        result = np.where((a == 0) | (b == 0), 0.0, result)
    return np.where(np.isfinite(result), result, np.nan)


def _operand(
    flow: Flow, node: onnx.NodeProto, position: int, axis: int, size: int, rank: int
) -> tuple[np.ndarray, int | None]:
    """A constant operand: (size,) its value for each feature, NaN where that differs within the
    image; and the axis along which it has to be cut with the features."""
    held = constant(flow, node, position)
    if held is None or held.ndim > rank:
        raise Unclear(f"{name_of(node)} has an operand of another rank")
    full = held.reshape((1,) * (rank - held.ndim) + held.shape)
    if full.shape[axis] not in (1, size):
        raise Unclear(f"{name_of(node)} repeats its channels")
    columns = np.moveaxis(full, axis, 0).reshape(full.shape[axis], -1).astype(np.float64)
    values = np.where((columns == columns[:, :1]).all(axis=1), columns[:, 0], np.nan)
    cut = axis - (rank - held.ndim) if full.shape[axis] == size and size > 1 else None
    return np.broadcast_to(values, (size,)), cut


def _slice_inputs(flow: Flow, number: int, node: onnx.NodeProto, cuts: dict[int, int]) -> None:
    """Constants at inputs are cut along an axis as the output's features are."""
    y = node.output[0]

    def edit(to: Rewriter) -> None:
        if to.touched(y):
            for position, axis in cuts.items():
                held = flow.constants[node.input[position]]
                to.set_input(number, position, held.take(to.left(y), axis=axis))

    flow.edits.append(edit)


def pool(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given, info = single(flow, node), fields(node)
    if given.axis != 1 or len(node.output) > 1:
        raise Unclear(f"{name_of(node)} is not a pooling over images")
    known = given.known
    counts_edges = node.op_type == "AveragePool" and info.get("count_include_pad", 0)
    if counts_edges and (any(info.get("pads", ())) or info.get("ceil_mode", 0) or "auto_pad" in info):
        known = np.where(known == 0, known, np.nan)
    made = handed_on(flow, node, 1, known)
    flow.note(
        made.ids[~np.isnan(given.known) & np.isnan(known)],
        f"{name_of(node)} averages over its padding, so a constant channel differs at the border",
    )


def pad(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given, info = single(flow, node), fields(node)
    shape = flow.shapes.get(node.input[0])
    amounts = info.get("pads") if "pads" in info else constant(flow, node, 1)
    if shape is None or amounts is None or len(amounts) != 2 * len(shape) or len(node.input) > 3:
        raise Unclear(f"{name_of(node)} pads in an unknown way")
    if amounts[given.axis] or amounts[given.axis + len(shape)] or amounts[0] or amounts[len(shape)]:
        raise Unclear(f"{name_of(node)} adds channels")
    fill = constant(flow, node, 2) if len(node.input) > 2 else None
    value = float(info.get("value", 0.0) if fill is None else fill)
    known = given.known
    if info.get("mode", b"constant") == b"constant" and any(amounts):
        known = np.where(known == value, known, np.nan)
    made = handed_on(flow, node, given.axis, known)
    flow.note(
        made.ids[~np.isnan(given.known) & np.isnan(known)], f"{name_of(node)} pads it with other numbers"
    )


def reduce(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given, info, shape = single(flow, node), fields(node), flow.shapes.get(node.input[0])
    axes = info.get("axes") if "axes" in info else constant(flow, node, 1)
    if shape is None or axes is None or len(axes) == 0:
        raise Unclear(f"{name_of(node)} reduces in an unknown way")
    over = {int(a) % len(shape) for a in axes}
    if over & {0, given.axis}:
        raise Unclear(f"{name_of(node)} reduces over channels")
    times = float(np.prod([shape[a] for a in over])) if node.op_type == "ReduceSum" else 1.0
    axis = given.axis if info.get("keepdims", 1) else given.axis - sum(a < given.axis for a in over)
    handed_on(flow, node, axis, given.known * times)


def transpose(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given, shape = single(flow, node), flow.shapes.get(node.input[0], ())
    order = list(fields(node).get("perm", range(len(shape))[::-1]))
    if not order or order[0] != 0:
        raise Unclear(f"{name_of(node)} moves the batch")
    handed_on(flow, node, order.index(given.axis), given.known)


def move(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    """Flatten, Reshape, Squeeze, Unsqueeze: the same numbers in another shape. The place where
    each of them comes from tells which channel it is of."""
    given = single(flow, node)
    before, after = flow.shapes.get(node.input[0]), flow.shapes.get(node.output[0])
    if before is None or after is None or len(after) < 2 or after[0] != BATCH:
        raise Unclear(f"{name_of(node)} has an unknown shape")
    labels = np.arange(given.size).reshape([-1 if a == given.axis else 1 for a in range(1, len(before))])
    labels = np.broadcast_to(labels, before[1:]).reshape(after[1:])
    for axis in range(1, len(after)):
        rows = np.moveaxis(labels, axis - 1, 0).reshape(after[axis], -1)
        if (rows == rows[:, :1]).all():
            break
    else:
        raise Unclear(f"{name_of(node)} splits or merges channels")
    source = rows[:, 0]
    made = flow.fresh(node.output[0], axis, given.known[source])
    flow.join(made.ids, given.ids[source])
    if node.op_type == "Reshape":
        flow.reshapes.add(number)
        y = node.output[0]

        def edit(to: Rewriter) -> None:
            if to.touched(y):
                target = [0, *after[1:]]  # 0: the batch, as it comes
                target[axis] = len(to.left(y))
                to.set_input(number, 1, np.array(target, np.int64))
                kept = [a for a in node.attribute if a.name != "allowzero"]
                del to.graph.node[number].attribute[:]
                to.graph.node[number].attribute.extend(kept)

        flow.edits.append(edit)


def concat(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    parts = [flow.features.get(name) for name in node.input]
    shape = flow.shapes.get(node.output[0])
    if shape is None or any(p is None for p in parts):
        raise Unclear(f"{name_of(node)} joins something that cannot be traced by channels")
    axis = int(fields(node)["axis"]) % len(shape)
    kept = [p for p in parts if p is not None]
    if any(p.axis != axis for p in kept) or sum(p.size for p in kept) != shape[axis]:
        raise Unclear(f"{name_of(node)} joins along an axis other than that of the channels")
    made = flow.fresh(node.output[0], axis, np.concatenate([p.known for p in kept]))
    flow.join(made.ids, np.concatenate([p.ids for p in kept]))


def identity(flow: Flow, number: int, node: onnx.NodeProto) -> None:
    given = single(flow, node)
    handed_on(flow, node, given.axis, given.known)


HANDLERS: dict[str, Handler] = {
    "Conv": conv, "Gemm": gemm, "MatMul": matmul, "BatchNormalization": batch_norm,
    **dict.fromkeys(POINTWISE, pointwise), **dict.fromkeys(ARITHMETIC, arithmetic),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"), pool),
    **dict.fromkeys(("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum"), reduce),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), move),
    **dict.fromkeys(("Identity", "Dropout"), identity),
    "Pad": pad, "Transpose": transpose, "Concat": concat,
}  # fmt: skip
