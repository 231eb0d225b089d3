"""Keras models with more layers, as ``.h5`` and as ``.keras``: whole ones, odd ones, hostile ones."""

from __future__ import annotations

import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras_files as kf
import numpy as np

from fuzz.make_hdf5 import _put, _spoil
from fuzz.mutate import mutated

Shapes = dict[str, list[tuple[int, ...]]]
CLASSES = (
    "SeparableConv2D",
    "LayerNormalization",
    "GroupNormalization",
    "Normalization",
    "Rescaling",
    "PReLU",
    "Softmax",
    "GlobalMaxPooling2D",
    "Cropping2D",
    "UpSampling2D",
    "Resizing",
    "Reshape",
    "Subtract",
    "Multiply",
    "Average",
    "Maximum",
    "Minimum",
    "Identity",
    "RandomFlip",
    "MixUp",
    "Lambda",
    "Sequential",
    "Functional",
    "evil>Custom",
    "__lambda__",
    "Conv2DTranspose",
    "StringLookup",
)
FUNCTIONS = (
    "swish",
    "gelu",
    "mish",
    "hard_sigmoid",
    "log_softmax",
    "hard_silu",
    "exponential",
    "evil",
    {"a": 1},
    7,
)
FIELDS: tuple[tuple[str, Any], ...] = (
    ("target_shape", [-1]),
    ("target_shape", [2**31, 2**31]),
    ("target_shape", [-1, -1]),
    ("target_shape", [3, 3, 2]),
    ("size", [2**20, 2**20]),
    ("size", 3),
    ("interpolation", "bicubic"),
    ("height", 10**6),
    ("width", 1),
    ("groups", 2),
    ("groups", -1),
    ("groups", 10**9),
    ("axis", [1, 2, 3]),
    ("axis", []),
    ("axis", [0]),
    ("axis", None),
    ("cropping", [[9, 9], [0, 0]]),
    ("shared_axes", [1]),
    ("shared_axes", [9]),
    ("scale", [1, 2]),
    ("scale", 1e308),
    ("scale", {"class_name": "Evil", "config": {"value": [1]}}),
    ("mean", [1, 2]),
    ("variance", -1),
    ("epsilon", 0),
    ("depth_multiplier", 10**9),
    ("invert", True),
    ("rms_scaling", True),
    ("trainable", False),
    ("trainable", 3),
    ("function", {"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}),
    ("filters", 2**31 - 1),
)


def wide_net() -> tuple[kf.Config, Shapes]:
    """A network with most of these layers and a model within it that is called twice; shapes of the weights,
    by layer, in the order of the configuration."""
    block = {
        "class_name": "Sequential",
        "config": {
            "name": "block",
            "layers": [
                kf.layer("Conv2D", "conv", filters=4, kernel_size=[2, 2], padding="same", activation="silu"),
                kf.layer("LayerNormalization", "norm", axis=[-1], epsilon=0.001),
            ],
        },
        "name": "block",
        "inbound_nodes": [[["scaled", 0, 0, {}]], [["flip", 0, 0, {}]]],
    }
    both = kf.layer("Multiply", "both")
    both["inbound_nodes"] = [[["block", 0, 0, {}], ["block", 1, 0, {}]]]
    config = kf.functional(
        kf.input_layer(6, 6, 2),
        kf.layer("Rescaling", "scaled", "input", scale=0.5, offset=[0.1, -0.1]),
        kf.layer("RandomFlip", "flip", "scaled", mode="horizontal"),
        block,
        both,
        kf.layer("Normalization", "seen", "both", axis=[-1]),
        kf.layer("SeparableConv2D", "separable", "seen", filters=4, kernel_size=[3, 3], activation="gelu"),
        kf.layer("GroupNormalization", "groups", "separable", groups=2, axis=-1),
        kf.layer("PReLU", "slopes", "groups", shared_axes=[1, 2]),
        kf.layer("UpSampling2D", "up", "slopes", size=[2, 2], interpolation="nearest"),
        kf.layer("Cropping2D", "crop", "up", cropping=[[1, 0], [0, 1]]),
        kf.layer("Resizing", "resized", "crop", height=4, width=4),
        kf.layer("Reshape", "shaped", "resized", target_shape=[2, 8, 4]),
        kf.layer("GlobalMaxPooling2D", "pool", "shaped"),
        kf.layer("Dense", "out", "pool", units=3, activation="softmax"),
    )
    shapes: Shapes = {
        "block/conv": [(2, 2, 2, 4), (4,)],
        "block/norm": [(4,), (4,)],
        "seen": [(4,), (4,), ()],
        "separable": [(3, 3, 4, 1), (1, 1, 4, 4), (4,)],
        "groups": [(4,), (4,)],
        "slopes": [(1, 1, 4)],
        "out": [(4, 3), (3,)],
    }
    return config, shapes


NAMES = {
    "block/conv": ("kernel", "bias"),
    "block/norm": ("gamma", "beta"),
    "seen": ("mean", "variance", "count"),
    "separable": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "groups": ("gamma", "beta"),
    "slopes": ("alpha",),
    "out": ("kernel", "bias"),
}
GROUPS = {
    "block/conv": "sequential/layers/conv2d",
    "block/norm": "sequential/layers/layer_normalization",
    "seen": "normalization",
    "separable": "separable_conv2d",
    "groups": "group_normalization",
    "slopes": "p_re_lu",
    "out": "dense",
}


def _values(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, 0.3, np.float32) if shape else np.array(3, np.int32)


def in_h5(config: Any, shapes: Shapes, dice: random.Random | None = None) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as handle:
        root = handle.create_group("model_weights")
        handle.attrs["model_config"] = np.bytes_(json.dumps(config))
        tops = list(dict.fromkeys(name.partition("/")[0] for name in shapes))
        root.attrs["layer_names"] = [np.bytes_(name) for name in tops]
        for top in tops:
            group = root.create_group(top)
            named = [
                (f"{name}/{key}", shape)
                for name in shapes
                if name.partition("/")[0] == top
                for key, shape in zip(NAMES[name], shapes[name], strict=True)
            ]
            group.attrs["weight_names"] = [np.bytes_(key) for key, _ in named]
            for key, shape in named:
                if dice is None or not shape:
                    group[key] = _values(shape)
                else:
                    _put(group, key, _values(shape), dice)
    return stream.getvalue()


def in_archive(config: Any, shapes: Shapes, dice: random.Random | None = None) -> bytes:
    weights = io.BytesIO()
    with h5py.File(weights, "w") as handle:
        for name, group in GROUPS.items():
            made = handle.create_group(f"layers/{group}/vars")
            made.attrs["name"] = name.rpartition("/")[2]
            for number, shape in enumerate(shapes[name]):
                if dice is None or not shape:
                    made[str(number)] = _values(shape)
                else:
                    _put(made, str(number), _values(shape), dice)
    entries = {
        "metadata.json": b'{"keras_version": "3.15.1"}',
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": weights.getvalue(),
    }
    if dice is not None and dice.random() < 0.4:  # damage that the archive's own checksums do not tell
        name = dice.choice((*entries, "model.weights.h5"))
        entries[name] = mutated(entries[name], list(entries.values()), dice)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name), data)
        if dice is not None:
            _tricks(archive, dice)
    return stream.getvalue()


