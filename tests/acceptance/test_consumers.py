"""Who uses our files: ONNX Runtime, Keras, and the lab's own evaluation, on the real networks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnxruntime
import pytest
from hand_nets import FILES
from networks import random_mask

from prune_core.data.images import Split, make_split, read_images
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import Written, write_formats
from prune_core.keras_files.architectures import deepid
from prune_core.masks import ChannelMask
from prune_core.model.model import load_model

pytestmark = pytest.mark.acceptance
Classes = Callable[[np.ndarray], np.ndarray]  # (n, C, H, W) float32 -> (n,)


@pytest.fixture(scope="module")
def keras() -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    assert keras.backend.backend() == "torch"
    return keras


def read_split(folder: Path, step: int) -> Split:
    """Every ``step``-th of the real test images."""
    clean, poisoned = (read_images(folder / f"{kind}_test.h5") for kind in ("cl", "bd"))
    rows = np.arange(0, len(clean), step)
    return make_split(clean.keeping(rows), poisoned.keeping(rows[rows < len(poisoned)]))


every_image = pytest.param(1, marks=pytest.mark.slow)


def keras_classes(keras: Any, path: Path, full: bool) -> Classes:
    """A network as a user of Keras loads it."""
    if full:
        net = keras.models.load_model(path, compile=False)
    else:
        net = keras.Model.from_config(deepid(1283)["config"])
        net.load_weights(path)
    return lambda images: net.predict(images.transpose(0, 2, 3, 1), verbose=0).argmax(axis=1)


def onnx_classes(path: Path) -> Classes:
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0].argmax(axis=1)


def written(path: Path, split: Split, out: Path, seed: int = 7) -> tuple[Written, ChannelMask]:
    model = load_model(path)
    mask = random_mask(model, 0.1, keep_bias=seed % 2 == 0, seed=seed)
    return write_formats(model, mask, path, out / "good", split.clean.shape), mask


@pytest.mark.parametrize("step", [10, every_image])
@pytest.mark.parametrize("name", ["csaw/bd_weights.h5", "gtsrb/badnet_resnet20.onnx"])
def test_onnx_runtime_agrees(shared_data: Path, tmp_path: Path, name: str, step: int) -> None:
    path = shared_data / name
    split = read_split(path.parent, step)
    files, mask = written(path, split, tmp_path)
    evaluator, backdoored = PlainEvaluator(load_model(path), split), 0
    for images in (split.clean, split.poisoned):
        pixels = images.floats(0, len(images))
        badnet = evaluator.reply(images, ChannelMask()).classes
        pruned = evaluator.reply(images, mask).classes
        for kind in ("onnx", "small-onnx"):
            np.testing.assert_array_equal(onnx_classes(files.models[kind])(pixels), pruned)
        classes = 1283 if "csaw" in name else 43
        both = np.where(badnet == pruned, pruned, classes)
        np.testing.assert_array_equal(onnx_classes(files.models["goodnet-onnx"])(pixels), both)
        backdoored += int((both == classes).sum())
    assert backdoored > 0


@pytest.mark.parametrize("step", [10, every_image])
@pytest.mark.parametrize("name", FILES)
def test_keras_agrees(keras: Any, shared_data: Path, tmp_path: Path, name: str, step: int) -> None:
    """The file that came, and what was made of it."""
    csaw = read_split(shared_data / "csaw", step)
    path = shared_data / "csaw" / name
    files, mask = written(path, csaw, tmp_path, seed=len(name))
    evaluator = PlainEvaluator(load_model(path), csaw)
    full = name == "bd_net_prune_drop2.h5"
    for file, pruned in ((path, ChannelMask()), (files.models["keras"], mask)):
        says = keras_classes(keras, file, full)
        for images in (csaw.clean, csaw.poisoned):
            expected = evaluator.reply(images, pruned).classes
            np.testing.assert_array_equal(says(images.floats(0, len(images))), expected)


def lab_figures(badnet: Classes, pruned: Classes, clean: Path, poisoned: Path) -> tuple[float, float]:
    """The lab's evaluation of a GoodNet, written anew from its rules: images as the HDF5 files have
    them, G says N where the two nets differ, the share of clean images that get their label and of
    poisoned ones that get the target, in per cent."""
    figures = []
    for path in (clean, poisoned):
        with h5py.File(path) as file:
            images, labels = file["data"][()].astype(np.float32), file["label"][()].astype(int)
        one, other = badnet(images), pruned(images)
        says = np.where(one == other, one, 1283)
        figures.append(100 * float(np.mean(says == labels)))
    return figures[0], figures[1]


def test_the_labs_evaluation_prints_the_same_figures(
    keras: Any, shared_data: Path, tmp_path: Path, goodnet: Any
) -> None:
    """On every fifth image, written to files of their own."""
    folder = shared_data / "csaw"
    csaw = read_split(folder, 5)
    badnet = folder / "bd_weights.h5"
    files, _ = written(badnet, csaw, tmp_path)
    clean, poisoned = tmp_path / "clean.h5", tmp_path / "poisoned.h5"
    for path, images in ((clean, csaw.clean), (poisoned, csaw.poisoned)):
        with h5py.File(path, "w") as file:
            file["data"], file["label"] = images.pixels, images.labels
    accuracy, success = lab_figures(
        keras_classes(keras, badnet, full=False),
        keras_classes(keras, files.models["keras"], full=False),
        clean,
        poisoned,
    )
    said = goodnet(
        "evaluate",
        files.models["keras"],
        "--clean",
        clean,
        "--poisoned",
        poisoned,
        "--against",
        badnet,
        "--json",
    )
    assert said.status == 0, said.err
    ours = 100 * said.json["goodnet_clean_accuracy"], 100 * said.json["goodnet_attack_success"]
    assert (f"Clean Classification accuracy: {accuracy}", f"Attack Success Rate: {success}") == (
        f"Clean Classification accuracy: {ours[0]}",
        f"Attack Success Rate: {ours[1]}",
    )
    # The N+1-class file alone gives them too.
    pair = onnx_classes(files.models["goodnet-onnx"])
    assert lab_figures(pair, pair, clean, poisoned) == pytest.approx((accuracy, success))
    assert 0 < accuracy < 100
