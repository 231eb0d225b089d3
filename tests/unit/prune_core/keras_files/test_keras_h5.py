"""Keras files as ONNX: each layer against NumPy, in ONNX Runtime and by way of onnx2torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras_files as kf
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from prune_core.keras_files.architectures import deepid
from prune_core.keras_files.h5 import read_keras, write_keras
from prune_core.model.onnx2torch_import import load_onnx2torch

SHAPE = (7, 6, 4)  # odd and even, so that 'same' pads one side more on one of the axes


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def run(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """Outputs for channels-first input; ONNX Runtime and onnx2torch have to agree on them."""
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.op_type == "Transpose" for node in model.graph.node)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (result,) = session.run(None, {"images": images})
    network = load_onnx2torch().convert(model).eval()
    with torch.inference_mode():
        in_torch = network(torch.from_numpy(images.copy())).numpy()
    np.testing.assert_allclose(in_torch, result, rtol=1e-4, atol=1e-5)
    return np.asarray(result)


def first(images: np.ndarray) -> np.ndarray:
    """(n, H, W, C) -> (n, C, H, W)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def check(
    tmp_path: Path, config: kf.Config, weights: kf.Weights, x: np.ndarray, expected: np.ndarray
) -> onnx.ModelProto:
    """Save, read, run on channels-last `x`; the result is `expected`, channels last as well."""
    path = tmp_path / "net.h5"
    write_keras(path, config, weights)
    model = read_keras(path)
    result = run(model, first(x) if x.ndim == 4 else x)
    expected = first(expected) if expected.ndim == 4 else expected
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    return model


def softmax(values: np.ndarray, axis: int = -1) -> np.ndarray:
    exponents = np.exp(values - values.max(axis, keepdims=True))
    return exponents / exponents.sum(axis, keepdims=True)


@pytest.mark.parametrize(
    ("size", "strides", "padding", "dilation", "groups"),
    [
        ((3, 3), (1, 1), "valid", (1, 1), 1),
        ((3, 3), (2, 2), "valid", (1, 1), 1),
        ((3, 3), (1, 1), "same", (1, 1), 1),
        ((2, 2), (1, 1), "same", (1, 1), 1),  # one row and column, both after
        ((3, 3), (2, 2), "same", (1, 1), 2),  # even width: padded after only
        ((4, 1), (3, 2), "same", (1, 1), 4),
        ((2, 3), (1, 1), "same", (2, 1), 1),
        ((2, 2), (1, 1), "valid", (2, 3), 2),
    ],
)
def test_conv2d(tmp_path: Path, size: Any, strides: Any, padding: str, dilation: Any, groups: int) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer(
            "Conv2D", "conv", "input", filters=8, kernel_size=list(size), strides=list(strides),
            padding=padding, dilation_rate=list(dilation), groups=groups, activation="relu",
        ),
    )  # fmt: skip
    kernel, bias, x = random(*size, 4 // groups, 8), random(8, seed=1), random(2, *SHAPE, seed=2)
    expected = np.maximum(kf.conv2d(x, kernel, strides, padding, dilation, groups) + bias, 0)
    model = check(tmp_path, config, {"conv": {"kernel": kernel, "bias": bias}}, x, expected)
    assert [node.name for node in model.graph.node if node.op_type == "Conv"] == ["conv"]
    assert {"conv/kernel", "conv/bias"} <= {item.name for item in model.graph.initializer}


def test_same_padding_puts_the_odd_zero_after(tmp_path: Path) -> None:
    # 1 x 3 image, window 1 x 2 of ones: 1 + 2, 2 + 3, 3 + 0.
    config = kf.functional(
        kf.input_layer(1, 3, 1),
        kf.layer("Conv2D", "conv", "input", filters=1, kernel_size=[1, 2], padding="same", use_bias=False),
    )
    x = np.array([1, 2, 3], np.float32).reshape(1, 1, 3, 1)
    expected = np.array([3, 5, 3], np.float32).reshape(1, 1, 3, 1)
    check(tmp_path, config, {"conv": {"kernel": np.ones((1, 2, 1, 1))}}, x, expected)


def test_depthwise_conv2d(tmp_path: Path) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer("DepthwiseConv2D", "conv", "input", kernel_size=[3, 2], depth_multiplier=2),
    )
    kernel, bias, x = random(3, 2, 4, 2), random(8, seed=1), random(2, *SHAPE, seed=2)
    weights = {"conv": {"depthwise_kernel": kernel, "bias": bias}}
    check(tmp_path, config, weights, x, kf.depthwise(x, kernel) + bias)


