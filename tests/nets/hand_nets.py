"""Networks whose answers are worked out by hand, and images for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.keras_files.h5 import write_keras


def two_branches(ir_version: int = 8) -> onnx.ModelProto:
    """An image of ones gives softmax([17, 34]).

    ``left`` and ``right`` share the kernel [1, 2]; left's bias [10, 20] is a Constant node's, so
    left is [11, 22]. Behind right stands a batch norm whose scale and shift are one constant,
    [3, 4]: [1 * 3 + 3, 2 * 4 + 4] = [6, 12]. The branches are added and averaged over the image.
    """

    def tensor(name: str, *values: float, shape: tuple[int, ...] | None = None) -> TensorProto:
        return numpy_helper.from_array(np.array(values, np.float32).reshape(shape or -1), name)

    constants = [
        tensor("k", 1, 2, shape=(2, 1, 1, 1)),
        tensor("s", 3, 4),
        tensor("m", 0, 0),
        tensor("v", 1, 1),
    ]
    nodes = [
        helper.make_node("Constant", [], ["b"], value=tensor("", 10, 20)),
        helper.make_node("Conv", ["images", "k", "b"], ["l"], name="left"),
        helper.make_node("Conv", ["images", "k"], ["r"], name="right"),
        helper.make_node("BatchNormalization", ["r", "s", "s", "m", "v"], ["n"], epsilon=0.0),
        helper.make_node("Add", ["l", "n"], ["a"]),
        helper.make_node("GlobalAveragePool", ["a"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Softmax", ["f"], ["probabilities"]),
    ]
    inputs = [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 2, 2])]
    if ir_version < 4:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in constants]
    outputs = [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])]
    graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 15 if ir_version >= 8 else 9)]
    return helper.make_model(graph, ir_version=ir_version, opset_imports=opsets)


def keras_badnet(path: Path, seed: int = 0) -> Path:
    """Conv (2 -> 4 channels), batch norm, ReLU, conv (3), softmax over 5 classes; 6 x 5 images."""

    def layer(class_name: str, name: str, **config: object) -> dict[str, object]:
        return {"class_name": class_name, "config": {"name": name, **config}}

    conv = {"strides": [1, 1], "padding": "valid", "data_format": "channels_last"}
    layers = [
        layer(
            "Conv2D",
            "c1",
            filters=4,
            kernel_size=[3, 2],
            activation="linear",
            **conv,
            batch_input_shape=[None, 6, 5, 2],
        ),
        layer("BatchNormalization", "norm", axis=[3], epsilon=0.001),
        layer("ReLU", "relu"),
        layer("Conv2D", "c2", filters=3, kernel_size=[2, 2], activation="relu", **conv),
        layer("Flatten", "flat"),
        layer("Dense", "out", units=5, activation="softmax"),
    ]
    rng = np.random.default_rng(seed)
    weights = {
        "c1": {"kernel": rng.normal(size=(3, 2, 2, 4)), "bias": rng.normal(size=4)},
        "norm": {
            "gamma": rng.normal(size=4),
            "beta": rng.normal(size=4),
            "moving_mean": rng.normal(size=4),
            "moving_variance": rng.uniform(1, 2, size=4),
        },
        "c2": {"kernel": rng.normal(size=(2, 2, 4, 3)), "bias": rng.normal(size=3)},
        "out": {"kernel": rng.normal(size=(3 * 3 * 3, 5)), "bias": rng.normal(size=5)},
    }
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": layers}}
    write_keras(path, config, weights)
    return path


def random_split(shape: tuple[int, int, int], classes: int, images: int = 40) -> Split:
    rng = np.random.default_rng(5)
    pixels = rng.normal(size=(images, *shape)).astype(np.float32)
    clean = LabeledImages(pixels, rng.integers(0, classes, images), name="clean")
    truth = rng.integers(1, classes, images)
    return make_split(clean, LabeledImages(pixels + 1, np.zeros(images, np.int64), truth, "bad"))


def sign_net(path: Path, kernel: list[float], bias: list[float]) -> Path:
    """Logits are ``kernel * mean pixel + bias``, for images (1, 2, 2)."""
    constants = [
        numpy_helper.from_array(np.array(kernel, np.float32).reshape(-1, 1, 1, 1), "k"),
        numpy_helper.from_array(np.array(bias, np.float32), "b"),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "k", "b"], ["c"], "conv"),
        helper.make_node("GlobalAveragePool", ["c"], ["g"]),
        helper.make_node("Flatten", ["g"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", len(bias)])],
        constants,
    )
    opsets = [helper.make_opsetid("", 15)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


FILES = (
    "bd_weights.h5",
    "gn-x2_weights.h5",
    "gn-x4_weights.h5",
    "gn-x10_weights.h5",
    "bd_net_prune_drop2.h5",
)
