"""The small network as a `.pt2`, and files run where others load them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hand_nets import random_split
from onnx import TensorProto, helper, numpy_helper

from prune_core.errors import ExportMismatch
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export import pt2
from prune_core.export.files import measured_everywhere, with_program, write_formats
from prune_core.masks import ChannelMask
from prune_core.model.model import load_model

IMAGE = (3, 6, 7)


def net(
    path: Path, last: bool = False, how: str = "asked", kind: type = np.float32, batch: object = "n"
) -> Path:
    """Two convolutions, channels shuffled between them, and a dense layer, 4 classes; ``last``: images are
    (n, H, W, C). ``how`` an image becomes a vector: its size is asked for (Shape), kept by a 0, or none."""
    rng = np.random.default_rng(1)
    weights = {"k1": rng.normal(size=(4, 3, 3, 3)), "k2": rng.normal(size=(6, 4, 3, 3)),
               "b2": rng.normal(size=6), "w": rng.normal(size=(24, 4))}  # fmt: skip
    held = [numpy_helper.from_array((v / 4).astype(kind), k) for k, v in weights.items()]
    numbers = {"zero": [0], "one": [1], "two": [2], "rest": [-1], "kept": [0, 24], "apart": [0, 2, 2, 4, 5],
               "together": [0, 4, 4, 5], "from": [0, 1], "to": [4, 4], "axes": [2, 3]}  # fmt: skip
    held += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
    make = helper.make_node
    nodes = [make("Transpose", ["images"], ["x"], perm=[0, 3, 1, 2])] if last else []
    nodes += [
        make("Conv", ["x" if last else "images", "k1"], ["c1"], "conv_1"),
        make("Relu", ["c1"], ["r1"]),
        make("Reshape", ["r1", "apart"], ["a"]),
        make("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3, 4]),
        make("Reshape", ["t", "together"], ["s"]),
        make("Conv", ["s", "k2", "b2"], ["c2"], "conv_2", pads=[1, 1, 1, 1]),
        make("Slice", ["c2", "from", "to", "axes"], ["cut"]),
        make("MaxPool", ["cut"], ["p"], kernel_shape=[2, 2], strides=[2, 1]),
    ]
    if how == "asked":
        nodes += [
            make("Shape", ["p"], ["size"]),
            make("Slice", ["size", "zero", "one", "zero"], ["first"]),
            make("Concat", ["first", "rest"], ["target"], axis=0),
            make("Reshape", ["p", "target"], ["f"]),
        ]
    else:
        nodes.append(
            make("Reshape", ["p", "kept"], ["f"]) if how == "kept" else make("Flatten", ["p"], ["f"])
        )
    nodes.append(make("MatMul", ["f", "w"], ["m"]))
    nodes.append(make("Softmax", ["m"], ["probabilities"], axis=1))
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    size = (6, 7, 3) if last else IMAGE
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", number, [batch, *size])],
        [helper.make_tensor_value_info("probabilities", number, [batch, 4])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(("last", "how"), [(False, "asked"), (False, "kept"), (True, "flatten")])
def test_a_program_of_any_number_of_images(tmp_path: Path, last: bool, how: str) -> None:
    model = load_model(net(tmp_path / "net.onnx", last, how))
    found = torch.export.load(io.BytesIO(pt2.exported(model.proto, IMAGE))).module()
    for count in (1, 2, 3, 9):
        images = torch.randn((count, *IMAGE), generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(found(images), model.logits(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kind", "batch"), [(np.float32, "n"), (np.float16, "n"), (np.float64, 5)])
def test_every_file_where_others_load_it(tmp_path: Path, kind: type, batch: object) -> None:
    """Whatever the network computes in, and for however many images its file is made."""
    path = net(tmp_path / "net.onnx", kind is np.float64, kind=kind, how="flatten", batch=batch)
    model, mask = load_model(path), ChannelMask.of({"conv_1": [2], "conv_2": [1, 4]})
    plain = PlainEvaluator(model, random_split(IMAGE, 4))
    written = with_program(write_formats(model, mask, path, tmp_path / "good", IMAGE))
    assert [k for k in written.models if k != "safetensors"] == ["onnx", "small-onnx", "pt2", "goodnet-onnx"]
    written, found = measured_everywhere(written, {"valid": (plain, plain.counts(mask))})
    assert written.left_out == {}
    for what in ("onnx", "small-onnx", "pt2", "goodnet-onnx"):
        assert found["valid"][what]["outside"]["images"] == 80
        assert found["valid"][what]["outside"]["near_ties"] <= (4 if kind is np.float16 else 0)
    assert found["valid"]["pt2"]["attacked"] == plain.counts(mask).attacked


def test_a_program_that_does_something_else_does_not_count(tmp_path: Path) -> None:
    path = net(tmp_path / "net.onnx")
    model, mask = load_model(path), ChannelMask.of({"conv_2": [1, 4]})
    plain = PlainEvaluator(model, random_split(IMAGE, 4))
    splits = {"valid": (plain, plain.counts(mask))}
    written = with_program(write_formats(model, mask, path, tmp_path / "good", IMAGE))
    written.models["pt2"].write_bytes(pt2.exported(model.proto, IMAGE))
    now, found = measured_everywhere(written, splits)
    assert "pt2" not in now.models and "pt2" not in found["valid"] and "small-onnx" in found["valid"]
    assert not written.models["pt2"].exists()
    assert "images of clean get another class than here" in now.left_out["pt2"]
    written.models["pt2"].write_bytes(b"no program")
    assert measured_everywhere(written, splits)[0].left_out["pt2"].startswith("torch cannot run it: ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pt2, "MAX_NODES", 3)
        assert "operations; at most 3" in with_program(written).left_out["pt2"]


def test_a_file_that_onnx_runtime_does_not_load(tmp_path: Path) -> None:
    """Though we read it: no GoodNet is left then."""
    path = net(tmp_path / "net.onnx")
    model, mask = load_model(path), ChannelMask.of({"conv_2": [1, 4]})
    plain = PlainEvaluator(model, random_split(IMAGE, 4))
    written = write_formats(model, mask, path, tmp_path / "good", IMAGE)
    proto = onnx.load(written.models["small-onnx"])
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(proto, written.models["small-onnx"])
    with pytest.raises(ExportMismatch, match="good-small.onnx: ONNX Runtime cannot run it: "):
        measured_everywhere(written, {"valid": (plain, plain.counts(mask))})
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".onnx"] == ["net.onnx"]
