"""ONNX models: whole ones, and random graphs of any operators with odd attributes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx
from compaction_nets import CASES, Net
from hand_nets import two_branches
from onnx import TensorProto, helper, numpy_helper

_OPS = (
    "Conv Conv Relu MaxPool AveragePool GlobalAveragePool Flatten Gemm MatMul Add Mul Sub Div Concat "
    "BatchNormalization Softmax Reshape Transpose Pad Clip Squeeze Unsqueeze ReduceMean ReduceSum Shape "
    "Gather Cast ConstantOfShape Expand Tile Resize Slice Split LRN PRelu LeakyRelu Dropout Identity "
    "InstanceNormalization ConvTranspose Loop If Scan Range Where Equal ArgMax TopK NonMaxSuppression "
    "DepthToSpace Einsum Evil CumSum Pow Constant Upsample ScatterND RoiAlign Mod"
)
OPS = tuple(_OPS.split())
_NAMES = (
    "kernel_shape strides pads dilations group auto_pad axis axes perm keepdims alpha beta transA transB "
    "ceil_mode count_include_pad epsilon to mode value min max shape size equation blocksize allowzero k "
    "split largest"
)
NAMES = tuple(_NAMES.split())
NUMBERS = (0, 1, 1, 1, 2, 2, 3, 4, 7, -1, -2, 64, 1000, 2**16, 2**31 - 1, 2**40, 2**63 - 1, -(2**63))


def corpus() -> list[bytes]:
    models = [make(Net(dead)) for make, dead, _, _ in CASES.values()]
    models += [two_branches(3), two_branches(8)]
    later = onnx.ModelProto()
    later.CopyFrom(models[0])
    later.opset_import[0].version = 21
    later.ir_version = 10
    return [m.SerializeToString() for m in [*models, later]]


def odd_onnx(dice: random.Random) -> bytes:
    """A whole model with a node or a field changed, or a random graph."""
    if dice.random() < 0.5:
        model = random_graph(dice)
    else:
        model = onnx.ModelProto.FromString(dice.choice(_whole()))
        for _ in range(1 + dice.randrange(3)):
            _spoil(model, dice)
    return model.SerializeToString()


_cache: list[bytes] = []


def _whole() -> list[bytes]:
    if not _cache:
        _cache.extend(corpus())
    return _cache


def attribute(dice: random.Random) -> onnx.AttributeProto:
    def number() -> int:
        return dice.choice(NUMBERS)

    values: list[Any] = [
        number(),
        [number() for _ in range(dice.randrange(1, 9))],
        float(number()),
        "SAME_UPPER",
        "reflect",
        "\x1b[2J",
        [0.5, 2.0],
        "ij,jk->ik",
    ]
    value = dice.choice(values)
    if dice.random() < 0.05:
        value = tensor(dice, "t")
    if dice.random() < 0.02:
        value = helper.make_graph([], "inner", [], [])
    return helper.make_attribute(dice.choice(NAMES), value)


def tensor(dice: random.Random, name: str) -> TensorProto:
    shape = [dice.choice((1, 2, 3, 4, 4, 8)) for _ in range(dice.choice((0, 1, 1, 2, 4, 4)))]
    kind = dice.choice((np.float32, np.float32, np.float32, np.int64, np.float64, np.float16, bool))
    made = numpy_helper.from_array(np.full(shape, dice.choice((0, 1, 2, -1, 3))).astype(kind), name)
    trick = dice.randrange(30)
    if trick == 0:
        made.data_location = TensorProto.EXTERNAL
        made.ClearField("raw_data")
        places = ("../outside/canary.bin", "/etc/passwd", "canary.bin", "..", "", "/dev/zero", "a/../../x")
        for key, value in (("location", dice.choice(places)), ("offset", "0"), ("length", "999999999999")):
            entry = made.external_data.add()
            entry.key, entry.value = key, value
    elif trick == 1:
        del made.dims[:]
        made.dims.extend(dice.choice(NUMBERS) for _ in range(3))
    elif trick == 2:
        made.data_type = dice.randrange(30)
    elif trick == 3:
        made.raw_data = made.raw_data[:3]
    return made


def random_graph(dice: random.Random) -> onnx.ModelProto:
    values, tensors, nodes = ["images"], [], []
    for number in range(dice.randrange(1, 9)):
        inputs = [dice.choice(values[-3:])]
        for position in range(dice.choice((0, 0, 1, 1, 2, 4))):
            if dice.random() < 0.7:
                tensors.append(tensor(dice, f"w{number}_{position}"))
                inputs.append(tensors[-1].name)
            else:
                inputs.append(dice.choice([*values, "", "nowhere", f"v{number}"]))
        op = dice.choice(OPS)
        node = helper.make_node(op, inputs, [f"v{number}"], dice.choice((f"n{number}", "", "\x1b[31m")))
        node.attribute.extend(attribute(dice) for _ in range(dice.randrange(4)))
        if op == "Conv" and dice.random() < 0.9:
            weight = np.ones((4, 3, 3, 3), np.float32)
            tensors.append(numpy_helper.from_array(weight, f"k{number}"))
            node.input[1:] = [f"k{number}"]
        if dice.random() < 0.03:
            node.domain = dice.choice(("com.evil", "ai.onnx.ml", "ai.onnx"))
        nodes.append(node)
        values.append(f"v{number}")
    size = dice.choice((8, 8, 8, 32, 2**16, 2**40))
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, size, size])],
        [helper.make_tensor_value_info(values[-1], TensorProto.FLOAT, ["n", 4])],
        tensors,
    )
    opset = dice.choice((17, 17, 17, 13, 11, 9, 6, 1, 21, 23, 99))
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=dice.choice((3, 8, 8, 8, 10, 99))
    )


def _spoil(model: onnx.ModelProto, dice: random.Random) -> None:
    node = dice.choice(model.graph.node)
    what = dice.randrange(9)
    if what == 0:
        node.op_type = dice.choice(OPS)
    elif what == 1:
        node.attribute.append(attribute(dice))
    elif what == 2 and node.attribute:
        chosen = dice.choice(node.attribute)
        if chosen.ints:
            chosen.ints[dice.randrange(len(chosen.ints))] = dice.choice(NUMBERS)
        else:
            chosen.i = dice.choice(NUMBERS)
    elif what == 3:
        node.input[dice.randrange(len(node.input))] = dice.choice([*node.output, "images", "", "nowhere"])
    elif what == 4:
        model.graph.initializer.append(tensor(dice, dice.choice(model.graph.initializer).name))
        del model.graph.initializer[dice.randrange(len(model.graph.initializer))]
    elif what == 5:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        dims[dice.randrange(len(dims))].dim_value = dice.choice(NUMBERS)
    elif what == 6:
        model.graph.node.append(dice.choice(model.graph.node))
    elif what == 7:
        model.opset_import[0].version = dice.choice((1, 6, 7, 12, 18, 21, 22, 99, -1))
    else:
        chosen = dice.choice(model.graph.initializer)
        if chosen.dims:
            chosen.dims[dice.randrange(len(chosen.dims))] = dice.choice(NUMBERS)