def _tricks(archive: zipfile.ZipFile, dice: random.Random) -> None:
    """Entries that should not be there, or say what they are not."""
    trick = dice.randrange(12)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    if trick == 0:
        name = dice.choice(
            ("../outside/made", "/tmp/made", "a\\..\\b", "assets/x", "", "\x1b[31m", "x" * 5000)
        )
        archive.writestr(name, b"x")
    elif trick == 1:  # a bomb, and one that says that it is small
        info = zipfile.ZipInfo(dice.choice(("config.json", "model.weights.h5", "assets/zeros")))
        info.compress_type = dice.choice(methods)
        archive.writestr(info, bytes(2 ** dice.randrange(10, 26)))
        if dice.random() < 0.5:
            archive.filelist[-1].file_size = dice.choice((0, 100, 2**40, 2**62))
    elif trick == 2:
        entry = dice.choice(archive.filelist)
        entry.compress_type = dice.choice((8, 9, 12, 14, 93, 99))
    elif trick == 3:
        dice.choice(archive.filelist).flag_bits |= dice.choice((1, 8, 0x40, 0x2000))
    elif trick == 4:
        entry = dice.choice(archive.filelist)
        entry.header_offset = dice.choice((0, 7, 2**20, 2**40))
    elif trick == 5:
        entry = dice.choice(archive.filelist)
        entry.compress_size = dice.choice((0, 1, 2**31, 2**40))
    elif trick == 6:
        archive.filelist.remove(dice.choice(archive.filelist))


