"""Every converter of ours, and operators at the versions that they are registered for, against ONNX
Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_core.errors import InputError
from prune_core.files.onnx_normalize import normalized
from prune_core.model.convert import to_torch

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(3, 4, 7, 9)).astype(np.float32)
ROWS = RNG.normal(size=(3, 12)).astype(np.float32)
F, I = np.float32, np.int64  # noqa: E741


def model(
    op: str, opset: int, given: np.ndarray, constants: list[Any], outputs: int = 1, **fields: Any
) -> onnx.ModelProto:
    """One operator on ``given``; ``constants``: its other inputs, None where one is left out."""
    names = ["" if c is None else f"c{i}" for i, c in enumerate(constants)]
    made = [f"y{i}" for i in range(outputs)]
    nodes = [helper.make_node(op, ["x", *names], made, **fields)]
    if outputs > 1:
        nodes.append(helper.make_node("Concat", made[::-1], ["all"], axis=fields.get("axis", 0)))
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *given.shape[1:]])],
        [helper.make_tensor_value_info("all" if outputs > 1 else "y0", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(c, n) for c, n in zip(constants, names, strict=True) if c is not None],
    )
    ir = 4 if opset < 11 else 10
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def check(proto: onnx.ModelProto, given: np.ndarray) -> None:
    session = ort.InferenceSession(proto.SerializeToString())
    (wanted,) = session.run(None, {"x": given})
    graph = to_torch(normalized(proto, "one"), "one").float().eval().requires_grad_(False)
    found = graph(torch.from_numpy(given)).numpy()
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


C = RNG.uniform(0.5, 1.5, size=(4, 4)).astype(F)  # four numbers for each of four channels
CASES: dict[str, tuple[str, list[int], np.ndarray, list[Any], dict[str, Any]]] = {
    "relu": ("Relu", [7, 13, 14, 21], IMAGES, [], {}),
    "gelu": ("Gelu", [20, 21], IMAGES, [], {}),
    "gelu tanh": ("Gelu", [20], IMAGES, [], {"approximate": "tanh"}),
    "mish": ("Mish", [18, 22], IMAGES, [], {}),
    "hard swish": ("HardSwish", [14, 18, 22], IMAGES, [], {}),
    "hard sigmoid": ("HardSigmoid", [7, 13, 22], IMAGES, [], {"alpha": 1 / 6}),
    "elu": ("Elu", [7, 22], IMAGES, [], {"alpha": 0.7}),
    "selu": ("Selu", [7, 22], IMAGES, [], {}),
    "softplus": ("Softplus", [7, 22], IMAGES, [], {}),
    "leaky": ("LeakyRelu", [7, 16], IMAGES, [], {"alpha": 0.2}),
    "prelu of channels": ("PRelu", [7, 9, 16], IMAGES, [C[0].reshape(4, 1, 1)], {}),
    "prelu of columns": ("PRelu", [9, 16], IMAGES, [np.linspace(-1, 1, 9).astype(F)], {}),
    "clip by attributes": ("Clip", [7, 10], IMAGES, [], {"min": -0.5, "max": 1.0}),
    "clip": ("Clip", [11, 12, 13, 18], IMAGES, [np.array(-0.5, F), np.array(0.7, F)], {}),
    "clip above": ("Clip", [11, 13], IMAGES, [None, np.array(0.7, F)], {}),
    "clip below": ("Clip", [11, 13], IMAGES, [np.array(0.0, F)], {}),
    "cast": ("Cast", [7, 9, 13, 19, 21], IMAGES, [], {"to": TensorProto.FLOAT}),
    "transpose": ("Transpose", [7, 13, 21, 23], IMAGES, [], {"perm": [0, 2, 3, 1]}),
    "flatten": ("Flatten", [7, 9, 13, 21, 23], IMAGES, [], {}),
    "reshape": ("Reshape", [7, 13, 14, 19, 21, 23], IMAGES, [np.array([0, -1, 9], I)], {}),
    "reshape, zeros taken": ("Reshape", [14, 19, 21], IMAGES, [np.array([-1, 28, 9], I)], {"allowzero": 1}),
    "squeeze": ("Squeeze", [13, 21, 23], IMAGES[:, :, :1], [np.array([-2], I)], {}),
    "squeeze by attribute": ("Squeeze", [7, 11], IMAGES[:, :, :1], [], {"axes": [2]}),
    "unsqueeze": ("Unsqueeze", [13, 21, 23], ROWS, [np.array([2, 3], I)], {}),
    "split in parts": ("Split", [18], IMAGES, [], {"axis": 1, "num_outputs": 2}),
    "split in uneven parts": ("Split", [18], IMAGES, [], {"axis": 3, "num_outputs": 2}),
    "split by sizes": ("Split", [13, 18], IMAGES, [np.array([1, 3], I)], {"axis": 1}),
    "split by attribute": ("Split", [7, 11], IMAGES, [], {"axis": 1, "split": [1, 3]}),
    "dropout": ("Dropout", [7, 10, 12, 13, 22], IMAGES, [], {}),
    "batch norm": ("BatchNormalization", [7, 8, 9, 14, 15], IMAGES, list(C), {"epsilon": 0.01}),
    "layer norm": ("LayerNormalization", [17, 21], ROWS, [ROWS[0], ROWS[1]], {"epsilon": 0.01}),
    "layer norm of images": ("LayerNormalization", [17], IMAGES, [IMAGES[0]], {"axis": 1}),
    "group norm of groups": ("GroupNormalization", [18], IMAGES, [C[0, :2], C[1, :2]], {"num_groups": 2}),
    "group norm": ("GroupNormalization", [21], IMAGES, [C[0], C[1]], {"num_groups": 2}),
    "instance norm": ("InstanceNormalization", [7, 22], IMAGES, [C[0], C[1]], {}),
    "reduce mean by attribute": ("ReduceMean", [7, 11, 13], IMAGES, [], {"axes": [2, 3], "keepdims": 0}),
    "reduce mean": ("ReduceMean", [18], IMAGES, [np.array([-1, -2], I)], {"keepdims": 0}),
    "reduce sum": ("ReduceSum", [13, 21], IMAGES, [np.array([2, 3], I)], {}),
    "reduce max": ("ReduceMax", [18, 20], IMAGES, [np.array([2, 3], I)], {}),
    "reduce min": ("ReduceMin", [18, 20], IMAGES, [np.array([3], I)], {"keepdims": 0}),
    "reduce l2": ("ReduceL2", [18], IMAGES, [np.array([2, 3], I)], {}),
    "reduce nothing": ("ReduceMean", [18], IMAGES, [], {"noop_with_empty_axes": 1}),
    "global average": ("GlobalAveragePool", [7, 22], IMAGES, [], {}),
    "global max": ("GlobalMaxPool", [7, 22], IMAGES, [], {}),
    "pad": ("Pad", [11, 13, 18, 19, 21, 23], IMAGES, [np.array([0, 0, 1, 2, 0, 0, 3, 0], I)], {}),
    "pad with a number": ("Pad", [13], IMAGES, [np.array([0] * 4 + [0, 1, 1, 1], I), np.array(2.0, F)], {}),
    "pad of axes": ("Pad", [18, 21], IMAGES, [np.array([1, 2, 0, 1], I), None, np.array([-1, 2], I)], {}),
    "pad by reflection": (
        "Pad",
        [11, 18],
        IMAGES,
        [np.array([0, 0, 1, 2, 0, 0, 3, 1], I)],
        {"mode": "reflect"},
    ),
    "resize twice": (
        "Resize",
        [13, 18, 19],
        IMAGES,
        [None, np.array([1, 1, 2, 2], F)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
    ),
    "resize thrice, half pixels": ("Resize", [13, 19], IMAGES, [None, np.array([1, 1, 3, 2], F)], {}),
    "resize linearly": (
        "Resize",
        [13, 19],
        IMAGES,
        [None, None, np.array([3, 4, 13, 8], I)],
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    ),
    "resize to corners": (
        "Resize",
        [13, 18],
        IMAGES,
        [None, None, np.array([3, 4, 13, 11], I)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "resize cubically": (
        "Resize",
        [13, 19],
        IMAGES,
        [None, None, np.array([3, 4, 13, 11], I)],
        {"mode": "cubic", "coordinate_transformation_mode": "half_pixel"},
    ),
    "resize to one pixel": (
        "Resize",
        [13, 19],
        IMAGES,
        [None, None, np.array([3, 4, 3, 1], I)],
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    ),
    "resize smoothly": (
        "Resize",
        [18, 19],
        IMAGES,
        [None, None, np.array([3, 4, 4, 5], I)],
        {"mode": "linear", "antialias": 1, "exclude_outside": 1},
    ),
    "sample": ("GridSample", [16, 20, 22], IMAGES, [RNG.uniform(-1, 1, (3, 5, 6, 2)).astype(F)], {}),
    "running sums": ("CumSum", [11, 14], IMAGES, [np.array(1, I)], {}),
    "running sums back": ("CumSum", [14], IMAGES, [np.array(-1, I)], {"reverse": 1, "exclusive": 1}),
    "lower triangle": ("Trilu", [14], IMAGES, [np.array(1, I)], {"upper": 0}),
    "upper triangle": ("Trilu", [14], IMAGES, [], {}),
    "responses": ("LRN", [7, 13], IMAGES, [], {"size": 3, "alpha": 0.5}),
    "slice": (
        "Slice",
        [10, 11, 13],
        IMAGES,
        [np.array([1, -3], I), np.array([2**40, -1], I), np.array([2, -1], I)],
        {},
    ),
    "slice backwards": (
        "Slice",
        [10, 13],
        IMAGES,
        [np.array([-1, 5], I), np.array([-(2**40), 1], I), np.array([3, 2], I), np.array([-2, -1], I)],
        {},
    ),
    "slice by attributes": ("Slice", [7, 9], IMAGES, [], {"starts": [1, 0], "ends": [9, -1], "axes": [1, 3]}),
    "pad by attributes": ("Pad", [7, 10], IMAGES, [], {"pads": [0, 0, 1, 0, 0, 0, 0, 2], "value": 0.7}),
    "pad around": ("Pad", [19, 21], IMAGES, [np.array([0, 0, 1, 2, 0, 0, 3, 0], I)], {"mode": "wrap"}),
    "upsample": ("Upsample", [9], IMAGES, [np.array([1, 1, 2, 3], F)], {}),
    "upsample by attribute": ("Upsample", [7], IMAGES, [], {"scales": [1.0, 1.0, 2.0, 3.0]}),
    "convolution": ("Conv", [7, 11, 22], IMAGES, [IMAGES[:2, :, :3, :3], C[0, :2]], {"pads": [1, 0, 2, 1]}),
    "convolution, same": (
        "Conv",
        [7, 11, 22],
        IMAGES,
        [IMAGES[:2, :, :3, :4], None],
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ),
    "dense": ("Gemm", [7, 9, 11, 13], ROWS, [np.ones((12, 3), F), np.ones(3, F)], {"alpha": 0.5}),
    "softmax": ("Softmax", [7, 11, 13], ROWS, [], {"axis": 1}),
}
POOLS: list[dict[str, Any]] = [
    {"kernel_shape": [3, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [3, 2], "strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "VALID"},
]
for _fields in POOLS:
    for _op, _versions in (("MaxPool", [7, 8, 10, 11, 12, 22]), ("AveragePool", [7, 10, 11, 19, 22])):
        CASES[f"{_op} {_fields}"] = (_op, _versions, IMAGES, [], _fields)
for _fields in POOLS[:4]:
    _more = {**_fields, "count_include_pad": 1}
    CASES[f"AveragePool {_more}"] = ("AveragePool", [7, 11, 19], IMAGES, [], _more)
for _fields in ({"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1]},):
    _more = {**_fields, "ceil_mode": 1, "count_include_pad": 1}  # the last window starts in the padding
    CASES[f"AveragePool {_more}"] = ("AveragePool", [10, 19], IMAGES[..., :8, :], [], _more)
for _fields in POOLS[:3]:
    _more = {**_fields, "ceil_mode": 1}
    CASES[f"AveragePool {_more}"] = ("AveragePool", [10, 19], IMAGES, [], _more)
    CASES[f"MaxPool {_more}"] = ("MaxPool", [10, 12, 22], IMAGES, [], _more)
ALL = [(name, opset) for name, case in CASES.items() for opset in case[1]]


@pytest.mark.parametrize("name, opset", ALL, ids=[f"{n}-{o}" for n, o in ALL])
def test_an_operator_does_what_onnx_runtime_does(name: str, opset: int) -> None:
    op, _, given, constants, fields = CASES[name]
    outputs = 2 if op == "Split" else 1
    check(model(op, opset, given, constants, outputs, **fields), np.ascontiguousarray(given))


@pytest.mark.parametrize(
    "op, opset, constants, fields, said",
    [
        ("Det", 22, [], {}, "operator Det of opset 22 is not supported"),
        ("MaxPool", 12, [], {"kernel_shape": [2, 2], "storage_order": 1}, "Only row major"),
        (
            "Resize",
            13,
            [None, np.array([1, 1, 1.5, 2], F)],
            {},
            "operator Resize of opset 13 is not supported",
        ),
        (
            "Resize",
            13,
            [None, None, np.array([3, 4, 3, 1], I)],
            {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"},
            "an axis that becomes 1 long",
        ),
        (
            "Resize",
            18,
            [None, None, np.array([3, 4, 3, 4], I)],
            {"mode": "linear", "antialias": 1},
            "padded at the edge",
        ),
        ("LRN", 13, [], {"size": 4}, "an even size"),
        ("GroupNormalization", 21, [C[0], C[1]], {"num_groups": 3}, "3 groups of 4 channels"),
    ],
)
def test_what_is_not_converted_is_named_with_a_way_out(
    op: str, opset: int, constants: list[Any], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said) as refused:
        to_torch(normalized(model(op, opset, IMAGES, constants, **fields), "net.onnx"), "net.onnx")
    assert str(refused.value).startswith("net.onnx: operator ")
    assert "torch.onnx.export" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_network_that_was_read_otherwise_has_a_digest_of_its_own() -> None:
    """So no record or cached count of version 0.1 answers for it."""
    from prune_core.model.model import build_model

    def built(ceil: int) -> str:
        kernel = numpy_helper.from_array(np.ones((2, 3, 1, 1), F), "k")
        nodes = [
            helper.make_node("Conv", ["x", "k"], ["a"]),
            helper.make_node(
                "AveragePool", ["a"], ["b"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=ceil
            ),
            helper.make_node("GlobalAveragePool", ["b"], ["c"]),
            helper.make_node("Flatten", ["c"], ["y"]),
        ]
        values = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 5, 5]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2]),
        ]
        graph = helper.make_graph(nodes, "net", values[:1], values[1:], [kernel])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        net = build_model(proto, "d" * 64, "net")
        assert net.badnet_digest == "d" * 64
        return net.digest

    assert built(0) == "d" * 64 != built(1)
