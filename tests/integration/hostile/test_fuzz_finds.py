"""What the fuzz suite found (each ended in a traceback once), and what bounds must let pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from prune_core.compaction.compact import compact
from prune_core.data.images import LabeledImages, make_split
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.files.onnx_normalize import normalized
from prune_core.files.onnx_sizes import check_sizes
from prune_core.incremental.evaluator import IncrementalEvaluator
from prune_core.model.model import load_model


def net(opset: int = 15, **arrays: np.ndarray) -> onnx.ModelProto:
    """Two channels, batch norm. ``arrays`` replace constants: k, b, s, o, m, v."""
    values: dict[str, Any] = {
        "k": np.ones((2, 1, 1, 1)),
        "b": np.zeros(2),
        "s": np.ones(2),
        "o": np.zeros(2),
        "m": np.zeros(2),
        "v": np.ones(2),
    }
    values = {key: array.astype(np.float32) for key, array in values.items()} | arrays
    nodes = [
        helper.make_node("Conv", ["x", "k", "b"], ["c"], name="conv"),
        helper.make_node("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"]),
        helper.make_node("Flatten", ["n"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 4, 4])
    said = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 32])
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in values.items()]
    graph = helper.make_graph(nodes, "net", [given], [said], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def latin_name(model: onnx.ModelProto) -> bytes:
    """A node called "conv" with a byte that is no UTF-8."""
    return model.SerializeToString().replace(b"\x1a\x04conv", b"\x1a\x04c\xffnv")


def undefined(model: onnx.ModelProto) -> bytes:
    model.opset_import[0].version = 21
    del model.graph.initializer[1]
    return model.SerializeToString()


def declared(model: onnx.ModelProto, kind: int, shape: list[int]) -> bytes:
    """Constants stand among the inputs too, the kernel as of that type and shape."""
    model.ir_version = 3
    for tensor in model.graph.initializer:
        said = (kind, shape) if tensor.name == "k" else (tensor.data_type, list(tensor.dims))
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, *said))
    return model.SerializeToString()


def padded(model: onnx.ModelProto) -> bytes:
    """By terabytes, in a list of another length, which shape inference passes over."""
    model.graph.node[0].attribute.append(helper.make_attribute("pads", [2**31 - 1, 1, 2, 0, 1]))
    return model.SerializeToString()


def below_zero(model: onnx.ModelProto) -> bytes:
    model.graph.node[1].attribute.append(helper.make_attribute("epsilon", -1e-5))
    return model.SerializeToString()


def holds_nothing(model: onnx.ModelProto, name: str) -> bytes:
    """A list with nothing in it, of which each reader makes something else."""
    model.graph.node[0].attribute.append(onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))
    return model.SerializeToString()


def wide(op: str, **fields: Any) -> bytes:
    """Small in, small out, and terabytes on the way."""
    model = net()
    conv, norm, _ = model.graph.node
    if op == "Conv":
        conv.attribute.extend(helper.make_attribute(key, value) for key, value in fields.items())
    else:
        conv.output[0] = "before"
        model.graph.node.insert(1, helper.make_node(op, ["before"], [norm.input[0]], **fields))
    return model.SerializeToString()


def told_otherwise(model: onnx.ModelProto) -> bytes:
    """The file says that a value is small, and it is not."""
    pads = numpy_helper.from_array(np.array([0, 0, 2**15, 2**15, 0, 0, 2**15, 2**15]), "p")
    model.graph.initializer.append(pads)
    model.graph.node[2].input[0] = "padded"
    model.graph.node.insert(2, helper.make_node("Pad", ["n", "p"], ["padded"]))
    model.graph.value_info.append(helper.make_tensor_value_info("padded", TensorProto.FLOAT, ["n", 2, 4, 4]))
    return model.SerializeToString()


def worked_out(model: onnx.ModelProto) -> bytes:
    """A constant as long as the image is bright."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["whole", "zero"], ["length"]),
        helper.make_node("ConstantOfShape", ["length"], ["long"]),
    ]
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    return model.SerializeToString()


