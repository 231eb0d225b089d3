"""Files that are legal and odd: small networks as torch writes them with what people put into a network,
and what other tools make of such files. Either they are read, and do what ONNX Runtime does, or one line
names the operator and a way out."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from every_file import check_file
from odd_nets import IMAGES, SIDE, Attention, Lstm, OwnKernel, Volume, exported, grid, made, shuffled
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from prune_core.errors import InputError
from prune_core.model.model import load_model


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        yield
        logging.disable(logging.NOTSET)


NUMBERS = torch.tensor([0.5, -0.3, 0.2, 0.9])
MIDDLES: dict[str, Any] = {
    "sums": lambda x: x.cumsum(1),
    "sums back": lambda x: x.flip(1).cumsum(1),
    "slices": lambda x: torch.cat([x[:, ::2], x[:, 1:2], x[:, -1:, :, :]], 1)[:, :, 1:-1, 2:],
    "gathered": lambda x: x[:, [2, 0, 3, 1]],
    "shuffled": shuffled,
    "split": lambda x: torch.cat(torch.split(x, [1, 3], 1)[::-1], 1),
    "triangle": lambda x: x.tril(),
    "places": lambda x: x + torch.arange(x.shape[3]) / 9,
    "grid": grid,
    "rolled": lambda x: x.roll(1, 2),
    "unfolded": lambda x: F.unfold(x, 3, padding=1).view(-1, 36, SIDE, SIDE)[:, :7],
    "resized to a size": lambda x: F.interpolate(x, size=(7, 13)),
    "resized linearly": lambda x: F.interpolate(x, size=(7, 13), mode="bilinear"),
    "resized to corners": lambda x: F.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=True),
    "padded": lambda x: F.pad(x, (0, 1, 2, 0)),
    "padded by itself": lambda x: F.pad(x, (1, 1, 2, 1), mode="reflect"),
    "pooled to the end": lambda x: F.avg_pool2d(x, 3, 3, 1, ceil_mode=True),
    "pooled whole": lambda x: F.adaptive_max_pool2d(x, 1),
    "response norm": lambda x: F.local_response_norm(x, 3, alpha=0.5),
    "std": lambda x: x / (x.std((2, 3), keepdim=True, unbiased=False) + 0.1),
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "hard swish": F.hardswish,
    "clamped": lambda x: x.clamp(max=0.5),
    "bias behind": lambda x: x + NUMBERS.view(1, 4, 1, 1),
    "scale behind": lambda x: torch.relu(x * NUMBERS.view(4, 1, 1) + 1),
    "prelu": nn.PReLU(4),
    "group norm": nn.GroupNorm(2, 4),
    "instance norm": nn.InstanceNorm2d(4, affine=True),
    "layer norm": nn.LayerNorm((4, SIDE, SIDE)),
    "batch norm": nn.BatchNorm2d(4, eps=0.01),
    "grouped": nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1, groups=4), nn.ReLU(), nn.Conv2d(8, 4, 1, groups=2)
    ),
    "transposed": nn.ConvTranspose2d(4, 4, 3, 2, 1, 1),
    "even kernel": nn.Conv2d(4, 4, 4, padding="same"),
    "own kernel": OwnKernel(4, 4, 3),
    "attention": Attention(),
    "einsum": lambda x: torch.einsum("nchw,oc->nohw", x, torch.eye(4) + 0.1),
    "conv 3d": Volume(),
}


@pytest.mark.parametrize("name", MIDDLES)
def test_what_people_put_between_convolutions(name: str, tmp_path: Path) -> None:
    check_file(exported(made(MIDDLES[name]), tmp_path / "net.onnx"), IMAGES)


@pytest.mark.parametrize("opset", [9, 11, 20])
@pytest.mark.parametrize("name", ["slices", "padded", "sums", "split", "resized linearly", "own kernel"])
def test_of_other_opsets(name: str, opset: int, tmp_path: Path) -> None:
    if (name, opset) in {("resized linearly", 9), ("sums", 9), ("slices", 9)}:
        pytest.skip("torch cannot write it")
    check_file(exported(made(MIDDLES[name]), tmp_path / "net.onnx", opset), IMAGES)


ENDS: dict[str, dict[str, Any]] = {
    "squeezed": {"pool": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze()},
    "view of sizes": {"pool": lambda x: F.max_pool2d(x, SIDE).view(x.size(0), -1)},
    "greatest": {"pool": lambda x: x.max(3)[0].max(2)[0]},
    "softmax": {"after": nn.Softmax(1)},
    "log of softmax": {"after": nn.LogSoftmax(-1)},
    "two outputs": {"after": lambda x: (x, x.softmax(1))},
    "mean and deviation inside": {
        "before": lambda x: (x - 0.4) / torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    },
}


@pytest.mark.parametrize("name", ENDS)
def test_ends_and_beginnings(name: str, tmp_path: Path) -> None:
    check_file(exported(made(nn.ReLU(), **ENDS[name]), tmp_path / "net.onnx"), IMAGES)


DEFAULT: dict[str, Any] = {
    "squeezed": (nn.ReLU(), {"pool": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)}),
    "flattened": (nn.ReLU(), {"pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())}),
    "response norm": (MIDDLES["response norm"], {}),
    "around": (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), {}),
    "resized smoothly": (lambda x: F.interpolate(x, size=(6, 7), mode="bilinear", antialias=True), {}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n != "flattened" else ()) for n in DEFAULT]
)
def test_by_the_default_exporter(name: str, tmp_path: Path) -> None:
    middle, parts = DEFAULT[name]
    free = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(
        made(middle, **parts), (torch.rand(2, 3, SIDE, SIDE),), tmp_path / "net.onnx", dynamic_shapes=free
    )
    check_file(tmp_path / "net.onnx", IMAGES)


@pytest.mark.parametrize(
    "options",
    [
        {"keep_initializers_as_inputs": True},
        {"do_constant_folding": False, "training": torch.onnx.TrainingMode.PRESERVE},
        {"dynamic_axes": {"x": {0: "n", 2: "h", 3: "w"}}},
        {"dynamic_axes": {}},
    ],
    ids=["inputs", "unfolded", "free size", "fixed"],
)
def test_options_of_the_export(options: dict[str, Any], tmp_path: Path) -> None:
    net = made(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    check_file(exported(net, tmp_path / "net.onnx", **options), IMAGES)


def test_half_precision(tmp_path: Path) -> None:
    net = made(nn.ReLU()).half()
    path = exported(net, tmp_path / "net.onnx", example=torch.from_numpy(IMAGES[:2]).half())
    check_file(path, IMAGES, "float16")


def test_double_precision(tmp_path: Path) -> None:
    """Which ONNX Runtime does not compute; the module itself says what is right."""
    net = made(nn.ReLU()).double()
    given = torch.from_numpy(IMAGES).double()
    model = load_model(exported(net, tmp_path / "net.onnx", example=given[:2]))
    np.testing.assert_allclose(model.logits(given.float()), net(given), atol=1e-4)


def test_bfloat16_is_refused_with_a_way_out(tmp_path: Path) -> None:
    example = torch.from_numpy(IMAGES[:2]).bfloat16()
    path = exported(made(nn.ReLU()).bfloat16(), tmp_path / "net.onnx", example=example)
    with pytest.raises(InputError, match="holds bfloat16; export the network in float32"):
        load_model(path)


def rewritten(change: Callable[[onnx.ModelProto], None], path: Path) -> Path:
    """A network of a file with something changed that leaves its function as it is, or nearly."""
    proto = onnx.load(exported(made(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU())), path))
    change(proto)
    onnx.save(proto, path)
    return path


def as_nodes(proto: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in proto.graph.initializer]
    nodes += [onnx.NodeProto.FromString(node.SerializeToString()) for node in proto.graph.node]
    del proto.graph.node[:], proto.graph.initializer[:]
    proto.graph.node.extend(nodes)


def in_a_function(proto: onnx.ModelProto) -> None:
    inner = [helper.make_node("Relu", ["a"], ["t"]), helper.make_node("Mul", ["t", "t"], ["b"])]
    act = helper.make_function("mine", "Act", ["a"], ["b"], inner, [helper.make_opsetid("", 17)])
    node = next(n for n in proto.graph.node if n.op_type == "Relu")
    node.op_type, node.domain, proto.ir_version = "Act", "mine", 9
    proto.functions.append(act)
    proto.opset_import.append(helper.make_opsetid("mine", 1))


def in_a_branch(proto: onnx.ModelProto) -> None:
    """An If on whether images are higher than 5 pixels."""
    node = next(n for n in proto.graph.node if n.op_type == "Relu")

    def branch(op: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(op, [node.input[0]], ["z"])], op, [], [made])

    ask = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "two"], ["height"]),
        helper.make_node("Greater", ["height", "five"], ["high"]),
    ]
    node.CopyFrom(
        helper.make_node(
            "If", ["high"], list(node.output), then_branch=branch("Relu"), else_branch=branch("Neg")
        )
    )
    for name, value in (("two", 2), ("five", 5)):
        proto.graph.initializer.append(numpy_helper.from_array(np.array(value), name))
    nodes = ask + [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


def in_bfloat16(proto: onnx.ModelProto) -> None:
    casts = []
    for tensor in proto.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            name = tensor.name
            tensor.CopyFrom(
                helper.make_tensor(f"{name}_b", TensorProto.BFLOAT16, array.shape, array.flatten().tolist())
            )
            casts.append(helper.make_node("Cast", [f"{name}_b"], [name], to=TensorProto.FLOAT))
    nodes = casts + [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)


@pytest.mark.parametrize("change", [as_nodes, in_a_function, in_a_branch, in_bfloat16])
def test_what_other_tools_make_of_a_file(change: Any, tmp_path: Path) -> None:
    check_file(rewritten(change, tmp_path / "net.onnx"), IMAGES)


def test_values_in_several_files(tmp_path: Path) -> None:
    proto = onnx.load(exported(made(nn.ReLU()), tmp_path / "net.onnx"))
    onnx.save(
        proto,
        tmp_path / "net.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=False,
        size_threshold=0,
    )
    check_file(tmp_path / "net.onnx", IMAGES)


def quantised(proto: onnx.ModelProto) -> None:
    node = next(n for n in proto.graph.node if n.op_type == "Relu")
    output = node.output[0]
    node.output[0] = "plain"
    pair = [
        helper.make_node("QuantizeLinear", ["plain", "scale"], ["whole"]),
        helper.make_node("DequantizeLinear", ["whole", "scale"], [output]),
    ]
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "scale"))
    at = list(proto.graph.node).index(node) + 1
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend([*nodes[:at], *pair, *nodes[at:]])


def foreign(proto: onnx.ModelProto) -> None:
    next(n for n in proto.graph.node if n.op_type == "Relu").domain = "com.microsoft"
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))


@pytest.mark.parametrize(
    "change, said",
    [
        (quantised, "QuantizeLinear: the network is quantised; give the one from before"),
        (foreign, "not standard ONNX"),
    ],
)
def test_what_is_refused_names_the_operator_and_a_way_out(change: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        load_model(rewritten(change, tmp_path / "net.onnx"))


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lstm": (Lstm(), {}, "operator LSTM of opset 17 is not supported; export it"),
    "a class": (nn.ReLU(), {"after": lambda x: x.argmax(1)}, "without the ArgMax at its end"),
    "training": (
        nn.BatchNorm2d(4),
        {},
        r"BatchNormalization of opset 17 is not supported with statistics .* call net.eval\(\)",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_what_to_do(name: str, tmp_path: Path) -> None:
    middle, parts, said = REFUSED[name]
    options: dict[str, Any] = {}
    if name == "training":
        options = {"training": torch.onnx.TrainingMode.TRAINING, "do_constant_folding": False}
    path = exported(made(middle, **parts), tmp_path / "net.onnx", **options)
    with pytest.raises(InputError, match=said):
        load_model(path).check_images((3, SIDE, SIDE), "clean")


def test_a_file_of_more_than_2_gib_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.touch()
    os.truncate(path, 2**31 + 10)
    with pytest.raises(InputError, match="larger than 2 GiB"):
        load_model(path)


def test_functions_that_call_each_other_in_numbers_are_refused(tmp_path: Path) -> None:
    """Each calls the one before twice: 2**40 nodes."""

    def change(proto: onnx.ModelProto) -> None:
        in_a_function(proto)
        for number in range(40):
            before = "Act" if not number else f"Act{number - 1}"
            inner = [
                helper.make_node(before, ["a"], ["t"], domain="mine"),
                helper.make_node(before, ["t"], ["b"], domain="mine"),
            ]
            ids = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
            proto.functions.append(helper.make_function("mine", f"Act{number}", ["a"], ["b"], inner, ids))
        next(n for n in proto.graph.node if n.domain == "mine").op_type = "Act39"

    with pytest.raises(InputError, match="nodes; at most"):
        load_model(rewritten(change, tmp_path / "net.onnx"))