def corpus_layers(folder: Path) -> list[bytes]:
    config, shapes = wide_net()
    return [in_h5(config, shapes), in_h5(_keras_3(config), shapes)]


def corpus_archives() -> list[bytes]:
    config, shapes = wide_net()
    return [in_archive(_keras_3(config), shapes), in_archive(config, shapes)]


def _keras_3(config: kf.Config) -> kf.Config:
    """``kf.as_keras_3``, for layers that are called more than once and models within the model too."""

    def tensor(inbound: list[Any]) -> Any:
        fields = {"shape": [None], "dtype": "float32", "keras_history": inbound[:3]}
        return {"class_name": "__keras_tensor__", "config": fields}

    made = json.loads(json.dumps(config))
    for entry in made["config"]["layers"]:
        entry |= {"module": "keras.layers", "registered_name": None}
        calls = []
        for call in entry["inbound_nodes"]:
            tensors = [tensor(inbound) for inbound in call]
            calls.append({"args": [tensors] if len(tensors) > 1 else tensors, "kwargs": {}})
        entry["inbound_nodes"] = calls
    return made


def odd(form: Any, dice: random.Random) -> bytes:
    """``form``: ``in_h5`` or ``in_archive``."""
    config, shapes = wide_net()
    made: Any = json.loads(json.dumps(dice.choice((config, _keras_3(config)))))
    layers = made["config"]["layers"]
    for _ in range(dice.randrange(4)):
        entry = dice.choice(layers)
        if dice.random() < 0.2:  # within the model within
            entry = dice.choice(layers[3]["config"]["layers"])
        what = dice.randrange(5)
        if what == 0:
            entry["class_name"] = dice.choice(CLASSES)
        elif what == 1:
            entry["config"]["activation"] = dice.choice(FUNCTIONS)
        elif what == 2:
            key, value = dice.choice(FIELDS)
            entry["config"][key] = value
        elif what == 3 and "inbound_nodes" in entry and entry["inbound_nodes"]:
            entry["inbound_nodes"] = entry["inbound_nodes"] * dice.choice((2, 3, 700))
        else:
            _spoil(made, dice)
            if not isinstance(made.get("config"), dict) or not isinstance(made["config"].get("layers"), list):
                break
            layers = [e for e in made["config"]["layers"] if isinstance(e, dict)] or [{"config": {}}]
            if len(layers) < 4 or not isinstance(layers[3].get("config"), dict):
                break
    if dice.random() < 0.1:  # models within models
        for _ in range(dice.choice((2, 19, 40))):
            inner = {**made, "name": "deep", "inbound_nodes": [[["input", 0, 0, {}]]] * 2}
            both = kf.layer("Add", "sum")
            both["inbound_nodes"] = [[["deep", 0, 0, {}], ["deep", 1, 0, {}]]]
            made = kf.functional(kf.input_layer(6, 6, 2), inner, both)
    return form(made, shapes, dice)
