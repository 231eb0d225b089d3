"""The network and the images on which orders and policies are checked."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.model.model import PrunableModel, build_model

CLASSES, TARGET = 3, 1
# Not in the network's order, and not all channels: an order must go by what it is given.
LAYER_SET = [("third", [0, 1, 2, 3]), ("first", [1, 3, 4]), ("second", [0, 1, 2, 3, 4])]


def tiny_net() -> PrunableModel:
    """Images (n, 2, 6, 6) to three classes: conv (5), batch norm, ReLU; conv (6), ReLU; conv (4), ReLU;
    dense. The weights are drawn by a fixed seed."""
    draw = np.random.default_rng(7)
    constants = {
        "k1": draw.normal(size=(5, 2, 3, 3)),
        "b1": draw.normal(size=5),
        "scale": draw.uniform(0.5, 1.5, 5),
        "shift": draw.normal(size=5),
        "mean": draw.normal(size=5),
        "variance": draw.uniform(0.5, 1.5, 5),
        "k2": draw.normal(size=(6, 5, 3, 3)) / 3,
        "b2": draw.normal(size=6),
        "k3": draw.normal(size=(4, 6, 1, 1)),
        "b3": draw.normal(size=4),
        "w": draw.normal(size=(CLASSES, 4 * 6 * 6)) / 20,
        "b": draw.normal(size=CLASSES) / 80 - np.array([-6.57, 0.46, -4.88]),  # no class is the usual one
    }
    padded: dict[str, Any] = {"pads": [1, 1, 1, 1], "kernel_shape": [3, 3]}
    nodes = [
        helper.make_node("Conv", ["images", "k1", "b1"], ["c1"], name="first", **padded),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "variance"], ["n1"]),
        helper.make_node("Relu", ["n1"], ["r1"]),
        helper.make_node("Conv", ["r1", "k2", "b2"], ["c2"], name="second", **padded),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "k3", "b3"], ["c3"], name="third"),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("Flatten", ["r3"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 15)])
    onnx.checker.check_model(proto)
    return build_model(proto, "tiny-net", "tiny net")


def images_for(needs: str, seed: int = 0, count: int = 48) -> Split:
    """Images that give an order what it declares to need, and no more: pairs and true labels only where
    those are needed. Clean labels are what the network says, but for a few. Arrays are read-only, as those
    of a worker are."""
    draw = np.random.default_rng([seed, 11])
    pixels = draw.normal(size=(count, 2, 6, 6)).astype(np.float32)
    labels = draw.integers(0, CLASSES, count)
    labels[:36] = _said(pixels)[:36]
    shown = labels != TARGET
    base = pixels[shown] if "pairs" in needs or "true" in needs else draw.normal(size=pixels[shown].shape)
    stamped = base.astype(np.float32)
    stamped[:, 0, 3:, 3:] += 3.0
    truth = labels[shown] if "true" in needs else None
    split = make_split(
        LabeledImages(pixels, labels, None, "clean"),
        LabeledImages(stamped, np.full(len(stamped), TARGET), truth, "poisoned"),
    )
    for images in (split.clean, split.poisoned):
        for array in (images.pixels, images.labels, images.true_labels):
            if array is not None:
                array.flags.writeable = False
    return split


def _said(pixels: np.ndarray) -> np.ndarray:
    import torch

    logits = tiny_net().logits(torch.from_numpy(pixels))
    return logits.argmax(dim=1).numpy()
