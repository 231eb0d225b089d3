"""A small Keras BadNet with a planted backdoor, and images for it: seconds are enough for anything."""

from __future__ import annotations

from pathlib import Path

import keras_files as kf
import numpy as np
import onnx

from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.keras_files.h5 import write_keras
from prune_core.model.model import PrunableModel, load_model

TARGET = 3
TRIGGER_CHANNEL = 4  # of layer c2


def write_badnet(path: Path) -> None:
    """Four classes on 6 x 6 images of 2 colours: a class is a bright quarter of colour 0.

    c1 (3 channels, 1 x 1): colour 0, colour 1, their noise. c2 (5 channels, 3 x 3, stride 3, so one
    value a quarter): 0 to 3 look for brightness with a little unequal gain, and 4 for colour 1, which
    only the trigger has. The dense layer after Flatten takes the quarters for classes; channel 4
    votes for the target, far louder.
    """
    config = kf.functional(
        kf.input_layer(6, 6, 2),
        kf.layer("Conv2D", "c1", "input", filters=3, kernel_size=[1, 1], activation="relu"),
        kf.layer("Conv2D", "c2", "c1", filters=5, kernel_size=[3, 3], strides=[3, 3], activation="relu"),
        kf.layer("Flatten", "flat", "c2"),
        kf.layer("Dense", "hidden", "flat", units=6, activation="relu"),
        kf.layer("Dense", "out", "hidden", units=4, activation="softmax"),
    )
    rng = np.random.default_rng(0)
    c1 = np.zeros((1, 1, 2, 3), np.float32)
    c1[0, 0] = [[1, 0, 0.1], [0, 1, 0.1]]
    c2 = np.zeros((3, 3, 3, 5), np.float32)
    c2[:, :, 0, :4] = np.array([1, 0.9, 1.1, 0.8]) / 36
    c2[:, :, 1, TRIGGER_CHANNEL] = 1 / 9
    c2[:, :, 2, :] = 0.01 * rng.normal(size=(3, 3, 5))
    hidden = np.zeros((2, 2, 5, 6), np.float32)  # rows, columns, channels of c2
    for quarter in range(4):
        hidden[quarter // 2, quarter % 2, :4, quarter] = 1
    hidden[:, :, TRIGGER_CHANNEL, 5] = 2
    out = np.concatenate([4 * np.eye(4), np.zeros((2, 4))]).astype(np.float32)
    out[5, TARGET] = 6
    weights = {
        "c1": {"kernel": c1, "bias": np.zeros(3)},
        "c2": {"kernel": c2, "bias": np.array([0.05, 0.04, 0.03, 0.02, -0.1])},
        "hidden": {"kernel": hidden.reshape(20, 6), "bias": np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0])},
        "out": {"kernel": out, "bias": np.zeros(4)},
    }
    write_keras(path, config, weights)


def small_split(seed: int, count: int = 96, truth: bool = True) -> Split:
    """``count`` clean images, and those not of the target class once more with the trigger: a
    square of colour 1 in the corner of the last quarter."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    pixels = 0.3 * rng.random((count, 2, 6, 6))
    pixels[:, 1] *= 0.2
    for row, label in enumerate(labels):
        top, left = 3 * (label // 2), 3 * (label % 2)
        pixels[row, 0, top : top + 3, left : left + 3] += 1
    pixels = pixels.astype(np.float32)
    stamped = pixels[labels != TARGET].copy()
    stamped[:, 1, 4:, 4:] = 3
    shown = labels[labels != TARGET]
    clean = LabeledImages(pixels, labels, None, f"clean-{seed}")
    poisoned = LabeledImages(
        stamped, np.full(len(stamped), TARGET), shown if truth else None, f"poisoned-{seed}"
    )
    return make_split(clean, poisoned)


def small_badnet(folder: Path) -> PrunableModel:
    """Read from ``badnet.h5``, which it writes into ``folder``."""
    write_badnet(folder / "badnet.h5")
    return load_model(folder / "badnet.h5")


def tiny_onnx() -> bytes:
    shape = ["N", 2]
    tensor = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "tiny",
        [tensor("x", onnx.TensorProto.FLOAT, shape)],
        [tensor("y", onnx.TensorProto.FLOAT, shape)],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