def elsewhere(model: onnx.ModelProto, place: str, **more: str) -> bytes:
    """The kernel's numbers are said to be in another file."""
    kernel = model.graph.initializer[0]
    kernel.ClearField("raw_data")
    kernel.data_location = TensorProto.EXTERNAL
    for key, value in {"location": place, **more}.items():
        kernel.external_data.add(key=key, value=value)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: elsewhere(net(), "a\0b"), "which cannot be resolved: embedded null byte"),
        (lambda: elsewhere(net(), "x" * 300), "which cannot be resolved: [Errno 36] File name too long"),
        (lambda: elsewhere(net(), "a", length="9)9"), "which cannot be resolved: invalid literal for int()"),
        (lambda: padded(net()), "what a node Conv outputs cannot be inferred"),
        (lambda: latin_name(net()), "onnx.NodeProto.name is not UTF-8 text"),
        (lambda: undefined(net()), "net.onnx: "),
        (lambda: declared(net(9), TensorProto.BOOL, [2, 1, 1, 1]), "its shapes cannot be inferred: "),
        (lambda: declared(net(9), TensorProto.FLOAT, [3, 1, 1, 1]), "its shapes cannot be inferred: "),
        (lambda: declared(net(21), TensorProto.FLOAT, [3, 1, 1, 1]), "its shapes cannot be inferred: "),
        (lambda: net(v=np.ones(4)).SerializeToString(), "running_var has shape (4,); expected (2,)"),
        (lambda: net(b=np.float32(0)).SerializeToString(), "its bias has shape (); expected (2,)"),
        (
            lambda: net(m=np.zeros(2, np.int64)).SerializeToString(),
            "conv: its batch normalisation's running_mean holds torch.int64; expected floats",
        ),
        (lambda: below_zero(net()), "conv: its batch normalisation has an epsilon of -1e-05"),
        (lambda: holds_nothing(net(), "strides"), "the list 'strides' of a node Conv is empty"),
        (lambda: wide("LRN", size=2**40), "a node LRN needs 17592186044448 values for one image"),
        (
            lambda: wide("Conv", pads=[2**20] * 2 + [2**20 + 1] * 2, strides=[2**20] * 2),
            f"a node Conv needs {(4 + 2**21 + 1) ** 2} values for one image",
        ),
        (lambda: told_otherwise(net()), f"'padded' has {2 * (4 + 2**16) ** 2} values for one image"),
        (lambda: worked_out(net()), "what a node ConstantOfShape outputs cannot be inferred"),
    ],
    ids=[
        "null",
        "long",
        "length",
        "pads",
        "latin-name",
        "undefined",
        "types",
        "shapes",
        "shapes-later",
        "batch-norm",
        "bias",
        "whole-mean",
        "epsilon",
        "empty-list",
        "channels-around",
        "pads-around",
        "told-otherwise",
        "worked-out",
    ],
)
def test_onnx(tmp_path: Path, data: Callable[[], bytes], words: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data())
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_net_itself_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(net().SerializeToString())
    assert load_model(path).layers[0].name == "conv"


def test_sizes_that_depend_on_the_images(tmp_path: Path) -> None:
    """The file leaves height and width open, so how large values become is known with the images."""
    model = net()
    for dim in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dim.dim_param = "any"
    model.graph.node[0].attribute.append(helper.make_attribute("pads", [2500] * 4))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    loaded = load_model(tmp_path / "net.onnx")
    with pytest.raises(InputError, match="net.onnx: a node Conv needs 36000000 values for one image"):
        loaded.check_images((1, 1000, 1000), "images")