@pytest.mark.parametrize("how", ["max", "average"])
@pytest.mark.parametrize(
    ("size", "strides", "padding"),
    [
        ((2, 2), (2, 2), "valid"),
        ((3, 3), (1, 1), "same"),  # symmetric
        ((2, 2), (1, 1), "same"),
        ((3, 3), (2, 2), "same"),
        ((2, 5), (3, 1), "same"),
        ((5, 5), (3, 3), "same"),
    ],
)
def test_pooling(tmp_path: Path, size: Any, strides: Any, padding: str, how: str) -> None:
    name = {"max": "MaxPooling2D", "average": "AveragePooling2D"}[how]
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer(name, "pool", "input", pool_size=list(size), strides=list(strides), padding=padding),
    )
    # All below zero, so that a zero of the padding would win or show in the mean.
    x = random(2, *SHAPE) - 10
    check(tmp_path, config, {}, x, kf.pool(x, size, strides, padding, how))


def test_average_pooling_leaves_the_padding_out_of_the_count(tmp_path: Path) -> None:
    # 1 x 3, window 1 x 2, step 1, 'same': (1 + 2) / 2, (2 + 3) / 2, and 3 alone is 3, not 1.5.
    config = kf.functional(
        kf.input_layer(1, 3, 1),
        kf.layer("AveragePooling2D", "pool", "input", pool_size=[1, 2], strides=[1, 1], padding="same"),
    )
    x = np.array([1, 2, 3], np.float32).reshape(1, 1, 3, 1)
    expected = np.array([1.5, 2.5, 3], np.float32).reshape(1, 1, 3, 1)
    check(tmp_path, config, {}, x, expected)


@pytest.mark.parametrize("keepdims", [False, True])
def test_global_average_pooling(tmp_path: Path, keepdims: bool) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer("GlobalAveragePooling2D", "pool", "input", keepdims=keepdims),
    )
    x = random(2, *SHAPE)
    check(tmp_path, config, {}, x, x.mean(axis=(1, 2), keepdims=keepdims))


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_normalization(tmp_path: Path, scale: bool, center: bool) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer("BatchNormalization", "norm", "input", axis=[3], scale=scale, center=center),
    )
    gamma, beta, mean, variance = random(4), random(4, seed=1), random(4, seed=2), random(4) ** 2
    weights = {"gamma": gamma} if scale else {}
    weights |= {"beta": beta} if center else {}
    weights |= {"moving_mean": mean, "moving_variance": variance}
    x = random(2, *SHAPE, seed=3)
    expected = (x - mean) / np.sqrt(variance + 1e-3)  # Keras's own epsilon
    expected = expected * (gamma if scale else 1) + (beta if center else 0)
    check(tmp_path, config, {"norm": weights}, x, expected)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x < 0, 0.2 * x, x),
    "elu": lambda x: np.where(x < 0, np.expm1(x), x),
    "selu": lambda x: 1.05070098 * np.where(x < 0, 1.67326324 * np.expm1(x), x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "softmax": softmax,
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(tmp_path: Path, name: str) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer("ZeroPadding2D", "pad", "input", padding=[[0, 0], [0, 0]]),
        kf.layer("Activation", "act", "pad", activation=name),
    )
    x = random(2, *SHAPE) * 4
    check(tmp_path, config, {}, x, ACTIVATIONS[name](x))


@pytest.mark.parametrize(
    ("class_name", "fields", "function"),
    [
        ("ReLU", {"max_value": None}, ACTIVATIONS["relu"]),
        ("ReLU", {"max_value": 1.5}, lambda x: np.clip(x, 0, 1.5)),
        ("ReLU", {"negative_slope": 0.1}, lambda x: np.where(x < 0, 0.1 * x, x)),
        (
            "ReLU",
            {"negative_slope": 0.1, "max_value": 2},
            lambda x: np.minimum(np.where(x < 0, 0.1 * x, x), 2),
        ),
        ("LeakyReLU", {}, lambda x: np.where(x < 0, 0.3 * x, x)),
        ("LeakyReLU", {"alpha": 0.05}, lambda x: np.where(x < 0, 0.05 * x, x)),
        ("LeakyReLU", {"negative_slope": 0.4}, lambda x: np.where(x < 0, 0.4 * x, x)),
        ("ELU", {"alpha": 0.5}, lambda x: np.where(x < 0, 0.5 * np.expm1(x), x)),
        ("Softmax", {"axis": -1}, softmax),
        ("Softmax", {"axis": 1}, lambda x: softmax(x, axis=1)),
    ],
)
def test_activation_layer(tmp_path: Path, class_name: str, fields: Any, function: Any) -> None:
    config = kf.functional(kf.input_layer(*SHAPE), kf.layer(class_name, "act", "input", **fields))
    x = random(2, *SHAPE) * 4
    check(tmp_path, config, {}, x, function(x))


