"""Every format: out, in again, the same counts; and files that do something else are caught."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hand_nets import FILES, keras_badnet, random_split, two_branches
from networks import random_mask
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file, save_file

from prune_core.data.form import Preprocessing
from prune_core.data.images import make_split, read_images
from prune_core.errors import InputError
from prune_core.evaluation.net_counter import NetCounter
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import FORMATS, costs, measured_again, write_formats
from prune_core.export.n_plus_one_onnx import pair_onnx
from prune_core.export.safetensors import with_safetensors
from prune_core.export.zeroed import MASK_KEY, PREPROCESSING_KEY, ExportMismatch, pruned_onnx
from prune_core.files.constants import constants
from prune_core.masks import ChannelMask
from prune_core.model.model import build_model, load_model


def class_net(kernel: list[float], softmax: bool, output: str) -> onnx.ModelProto:
    """Logits are the mean pixel times ``kernel``."""
    tensor = numpy_helper.from_array(np.array(kernel, np.float32).reshape(-1, 1, 1, 1), "k")
    last = "logits" if softmax else output
    nodes = [
        helper.make_node("Conv", ["images", "k"], ["c"], "conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], [last]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", [last], [output]))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 1, 1])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", len(kernel)])],
        [tensor],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("output", ["y", "scores", "pruned/y"])
def test_the_pair_by_hand(softmax: bool, output: str) -> None:
    """BadNet: class 1 for positive images, 0 for negative ones. Pruned (weight 2 is gone): class 2
    takes part as 0, so it wins where 1 won with -1: images below zero get 2 instead of 0 ... by
    hand: logits [-x, x, -3x] against [-x, x, 0]. x = 1: both say 1. x = -1: 2 (3 > 1) against 0."""
    bad, good = class_net([-1, 1, -3], softmax, output), class_net([-1, 1, 0], softmax, output)
    pair = pair_onnx(bad, good)
    onnx.checker.check_model(pair, full_check=True)
    images = np.array([1, -1, 2], np.float32).reshape(3, 1, 1, 1)
    (scores,) = onnxruntime.InferenceSession(pair.SerializeToString()).run(None, {"images": images})
    assert scores.shape == (3, 4)
    np.testing.assert_array_equal(scores.argmax(axis=1), [1, 3, 1])
    np.testing.assert_array_equal(scores[1], [0, 0, 0, 1])
    agreed = np.exp([-1, 1, 0]) / np.exp([-1, 1, 0]).sum()
    np.testing.assert_allclose(scores[0], [*agreed, 0], rtol=1e-5)


def test_constants_that_are_equal_stand_in_a_pair_once() -> None:
    model = build_model(two_branches(), "", "net")
    pair = pair_onnx(model.proto, pruned_onnx(model, ChannelMask.of({"left": [0]})))
    names = [t.name for t in pair.graph.initializer]
    assert len(names) == len(set(names))
    assert {"s", "m", "v"} <= set(names) and "pruned/s" not in names


def test_no_file_does_what_it_should_not(tmp_path: Path) -> None:
    """Each kind of file is spoilt in turn, and each time that is found."""
    badnet = keras_badnet(tmp_path / "bad.h5")
    model = load_model(badnet)
    mask = ChannelMask.of({"c1": [0, 3], "c2": [1]})
    evaluator = PlainEvaluator(model, random_split((2, 6, 5), 5, images=200))
    pixels = Preprocessing(1 / 255, (0.5,), (0.25,))
    written = write_formats(model, mask, badnet, tmp_path / "good", (2, 6, 5), preprocessing=pixels)
    assert list(written.models) == [kind for kind in FORMATS if kind != "pt2"]
    for kind in ("onnx", "small-onnx", "goodnet-onnx"):
        held = {entry.key: entry.value for entry in onnx.load(written.models[kind]).metadata_props}
        assert json.loads(held[PREPROCESSING_KEY]) == pixels.to_json()
        assert json.loads(held[MASK_KEY]) == mask.to_json()
    expected = evaluator.counts(mask)
    assert expected.clean_correct != evaluator.badnet.clean_correct
    found = measured_again(written, evaluator, expected)
    assert {kind: c["clean_total"] for kind, c in found.items()} == dict.fromkeys(written.models, 200)
    other = write_formats(model, ChannelMask.of({"c2": [0]}), badnet, tmp_path / "other", (2, 6, 5))
    for kind, path in written.models.items():
        right = path.read_bytes()
        path.write_bytes(other.models[kind].read_bytes())
        with pytest.raises(ExportMismatch):
            measured_again(written, evaluator, expected)
        path.write_bytes(right)
    right = written.mask.read_bytes()
    for spoilt in (other.mask.read_bytes(), right[:40], b"[]"):
        written.mask.write_bytes(spoilt)
        with pytest.raises(ExportMismatch, match="good.mask.json"):
            measured_again(written, evaluator, expected)
    written.mask.write_bytes(right)
    found = costs(written, seconds=0.0)
    assert found["small"]["parameters"] < found["pruned"]["parameters"]
    assert found["small"]["bytes"] == written.models["small-onnx"].stat().st_size
    assert min(found[n][t] for n in ("pruned", "small") for t in ("latency_ms", "latency_ms_64")) > 0
    assert found["channels_removed"] == {"c1": [0, 3], "c2": [1]} and found["held_back"] == {}


def test_safetensors_of_another_network(tmp_path: Path) -> None:
    proto = class_net([1, 2], True, "y")
    path = tmp_path / "w.safetensors"
    save_file({"k": np.ones((2, 1, 1, 1), np.float32)}, path)
    changed = with_safetensors(proto, path)
    np.testing.assert_array_equal(numpy_helper.to_array(changed.graph.initializer[0]).ravel(), [1, 1])
    for tensors in (
        {"k": np.ones((2, 1), np.float32)},
        {"k": np.ones((2, 1, 1, 1))},
        {"z": np.ones(1, np.float32)},
    ):
        save_file(tensors, path)
        with pytest.raises(InputError, match=r"w.safetensors: .*\"[kz]\""):
            with_safetensors(proto, path)
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        with_safetensors(proto, path)


ROUND_TRIPS = [(f"csaw/{name}", i % 2 == 0) for i, name in enumerate(FILES)]
ROUND_TRIPS.append(("gtsrb/badnet_resnet20.onnx", False))


@pytest.mark.acceptance
@pytest.mark.parametrize("step", [40, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("name", "keep_bias"), ROUND_TRIPS)
def test_round_trip_in_every_format(
    shared_data: Path, tmp_path: Path, name: str, keep_bias: bool, step: int
) -> None:
    """In, pruned by a random mask, out in every format, in again, on every ``step``-th image."""
    path = shared_data / name
    model = load_model(path)
    clean, poisoned = (
        (images := read_images(path.parent / f"{kind}_test.h5")).keeping(np.arange(0, len(images), step))
        for kind in ("cl", "bd")
    )
    evaluator = PlainEvaluator(model, make_split(clean, poisoned))
    mask = random_mask(model, 0.15, keep_bias, seed=4)
    written = write_formats(model, mask, path, tmp_path / "good", clean.shape)
    expected = evaluator.counts(mask)
    found = measured_again(written, evaluator, expected)
    kinds = [k for k in FORMATS if k != "pt2" and (k != "keras" or path.suffix == ".h5")]
    assert list(found) == kinds
    for kind in kinds:
        if kind != "goodnet-onnx":
            assert found[kind]["attacked"] == expected.attacked
    names = {t.name for t in onnx.load(written.models["onnx"]).graph.initializer}
    assert load_file(written.models["safetensors"]).keys() == names


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "name", ["csaw/bd_weights.h5", "csaw/bd_net_prune_drop2.h5", "gtsrb/badnet_resnet20.onnx"]
)
def test_changed_weights_in_every_format(shared_data: Path, tmp_path: Path, name: str) -> None:
    """As after fine-tuning: every weight another one and some channels pruned. The net of N + 1
    classes still holds the BadNet as it came."""
    path = shared_data / name
    badnet = load_model(path)
    clean, poisoned = (
        (images := read_images(path.parent / f"{kind}_test.h5")).keeping(np.arange(0, len(images), 40))
        for kind in ("cl", "bd")
    )
    judge = PlainEvaluator(badnet, make_split(clean, poisoned))
    dice = np.random.default_rng(5)
    changed = {
        key: (values * dice.uniform(0.9, 1.1, values.shape)).astype(np.float32)
        for key, values in ((k, numpy_helper.to_array(t)) for k, t in constants(badnet.proto.graph).items())
        if values.dtype.kind == "f" and values.ndim >= 2
    }
    assert len(changed) > 4
    net, mask = badnet.with_weights(changed), random_mask(badnet, 0.05, False, seed=4)
    assert net.digest != badnet.digest
    expected = NetCounter(badnet, judge)(mask, changed)
    written = write_formats(net, mask, path, tmp_path / "good", clean.shape)
    found = measured_again(written, judge, expected)
    assert expected.margin != judge.counts(mask).margin
    for kind, counted in found.items():
        if kind != "goodnet-onnx":
            assert counted["clean_correct"] == expected.clean_correct


def _mean_net(opset: int, kind: type, how: str = "flatten") -> onnx.ModelProto:
    """Two convolutions and a dense layer on images (3, 6, 6), 4 classes. ``how`` rows are made of
    images: by Flatten, or as tf2onnx does it for an open number of images behind a transposition."""
    rng = np.random.default_rng(1)
    weights = {
        "half": np.array(0.5),
        "k1": rng.normal(size=(5, 3, 3, 3)) / 3,
        "k2": rng.normal(size=(8, 5, 3, 3)) / 3,
        "w": rng.normal(size=(32, 4)) / 8,
        "last": rng.normal(size=4) / 8,
    }
    nodes = [
        helper.make_node("Mul", ["images", "half"], ["x"]),
        helper.make_node("Conv", ["x", "k1"], ["c1"], "conv_1"),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2"], ["c2"], "conv_2"),
        helper.make_node("Relu", ["c2"], ["r2"]),
    ]
    held = [numpy_helper.from_array(np.asarray(v, kind), k) for k, v in weights.items()]
    if how == "flatten":
        nodes.append(helper.make_node("Flatten", ["r2"], ["f"]))
    else:
        for name, values in {"zero": [0], "one": [1]}.items():
            held.append(numpy_helper.from_array(np.array(values, np.int64), name))
        held.append(numpy_helper.from_array(np.array([-1], np.int32), "rest"))
        nodes += [
            helper.make_node("Transpose", ["r2"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Shape", ["t"], ["s"]),
            helper.make_node("Cast", ["s"], ["s32"], to=TensorProto.INT32),
            helper.make_node("Slice", ["s32", "zero", "one", "zero"], ["n32"]),
            helper.make_node("Concat", ["n32", "rest"], ["to32"], axis=0),
            helper.make_node("Cast", ["to32"], ["to"], to=TensorProto.INT64),
            helper.make_node("Reshape", ["t", "to"], ["f"]),
        ]
    nodes += [
        helper.make_node("MatMul", ["f", "w"], ["m"]),
        helper.make_node("Add", ["m", "last"], ["logits"]),
    ]
    number = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", number, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("logits", number, ["n", 4])],
        held,
    )
    ir = 4 if opset < 11 else 8
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


@pytest.mark.parametrize(
    "opset, kind, how",
    [
        (9, np.float32, "flatten"),
        (10, np.float32, "flatten"),
        (13, np.float16, "flatten"),
        (13, np.float32, "by its shape"),
        (18, np.float32, "flatten"),
        (21, np.float32, "by its shape"),
    ],
)
def test_every_file_loads_in_onnx_runtime_whatever_the_network_is_made_of(
    opset: int, kind: type, how: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(_mean_net(opset, kind, how), path)
    model, mask = load_model(path), ChannelMask.of({"conv_1": [0], "conv_2": [1, 6]})
    written = write_formats(model, mask, path, tmp_path / "good", (3, 6, 6))
    plain = PlainEvaluator(model, random_split((3, 6, 6), 4))
    if kind is np.float32:
        measured_again(written, plain, plain.counts(mask))
    assert written.small.removed == mask.by_layer()
    images = np.random.default_rng(2).normal(size=(3, 3, 6, 6)).astype(kind)
    with model.pruned(mask):
        wanted = model.logits(torch.from_numpy(images.astype(np.float32))).numpy()
    for file in ("onnx", "small-onnx"):
        (found,) = onnxruntime.InferenceSession(written.models[file]).run(None, {"images": images})
        np.testing.assert_allclose(found, wanted, atol=1e-5 if kind is np.float32 else 1e-2)
    pair = onnxruntime.InferenceSession(written.models["goodnet-onnx"])
    assert pair.run(None, {"images": images})[0].shape == (3, 5)
