"""What a Keras file may not hold, and that damage of any kind is one clear InputError."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras_files as kf
import numpy as np
import pytest

from prune_core.errors import InputError
from prune_core.keras_files.architectures import deepid
from prune_core.keras_files.h5 import read_keras, write_pruned_keras

CONFIG = kf.functional(
    kf.input_layer(4, 4, 2),
    kf.layer(
        "Conv2D", "conv", "input", filters=3, kernel_size=[2, 2], strides=[1, 1], padding="same",
        data_format="channels_last", dilation_rate=[1, 1], groups=1, activation="relu",
    ),
    kf.layer("BatchNormalization", "norm", "conv", axis=[3], epsilon=0.001),
    kf.layer("AveragePooling2D", "pool", "norm", pool_size=[2, 2], strides=None, padding="same"),
    kf.layer("ReLU", "act", "pool", max_value=6.0, negative_slope=0.0, threshold=0.0),
    kf.layer("ZeroPadding2D", "pad", "act", padding=[[0, 1], [0, 0]]),
    kf.layer("Add", "sum", "pad", "pad"),
    kf.layer("Flatten", "flat", "sum", data_format="channels_last"),
    kf.layer("Dense", "out", "flat", units=2, activation="softmax", use_bias=True),
)  # fmt: skip
WEIGHTS = {
    "conv": {"kernel": np.ones((2, 2, 2, 3)), "bias": np.ones(3)},
    "norm": {key: np.ones(3) for key in ("gamma", "beta", "moving_mean", "moving_variance")},
    "out": {"kernel": np.ones((18, 2)), "bias": np.ones(2)},
}
LAYERS = {entry["name"]: number for number, entry in enumerate(CONFIG["config"]["layers"])}


def saved(tmp_path: Path, config: Any = CONFIG, weights: kf.Weights = WEIGHTS) -> Path:
    path = kf.save_raw(tmp_path / "net.h5", CONFIG, weights, suffix=":0")
    kf.set_config(path, config)
    return path


def refusal(path: Path, architecture: str | None = None) -> str:
    """The message of the error, which has to name the file and to be one line."""
    with pytest.raises(InputError) as caught:
        read_keras(path, architecture)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def changed(name: str, **fields: Any) -> Any:
    """CONFIG with other fields in the config of a layer; None takes a field away."""
    config = json.loads(json.dumps(CONFIG))
    config["config"]["layers"][LAYERS[name]]["config"] |= fields
    return config


def test_the_unchanged_file_reads(tmp_path: Path) -> None:
    assert read_keras(saved(tmp_path)).graph.output[0].name == "probabilities"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"class_name": "Lambda"},
            "layer 'act' (Lambda): not supported (no code of a file is run)",
        ),
        ({"class_name": "TFOpLambda"}, "layer 'act' (TFOpLambda)"),
        ({"class_name": "Functional"}, "lists no layers"),
        ({"registered_name": "evil>ReLU"}, "a custom class (evil>ReLU)"),
        ({"module": "evil.layers"}, "a custom class (evil.layers)"),
        ({"inbound_nodes": []}, "nothing feeds it"),
        ({"inbound_nodes": [[["none", 0, 0]]]}, "its source 'none' does not exist"),
        ({"inbound_nodes": [[["pool", 0, 1]]]}, "unknown form"),
        ({"inbound_nodes": [[["pool", 1, 0]]]}, "its source 'pool' does not exist"),
        (
            {"inbound_nodes": [[["pool", 0, 0]], [["norm", 0, 0]]]},
            "layer 'act' (ReLU): its result is not used",
        ),
        ({"inbound_nodes": [[["pool", 0, 0, {"training": True}]]]}, "training=True"),
        ({"inbound_nodes": [[["pool", 0, 0, {"y": ["conv", 0, 0]}]]]}, "tensors by keyword"),
        ({"inbound_nodes": [[["out", 0, 0]]]}, "form a cycle"),
        ({"inbound_nodes": [[["conv", 0, 0]]]}, "layer 'pool' (AveragePooling2D): its result is"),
        ({"inbound_nodes": [[["pool", 0, 0], ["norm", 0, 0]]]}, "it has 2 inputs, not one"),
        ({"name": "conv"}, "two layers have the same name"),
        ({"name": "a\nb"}, "is not a valid layer name"),
        ({"name": "\ud800"}, "is not a valid layer name"),
        ({"config": None}, "a layer without a config"),
    ],
)
def test_layers_that_are_refused(tmp_path: Path, entry: Any, message: str) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["config"]["layers"][LAYERS["act"]] |= entry
    assert message in refusal(saved(tmp_path, config))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("conv", {"filters": "3"}, "filters should be a whole number"),
        ("conv", {"filters": 10**12}, "filters should be a whole number"),
        ("conv", {"filters": 4}, "its kernel should have shape (2, 2, 2, 4), the file has"),
        ("conv", {"kernel_size": [9, 9], "padding": "valid"}, "does not fit its input"),
        ("conv", {"groups": 3}, "3 groups do not divide"),
        ("conv", {"padding": "causal"}, "padding should be one of valid, same"),
        ("conv", {"activation": "evil"}, "activation 'evil' is not supported"),
        ("conv", {"activation": {"class_name": "evil"}}, "is not supported"),
        ("conv", {"data_format": "channels_first"}, "its kernel should have shape"),
        ("conv", {"use_bias": False}, "more weights for it than it takes"),
        ("norm", {"axis": [1]}, "an axis other than the channels"),
        ("norm", {"axis": 9}, "axis 9 does not exist"),
        ("norm", {"epsilon": float("nan")}, "epsilon should be a number"),
        ("pool", {"pool_size": [2]}, "pool_size should be two whole numbers"),
        ("pool", {"data_format": "channels_first"}, "channels_last and with channels_first"),
        ("act", {"threshold": 1}, "a threshold other than 0"),
        ("pad", {"padding": [[1, -1], [0, 0]]}, "padding should be [[top, bottom], [left, right]]"),
        ("pad", {"padding": [[0, 2**30], [0, 0]]}, "too many"),
        ("out", {"units": 3}, "its kernel should have shape (18, 3)"),
        ("input", {"batch_input_shape": [None, None, None, 2]}, "only the batch may vary"),
        ("input", {"batch_input_shape": [None, 1000000, 1000000, 2]}, "too many"),
    ],
)
def test_fields_that_are_refused(tmp_path: Path, name: str, fields: Any, message: str) -> None:
    assert message in refusal(saved(tmp_path, changed(name, **fields)))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ("[]", "Sequential and Functional"),
        ('{"class_name": "Evil"}', "'Evil'"),
        ('{"class_name": "Functional", "config": 1}', "lists no layers"),
        ('{"class_name": "Sequential", "config": []}', "has 0 inputs"),
        (kf.functional(kf.input_layer(4, 4, 2)), "no layers but its input"),
        (
            kf.functional(kf.input_layer(4, 4, 2), kf.layer("Dropout", "drop", "input")),
            "layers take weights",
        ),
    ],
)
def test_configs_that_are_refused(tmp_path: Path, config: Any, message: str) -> None:
    assert message in refusal(saved(tmp_path, config))


def test_two_outputs(tmp_path: Path) -> None:
    config = json.loads(json.dumps(CONFIG))
    config["config"]["output_layers"].append(["conv", 0, 0])
    assert "one output" in refusal(saved(tmp_path, config))


def test_flattened_images_that_meet_another_order(tmp_path: Path) -> None:
    config = kf.functional(
        kf.input_layer(2, 2, 2),
        kf.layer("Flatten", "flat", "input"),
        kf.layer("Dense", "dense", "flat", units=8),
        kf.layer("Add", "sum", "flat", "dense"),
    )
    weights = {"dense": {"kernel": np.ones((8, 8)), "bias": np.ones(8)}}
    path = kf.save_raw(tmp_path / "net.h5", config, weights)
    assert "in another order" in refusal(path)


def delete(name: str) -> Callable[[h5py.File], None]:
    return lambda handle: handle.__delitem__(name)


def replaced(name: str, make: Callable[[h5py.Group, str], Any]) -> Callable[[h5py.File], None]:
    def change(handle: h5py.File) -> None:
        del handle[name]
        make(handle, name)

    return change


KERNEL = "model_weights/conv/conv/kernel:0"
HOLES = {
    "external link": (
        replaced(KERNEL, lambda h, n: h.__setitem__(n, h5py.ExternalLink("other.h5", "/x"))),
        "an external link ('kernel:0'); refused",
    ),
    "soft link": (
        replaced("model_weights/conv", lambda h, n: h.__setitem__(n, h5py.SoftLink("/x"))),
        "a soft link ('conv'); refused",
    ),
    "raw data elsewhere": (
        replaced(
            KERNEL,
            lambda h, n: h.create_dataset(n, (2, 2, 2, 3), "f4", external=[("other", 0, 96)]),
        ),
        "keeps its data in another file",
    ),
    "virtual data set": (
        replaced(
            KERNEL,
            lambda h, n: h.create_virtual_dataset(n, h5py.VirtualLayout((2, 2, 2, 3), "f4")),
        ),
        "keeps its data in another file",
    ),
    "no weight": (delete(KERNEL), "conv/conv/kernel:0 is missing"),
    "no layer": (delete("model_weights/conv"), "/model_weights/conv is missing"),
    "no weights at all": (delete("model_weights"), "model_weights is missing"),
    "a group for a weight": (replaced(KERNEL, lambda h, n: h.create_group(n)), "a data set"),
    "whole numbers": (
        replaced(KERNEL, lambda h, n: h.__setitem__(n, np.ones((2, 2, 2, 3), int))),
        "should hold floats, not int64",
    ),
    "weights that are not finite": (
        lambda h: h[KERNEL].__setitem__((0, 0, 0, 0), np.nan),
        "holds NaN or infinity",
    ),
    "another shape": (
        replaced(KERNEL, lambda h, n: h.__setitem__(n, np.ones((2, 2, 3, 2), "f4"))),
        "its kernel should have shape (2, 2, 2, 3), the file has (2, 2, 3, 2)",
    ),
    "no names of weights": (
        lambda h: h["model_weights/conv"].attrs.__delitem__("weight_names"),
        "no attribute weight_names",
    ),
    "layers in another order": (
        lambda h: h["model_weights"].attrs.__setitem__(
            "layer_names", h["model_weights"].attrs["layer_names"][::-1]
        ),
        "where weights of 'conv' belong, those of 'out' are",
    ),
}


def test_two_weights_in_one_data_set(tmp_path: Path) -> None:
    """A pruned copy could not change one of them alone."""
    path = kf.save_raw(tmp_path / "net.h5", CONFIG, WEIGHTS)
    with h5py.File(path, "r+") as file:
        weights = file["model_weights"]
        del weights["norm/norm/gamma"]
        weights["norm/norm/gamma"] = weights["conv/conv/bias"]
    with pytest.raises(InputError, match="'.*conv/bias' and '.*norm/gamma' are one data set; refused"):
        read_keras(path)


@pytest.mark.parametrize("hole", HOLES)
def test_containers_that_are_refused(tmp_path: Path, hole: str) -> None:
    change, message = HOLES[hole]
    path = saved(tmp_path)
    with h5py.File(path, "r+") as handle:
        change(handle)
    assert message in refusal(path)
    with pytest.raises(InputError):
        write_pruned_keras(path, tmp_path / "copy.h5", {"conv": [0]})
    assert not (tmp_path / "copy.h5").exists()


def test_files_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    assert "no such file" in refusal(path)
    path.write_bytes(b"PK not HDF5")
    assert "cannot be read as an HDF5 file" in refusal(path)
    path.write_bytes(b"")
    assert "cannot be read as an HDF5 file" in refusal(path)
    assert "cannot be read as an HDF5 file" in refusal(tmp_path)
    with h5py.File(path, "w") as handle:
        handle["data"] = np.zeros(3)
    assert "holds no Keras model" in refusal(path)
    with h5py.File(path, "w") as handle:
        handle.create_group("layers")
        handle.create_group("vars")
    assert "a Keras 3 .weights.h5 file" in refusal(path)


def test_weights_alone_need_an_architecture(tmp_path: Path) -> None:
    path = kf.save_raw(tmp_path / "net.h5", CONFIG, WEIGHTS, full=False)
    assert "set `architecture` to one of: deepid" in refusal(path)
    assert "'vgg' is not known" in refusal(path, "vgg")
    assert "layers take weights" in refusal(path, "deepid")
    with pytest.raises(InputError, match="set `architecture`"):
        write_pruned_keras(path, tmp_path / "copy.h5", {"conv": [0]})
    empty = kf.save_raw(tmp_path / "empty.h5", deepid(3), {}, full=False)
    assert "no number of classes" in refusal(empty, "deepid")


def test_damaged_files_never_fail_otherwise(tmp_path: Path) -> None:
    """Truncated anywhere, or with bytes changed: it reads, or it is an InputError."""
    # Text of fixed length: damage in the heap of variable-length text can crash the HDF5 library.
    whole = kf.save_raw(tmp_path / "net.h5", CONFIG, WEIGHTS, as_bytes=True).read_bytes()
    dice = random.Random(0)
    path = tmp_path / "damaged.h5"
    for _ in range(150):
        damaged = bytearray(whole[: dice.randrange(len(whole))] if dice.random() < 0.3 else whole)
        for _ in range(dice.randrange(1, 20)):
            if damaged:
                damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            read_keras(path)
        except InputError as error:
            assert "\n" not in str(error)


def test_odd_configs_never_fail_otherwise(tmp_path: Path) -> None:
    """Any value of the config replaced by any other: it reads, or it is an InputError."""
    odd = [None, True, 0, -1, 2**70, 1e300, "", "x", [], [1], [[1]], {}, {"a": 1}, [None, 1, 1, 1]]
    dice = random.Random(0)
    path = saved(tmp_path)
    for dialect in (CONFIG, kf.as_keras_3(CONFIG)):
        for _ in range(150):
            config = json.loads(json.dumps(dialect))
            node = config
            while True:
                key = dice.choice(list(node) if isinstance(node, dict) else range(len(node)))
                if not isinstance(node[key], dict | list) or not node[key] or dice.random() < 0.1:
                    break
                node = node[key]
            node[key] = dice.choice(odd)
            kf.set_config(path, config)
            try:
                read_keras(path)
            except InputError as error:
                assert "\n" not in str(error)