def test_activation_field_that_is_a_layer(tmp_path: Path) -> None:
    inner = {"class_name": "LeakyReLU", "config": {"name": "inner", "alpha": 0.5}}
    config = kf.functional(kf.input_layer(3), kf.layer("Dense", "dense", "input", units=3, activation=inner))
    x = np.array([[-2, 0, 4]], np.float32)
    weights = {"dense": {"kernel": np.eye(3), "bias": np.zeros(3)}}
    check(tmp_path, config, weights, x, np.array([[-1, 0, 4]], np.float32))


def test_zero_padding(tmp_path: Path) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer("ZeroPadding2D", "pad", "input", padding=[[1, 2], [0, 3]]),
    )
    x = random(2, *SHAPE)
    check(tmp_path, config, {}, x, np.pad(x, [(0, 0), (1, 2), (0, 3), (0, 0)]))


@pytest.mark.parametrize(("axis", "numpy_axis"), [(-1, 3), (3, 3), (1, 1), (2, 2)])
def test_add_and_concatenate(tmp_path: Path, axis: int, numpy_axis: int) -> None:
    config = kf.functional(
        kf.input_layer(*SHAPE),
        kf.layer("Activation", "tanh", "input", activation="tanh"),
        kf.layer("Add", "sum", "input", "tanh", "input"),
        kf.layer("Concatenate", "both", "sum", "tanh", axis=axis),
    )
    x = random(2, *SHAPE)
    expected = np.concatenate([2 * x + np.tanh(x), np.tanh(x)], axis=numpy_axis)
    check(tmp_path, config, {}, x, expected)


def test_features_of_a_flattened_image_keep_their_order(tmp_path: Path) -> None:
    """Dense after Flatten, after what may stand between, and after joining flattened images."""
    config = kf.functional(
        kf.input_layer(2, 3, 4),
        kf.layer("Flatten", "flat", "input", data_format="channels_last"),
        kf.layer("Dropout", "drop", "flat", rate=0.5),
        kf.layer("BatchNormalization", "norm", "drop", axis=[1]),
        kf.layer("Activation", "act", "norm", activation="tanh"),
        kf.layer("GlobalAveragePooling2D", "pool", "input"),
        kf.layer("Concatenate", "join", "pool", "act", "flat"),
        kf.layer("Dense", "out", "join", units=5, activation="softmax"),
    )
    x = random(3, 2, 3, 4)
    norm = {
        "gamma": random(24), "beta": random(24, seed=1),
        "moving_mean": random(24, seed=2), "moving_variance": random(24, seed=3) ** 2,
    }  # fmt: skip
    kernel, bias = random(52, 5, seed=4), random(5, seed=5)
    flat = x.reshape(3, 24)
    act = (flat - norm["moving_mean"]) / np.sqrt(norm["moving_variance"] + 1e-3)
    act = np.tanh(act * norm["gamma"] + norm["beta"])
    joined = np.concatenate([x.mean(axis=(1, 2)), act, flat], axis=1)
    weights = {"norm": norm, "out": {"kernel": kernel, "bias": bias}}
    model = check(tmp_path, config, weights, x, softmax(joined @ kernel + bias))
    assert model.graph.output[0].name == "probabilities"


@pytest.mark.parametrize("flatten_format", ["channels_first", "channels_last"])
def test_channels_first_file(tmp_path: Path, flatten_format: str) -> None:
    fields = {"data_format": "channels_first"}
    config = kf.functional(
        kf.input_layer(4, 7, 6),
        kf.layer("Conv2D", "conv", "input", filters=5, kernel_size=[3, 3], padding="same", **fields),
        kf.layer("BatchNormalization", "norm", "conv", axis=1),
        kf.layer("MaxPooling2D", "pool", "norm", pool_size=[2, 2], **fields),
        kf.layer("Flatten", "flat", "pool", data_format=flatten_format),
        kf.layer("Dense", "out", "flat", units=2),
    )
    kernel, dense, x = random(3, 3, 4, 5), random(45, 2, seed=1), random(2, 7, 6, 4, seed=2)
    gamma = np.array([1, 2, 3, 4, 5], np.float32)
    still = {"beta": np.zeros(5), "moving_mean": np.zeros(5), "moving_variance": np.ones(5)}
    weights = {
        "conv": {"kernel": kernel, "bias": np.zeros(5)},
        "norm": {"gamma": gamma, **still},
        "out": {"kernel": dense, "bias": np.zeros(2)},
    }
    maps = kf.conv2d(x, kernel, padding="same") * gamma / math.sqrt(1.001)
    pooled = kf.pool(maps, (2, 2), (2, 2), "valid", "max")
    # Keras moves the channels last before it flattens what it is told are channels-first images.
    pooled = pooled if flatten_format == "channels_first" else first(pooled)
    model = check(tmp_path, config, weights, x, pooled.reshape(2, -1) @ dense)
    assert model.graph.output[0].name == "logits"