@pytest.mark.parametrize("last", [True, False])
def test_a_node_that_puts_out_a_list(tmp_path: Path, last: bool) -> None:
    """onnx2torch makes a list of parts of a Split, also of one part."""
    model = net()
    flatten = model.graph.node[2]
    if last:
        flatten.output[0] = "flat"
        model.graph.node.append(helper.make_node("Split", ["flat"], ["y"], axis=1))
    else:
        flatten.input[0] = "part"
        model.graph.node.insert(2, helper.make_node("Split", ["n"], ["part"], axis=1))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="images: net.onnx "):
        load_model(tmp_path / "net.onnx").check_images((1, 4, 4), "images")


def test_a_net_that_fails_on_some_images(tmp_path: Path) -> None:
    """It takes black images; a bright pixel is the number of a channel that is not there."""
    model = net()
    flatten = model.graph.node[2]
    flatten.input[0] = "taken"
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["bright"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Cast", ["bright"], ["number"], to=TensorProto.INT64),
        helper.make_node("Unsqueeze", ["number", "zero"], ["numbers"]),
        helper.make_node("Gather", ["n", "numbers"], ["taken"], axis=1),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(2, node)
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    loaded = load_model(tmp_path / "net.onnx")
    dark = LabeledImages(np.zeros((3, 1, 4, 4), np.uint8), np.zeros(3, np.int64), name="dark")
    bright = LabeledImages(np.full((3, 1, 4, 4), 9, np.uint8), np.zeros(3, np.int64), name="bright")
    assert loaded.check_images((1, 4, 4), "dark") == 16
    for evaluator in (PlainEvaluator, IncrementalEvaluator):
        with pytest.raises(InputError, match="net.onnx does not take images of "):
            evaluator(loaded, make_split(dark, bright))


def test_a_number_that_is_left_out_is_zero(tmp_path: Path) -> None:
    """As files written by protobuf's third version have it: ``transB`` is there, without its 0. ONNX
    Runtime takes it for 0, and so do we; onnx2torch alone would turn the weights."""
    weights = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], name="dense"),
    ]
    nodes[-1].attribute.append(onnx.AttributeProto(name="transB", type=onnx.AttributeProto.INT))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 1, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [
            numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "k"),
            numpy_helper.from_array(weights, "w"),
        ],
    )
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8), path)
    image = np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1)
    (theirs,) = onnxruntime.InferenceSession(path).run(None, {"x": image})
    np.testing.assert_array_equal(theirs, [[1, 2, 3]])
    np.testing.assert_array_equal(load_model(path).logits(torch.from_numpy(image)), theirs)


def test_a_dense_layer_that_takes_another_number() -> None:
    """Of 2 channels only; such a network cannot be run, and nothing is taken out of it."""
    arrays = {"k": np.ones((2, 1, 1, 1)), "w": np.ones((3, 4))}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    assert compact(model, (1, 4, 4)).removed == {}


@pytest.mark.parametrize("shape", [(2, 3), (1, 2, 3), (2,)])
def test_a_bias_for_each_image_is_left_alone(shape: tuple[int, ...]) -> None:
    """Compaction cannot fold constants into a bias that differs from image to image."""
    arrays = {"k": np.ones((2, 1, 1, 1)), "w": np.ones((2, 3)), "b": np.zeros(shape)}
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], name="conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], name="dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 1, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    assert compact(model, (1, 4, 4)).removed == {}


def test_large_constants_are_no_large_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before IR version 4 constants stand among the inputs; VGG-16 has one of 10^8 numbers."""
    model = onnx.ModelProto.FromString(declared(net(9), TensorProto.FLOAT, [2, 1, 1, 1]))
    large = numpy_helper.from_array(np.zeros(1000, np.float32), "large")
    model.graph.initializer.append(large)
    model.graph.input.append(helper.make_tensor_value_info("large", TensorProto.FLOAT, [1000]))
    monkeypatch.setattr("prune_core.files.onnx_sizes.MAX_VALUES", 100)
    check_sizes(normalized(model, "net"), "net")
    monkeypatch.setattr("prune_core.files.onnx_sizes.MAX_VALUES", 20)
    with pytest.raises(InputError, match="'c' has 32 values for one image"):
        check_sizes(normalized(model, "net"), "net")
