"""Keras models and image files in HDF5: whole ones, odd ones, hostile ones."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path
from typing import Any

import h5py
import keras_files as kf
import numpy as np

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    3,
    7,
    2**31,
    2**70,
    1e300,
    -0.5,
    float("nan"),
    "",
    "x",
    "relu",
    "same",
    "\x1b[31m",
    "<script>alert(1)</script>",
    "a/../../b",
    [],
    [1],
    [1, 1],
    [[1]],
    [None, 1, 1, 1],
    {},
    {"a": 1},
    [2**40, 2**40],
    "../outside/canary.h5",
    "\ud800",
)
CLASSES = (
    "Conv2D",
    "DepthwiseConv2D",
    "BatchNormalization",
    "Dense",
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "Softmax",
    "MaxPooling2D",
    "AveragePooling2D",
    "GlobalAveragePooling2D",
    "ZeroPadding2D",
    "Flatten",
    "Add",
    "Concatenate",
    "Dropout",
    "Lambda",
    "Sequential",
    "Functional",
    "TFOpLambda",
    "InputLayer",
    "Reshape",
    "evil>Custom",
)


def conv_net() -> tuple[kf.Config, dict[str, dict[str, np.ndarray]]]:
    """A small network with most layers there are."""
    config = kf.functional(
        kf.input_layer(6, 6, 2),
        kf.layer(
            "Conv2D",
            "conv",
            "input",
            filters=3,
            kernel_size=[2, 2],
            strides=[1, 1],
            padding="same",
            data_format="channels_last",
            activation="relu",
        ),
        kf.layer("BatchNormalization", "norm", "conv", axis=[3], epsilon=0.001),
        kf.layer("MaxPooling2D", "pool", "norm", pool_size=[2, 2], strides=[2, 2]),
        kf.layer("DepthwiseConv2D", "deep", "pool", kernel_size=[2, 2], depth_multiplier=1),
        kf.layer("ZeroPadding2D", "pad", "deep", padding=[[0, 1], [1, 0]]),
        kf.layer("Add", "sum", "pad", "pool"),
        kf.layer("Flatten", "flat", "sum"),
        kf.layer("Dense", "out", "flat", units=4, activation="softmax"),
    )
    dice = np.random.default_rng(0)
    shapes = {
        "conv": {"kernel": (2, 2, 2, 3), "bias": (3,)},
        "norm": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (3,)),
        "deep": {"depthwise_kernel": (2, 2, 3, 1), "bias": (3,)},
        "out": {"kernel": (27, 4), "bias": (4,)},
    }
    weights = {
        layer: {k: dice.uniform(0.1, 1, s).astype(np.float32) for k, s in parts.items()}
        for layer, parts in shapes.items()
    }
    return config, weights


def corpus_keras(folder: Path) -> list[bytes]:
    config, weights = conv_net()
    found = []
    for number, options in enumerate(
        (
            {},
            {"as_bytes": True},
            {"chunked": True},
            {"suffix": ":0"},
            {"full": False},
        )
    ):
        found.append(kf.save_raw(folder / f"seed{number}.h5", config, weights, **options).read_bytes())
    path = kf.save_raw(folder / "seed.h5", kf.as_keras_3(config), weights, as_bytes=True)
    return [*found, path.read_bytes()]


def odd_keras(dice: random.Random) -> bytes:
    """A file with odd values in its configuration, odd layers, and holes in its container."""
    config, weights = conv_net()
    config = json.loads(json.dumps(dice.choice((config, kf.as_keras_3(config)))))
    for _ in range(dice.randrange(3)):
        _spoil(config, dice)
    if dice.random() < 0.3:
        entry = dice.choice(config["config"]["layers"])
        entry["class_name"] = dice.choice(CLASSES)
    text: Any = json.dumps(config)
    if dice.random() < 0.05:
        text = dice.choice(("[" * 5000, "{" * 9000, text * 40, '{"a":' * 2000, "9" * 5000, "\x00" * 9))
    stream = io.BytesIO()
    with h5py.File(stream, "w") as handle:
        root = handle.create_group("model_weights")
        handle.attrs["model_config"] = np.bytes_(text) if dice.random() < 0.5 else text
        names = (
            [entry.get("name", "x") for entry in config["config"]["layers"] if isinstance(entry, dict)]
            if isinstance(config.get("config"), dict)
            else ["conv"]
        )
        names = [n if isinstance(n, str) and n.isascii() and n.strip("/.") else "odd" for n in names]
        root.attrs["layer_names"] = [np.bytes_(n) for n in names] if dice.random() < 0.9 else [1, 2]
        for name in dict.fromkeys(names):
            group = root.require_group(name)
            parts = weights.get(name, {})
            group.attrs["weight_names"] = [np.bytes_(f"{name}/{k}") for k in parts]
            for key, values in parts.items():
                _put(group, f"{name}/{key}", values, dice)
    return stream.getvalue()


def _spoil(node: Any, dice: random.Random) -> None:
    while True:
        keys: Any = list(node) if isinstance(node, dict) else range(len(node))
        if not keys:
            return
        key = dice.choice(keys)
        if not isinstance(node[key], dict | list) or not node[key] or dice.random() < 0.1:
            node[key] = dice.choice(ODD)
            return
        node = node[key]


def _put(group: h5py.Group, name: str, values: np.ndarray, dice: random.Random) -> None:
    """A data set, now and then by a trick."""
    trick = dice.randrange(40)
    shape = values.shape
    if trick == 0:
        group[name] = h5py.ExternalLink("../outside/canary.h5", "/data")
    elif trick == 1:
        group[name] = h5py.SoftLink(dice.choice(("/model_weights", name, f"{group.name}/{name}")))
    elif trick == 2:
        group.create_dataset(name, shape, "f4", external=[("../outside/canary.bin", 0, values.nbytes)])
    elif trick == 3:
        _put_virtual(group, name, shape, dice)
    elif trick == 4:
        group.create_dataset(name, data=values.astype(dice.choice(("f2", "f8", "i4", "S3", "c8", ">f4"))))
    elif trick == 5:
        big = tuple(dice.choice((2**20, 2**31, 2**40)) for _ in shape)
        group.create_dataset(name, big, "f4", chunks=(1,) * len(big))
    elif trick == 6:
        group.create_dataset(
            name, data=values, chunks=shape, compression="gzip", shuffle=True, fletcher32=True
        )
    elif trick == 7:
        group.create_group(name)
    elif trick == 8:
        group.create_dataset(name, data=values.ravel()[: dice.randrange(values.size)])
    elif trick == 9:
        group.create_dataset(name, (1,), dtype=h5py.string_dtype())
    else:
        group.create_dataset(name, data=values)
    if trick == 10:
        group.attrs["big"] = np.zeros(8000, np.float64)


def _put_virtual(group: h5py.Group, name: str, shape: tuple[int, ...], dice: random.Random) -> None:
    """Data of another file; it may be as long as that one's, so that its shape has to be asked there."""
    if dice.random() < 0.5:
        layout = h5py.VirtualLayout(shape, "f4")
        layout[...] = h5py.VirtualSource("../outside/canary.h5", "data", shape)
    else:
        most = (None, *shape[1:])
        layout = h5py.VirtualLayout(shape, "f4", maxshape=most)
        source = h5py.VirtualSource("../outside/canary.h5", "data", shape, maxshape=most)
        layout[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    group.create_virtual_dataset(name, layout)


def corpus_images(folder: Path) -> list[bytes]:
    found = []
    for kind, options in (("u1", {}), ("f4", {"compression": "gzip"}), ("u1", {"compression": "lzf"})):
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            dice = np.random.default_rng(0)
            file.create_dataset("data", data=dice.integers(0, 255, (6, 3, 8, 7)).astype(kind), **options)
            file["label"], file["true_label"] = np.zeros(6), np.arange(6)
        found.append(stream.getvalue())
    return found


def odd_images(dice: random.Random) -> bytes:
    stream = io.BytesIO()
    count = dice.choice((1, 3, 5, 2**33))
    with h5py.File(stream, "w", libver=dice.choice(("earliest", "latest"))) as file:
        for field in ("data", "label", "true_label"):
            if dice.random() < 0.05:
                continue
            rank = (4 if field == "data" else 1) if dice.random() < 0.9 else dice.randrange(6)
            sizes = (min(count, 5), 3, 5, 4)[:rank]
            if dice.random() < 0.1:
                sizes = tuple(dice.choice((0, 1, 3, 2**16, 2**32, 2**40)) for _ in range(rank))
                if 0 not in sizes and sizes:
                    file.create_dataset(field, sizes, dice.choice(("u1", "f8")), chunks=(1,) * rank)
                continue
            if dice.random() < 0.05 and rank:
                # A bomb: zeros of many megabytes, packed.
                file.create_dataset(
                    field,
                    (2 ** dice.randrange(10, 29),),
                    "u1",
                    compression="gzip",
                    chunks=(2**10,),
                    fillvalue=1,
                )
                continue
            kind = dice.choice(("u1", "u1", "f4", "f8", "i8", "i2", "?", "S2", "c8", "f2"))
            values = np.full(sizes, dice.choice((0, 1, 1, 250))).astype(kind)
            if kind[0] == "f" and dice.random() < 0.2 and values.size:
                values.flat[0] = dice.choice((np.nan, np.inf, -1, 0.5))
            _put_field(file, field, values, dice)
    return stream.getvalue()


def _put_field(file: h5py.File, name: str, values: np.ndarray, dice: random.Random) -> None:
    trick = dice.randrange(15)
    if trick == 0:
        file[name] = h5py.ExternalLink("../outside/canary.h5", "/data")
    elif trick == 1:
        file[name] = h5py.SoftLink(dice.choice(("/", name, "/label")))
    elif trick == 2 and values.dtype.kind in "uif" and values.size:
        file.create_dataset(
            name, values.shape, values.dtype, external=[("../outside/canary.bin", 0, values.nbytes)]
        )
    elif trick == 3:
        file.create_group(name)
    elif trick == 6 and values.shape:
        _put_virtual(file, name, values.shape, dice)
    elif trick == 4:
        file[name] = np.void(b"abc")
    elif trick == 5:
        file.create_dataset(name, dtype="f4", data=h5py.Empty("f4"))
    else:
        file[name] = values