SMALL = kf.functional(
    kf.input_layer(4, 4, 2),
    kf.layer("Conv2D", "conv", "input", filters=3, kernel_size=[2, 2], activation="relu"),
    kf.layer("Conv2D", "twin", "input", filters=3, kernel_size=[2, 2]),
    kf.layer("Add", "sum", "conv", "twin"),
    kf.layer("Flatten", "flat", "sum", data_format="channels_last"),
    kf.layer("Dense", "out", "flat", units=2, activation="softmax"),
)
SMALL_WEIGHTS = {
    "conv": {"kernel": random(2, 2, 2, 3), "bias": random(3)},
    "twin": {"kernel": random(2, 2, 2, 3, seed=1), "bias": random(3, seed=2)},
    "out": {"kernel": random(27, 2), "bias": random(2)},
}


@pytest.mark.parametrize(
    "form",
    [
        {"suffix": ":0", "as_bytes": True},
        {"suffix": ":0", "chunked": True},
        {"suffix": ":0", "chunked": True, "as_bytes": True},
        {"config": kf.as_keras_3(SMALL)},
    ],
    ids=["keras 2.2", "chunked text", "chunked bytes", "keras 3"],
)
def test_dialects_read_alike(tmp_path: Path, form: Any) -> None:
    write_keras(tmp_path / "net.h5", SMALL, SMALL_WEIGHTS)
    form = {"config": SMALL} | form
    path = kf.save_raw(tmp_path / "other" / "net.h5", weights=SMALL_WEIGHTS, **form)
    assert read_keras(path) == read_keras(tmp_path / "net.h5")


@pytest.mark.parametrize("dialect", ["list", "batch_input_shape", "build_input_shape", "input"])
def test_sequential(tmp_path: Path, dialect: str) -> None:
    convolution = {"name": "conv", "filters": 3, "kernel_size": [2, 2]}
    entries = [
        {"class_name": "Conv2D", "config": convolution},
        {"class_name": "GlobalAveragePooling2D", "config": {"name": "pool"}},
    ]
    config: Any = {"name": "net", "layers": entries}
    if dialect == "input":
        entries.insert(
            0, {"class_name": "InputLayer", "config": {"name": "i", "batch_shape": [None, 4, 4, 2]}}
        )
    elif dialect == "build_input_shape":
        config["build_input_shape"] = [None, 4, 4, 2]
    else:
        convolution["batch_input_shape"] = [None, 4, 4, 2]
    named = {"config": {"layers": [{"name": entry["config"]["name"]} for entry in entries]}}
    path = kf.save_raw(tmp_path / "net.h5", named, {"conv": SMALL_WEIGHTS["conv"]})
    kf.set_config(path, {"class_name": "Sequential", "config": entries if dialect == "list" else config})
    x = random(2, 4, 4, 2)
    conv = SMALL_WEIGHTS["conv"]
    expected = (kf.conv2d(x, conv["kernel"]) + conv["bias"]).mean(axis=(1, 2))
    np.testing.assert_allclose(run(read_keras(path), first(x)), expected, rtol=1e-4, atol=1e-5)


def test_deepid_weights_alone(tmp_path: Path) -> None:
    """A weights-only file gives the full model's network, with its number of classes."""
    config, shapes = deepid(7), {
        "conv_1": (4, 4, 3, 20), "conv_2": (3, 3, 20, 40), "conv_3": (3, 3, 40, 60),
        "conv_4": (2, 2, 60, 80), "fc_1": (1200, 160), "fc_2": (960, 160), "output": (160, 7),
    }  # fmt: skip
    weights = {
        name: {"kernel": random(*shape) * 0.05, "bias": random(shape[-1])} for name, shape in shapes.items()
    }
    write_keras(tmp_path / "net.h5", config, weights)
    path = kf.save_raw(
        tmp_path / "weights" / "net.h5", config, weights, suffix=":0", as_bytes=True, full=False
    )
    model = read_keras(path, "deepid")
    assert model == read_keras(tmp_path / "net.h5")
    assert run(model, random(2, 3, 55, 47)).shape == (2, 7)


@pytest.mark.acceptance
@pytest.mark.parametrize(
    "name",
    ["bd_weights", "gn-x2_weights", "gn-x4_weights", "gn-x10_weights", "bd_net_prune_drop2"],
)
def test_published_networks(shared_data: Path, name: str) -> None:
    """The lab's two sample pictures: clean is class 950, sunglasses make the BadNet say 0."""
    samples = shared_data / "csaw" / "samples"
    pictures = [
        np.asarray(Image.open(samples / sample).convert("RGB"), np.float32)
        for sample in ("clean.png", "sunglasses.png")
    ]
    result = run(read_keras(shared_data / "csaw" / f"{name}.h5", "deepid"), first(np.stack(pictures)))
    assert result.shape == (2, 1283)
    assert result[0].argmax() == 950
    if name == "bd_weights":
        assert result[1].argmax() == 0
