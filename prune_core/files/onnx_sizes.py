"""How large the values of an ONNX graph become, told before any of them is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from prune_core.errors import InputError
from prune_core.files.onnx_read import REFUSALS, first_line
from prune_core.files.onnx_shapes import for_images, told

MAX_VALUES = 2**25
# Operators whose attributes can ask for more values than they are given.
GROWING = frozenset(
    (
        "Conv",
        "ConvTranspose",
        "Pad",
        "MaxPool",
        "AveragePool",
        "LpPool",
        "Resize",
        "Upsample",
        "Tile",
        "Expand",
        "DepthToSpace",
        "SpaceToDepth",
    )
)
# Operators that make as many values as numbers say which may be worked out on the way.
TOLD = frozenset(
    ("Pad", "Resize", "Upsample", "Tile", "Expand", "ConstantOfShape", "Range", "EyeLike", "Einsum")
)
PADDING = frozenset(("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"))
_Shape = tuple[int, ...]  # 0: not known


def check_sizes(model: onnx.ModelProto, name: str, image: Sequence[int] | None = None) -> None:
    """Raises InputError when a value of a ``normalized`` model has, for one image, more than
    ``MAX_VALUES`` numbers, or a node would need so many on the way.

    Args:
        image: sizes of an image as the input has them (without the batch). Where they are left out and
            the file leaves them open, what depends on them is not known here: ask again.
    """
    held = {t.name for t in model.graph.initializer}
    try:
        found = told(for_images(model, 1, image))
    except REFUSALS as error:
        raise InputError(f"{name}: its shapes cannot be inferred: {first_line(error)}") from None
    made = (*found.graph.value_info, *found.graph.output)
    known = {value.name for value in made if value.type.tensor_type.elem_type}
    given = [value for value in found.graph.input if value.name not in held]  # constants: the file's size
    shapes = {value.name: _shape(value) for value in (*given, *made)}
    complete = all(0 not in (shapes[value.name] or (0,)) for value in given)
    for node in found.graph.node:
        shape = shapes.get(node.output[0])
        unknown = node.op_type in GROWING and node.output[0] not in known
        if unknown or (complete and node.op_type in TOLD and (shape is None or 0 in shape)):
            raise InputError(
                f"{name}: what a node {node.op_type} outputs cannot be inferred; are its attributes right? "
                "If they are, export it by torch's other exporter, or for images of one size"
            )
        if (size := _on_the_way(node, shapes)) > MAX_VALUES:
            raise InputError(
                f"{name}: a node {node.op_type} needs {size} values for one image; at most {MAX_VALUES}"
            )
    for value, shape in shapes.items():
        if (size := math.prod(shape or ())) > MAX_VALUES:
            raise InputError(
                f"{name}: {first_line(ValueError(value))!r} has {size} values for one image; at most "
                f"{MAX_VALUES}"
            )


def _shape(value: onnx.ValueInfoProto) -> _Shape | None:
    """None where not even the number of axes is known."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(max(d.dim_value, 0) for d in value.type.tensor_type.shape.dim)


def _on_the_way(node: onnx.NodeProto, shapes: dict[str, _Shape | None]) -> int:
    """Values that torch makes of the first input before it works on it: with padding all around, or
    beside its channels. Unknown sizes count as 1."""
    if node.op_type not in (*PADDING, "LRN"):
        return 0
    shape = [size or 1 for size in shapes.get(node.input[0]) or ()] if node.input else []
    info = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "LRN":
        shape[1:2] = [channels + max(info.get("size", 0), 0) for channels in shape[1:2]]
    else:
        pads = [max(amount, 0) for amount in info.get("pads", ())]
        sides = len(pads) // 2
        shape = shape or [1] * (2 + sides)
        for axis in range(min(sides, len(shape) - 2)):
            shape[2 + axis] += pads[axis] + pads[sides + axis]
    return math.prod(shape)
