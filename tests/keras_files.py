"""Keras files made for tests, and what their layers compute, written out plainly in NumPy.

The references know nothing of ONNX: they loop over windows of channels-last images, as the
documentation of Keras describes the layers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Config = dict[str, Any]
Weights = Mapping[str, Mapping[str, np.ndarray]]


def layer(class_name: str, name: str, *sources: str, **config: Any) -> Config:
    """A layer of a Functional config as Keras 2 writes it."""
    inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
    return {
        "class_name": class_name,
        "config": {"name": name, **config},
        "name": name,
        "inbound_nodes": inbound,
    }


def input_layer(*shape: int) -> Config:
    """An InputLayer called `input`."""
    return layer("InputLayer", "input", batch_input_shape=[None, *shape])


def functional(*layers: Config) -> Config:
    """A Functional model whose first layer is its input and whose last is its output."""
    return {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": list(layers),
            "input_layers": [[layers[0]["name"], 0, 0]],
            "output_layers": [[layers[-1]["name"], 0, 0]],
        },
    }


def as_keras_3(config: Config) -> Config:
    """The same model in the dialect of Keras 3."""

    def tensor(inbound: list[Any]) -> Config:
        return {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None], "dtype": "float32", "keras_history": inbound[:3]},
        }

    config = json.loads(json.dumps(config))
    policy = {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}}
    for entry in config["config"]["layers"]:
        fields = entry["config"]
        entry |= {"module": "keras.layers", "registered_name": None}
        if "batch_input_shape" in fields:
            fields["batch_shape"] = fields.pop("batch_input_shape")
        else:
            fields["dtype"] = policy
        if entry["inbound_nodes"]:
            tensors = [tensor(inbound) for inbound in entry["inbound_nodes"][0]]
            args: list[Any] = [tensors] if entry["class_name"] in ("Add", "Concatenate") else tensors
            entry["inbound_nodes"] = [{"args": args, "kwargs": {}}]
    config["config"]["input_layers"] = config["config"]["input_layers"][0]
    config["config"]["output_layers"] = config["config"]["output_layers"][0]
    return config


def save_raw(
    path: Path,
    config: Any,
    weights: Weights,
    *,
    suffix: str = "",
    as_bytes: bool = False,
    chunked: bool = False,
    full: bool = True,
) -> Path:
    """Write a file with h5py alone, in any of the forms that Keras has used.

    :param suffix: of weight names: ":0" in Keras 2, nothing in Keras 3.
    :param as_bytes: attributes as fixed-length bytes rather than text.
    :param chunked: lists of names cut into one attribute per name.
    :param full: with the config and under `model_weights`; otherwise weights only, at the root.
    """
    path.parent.mkdir(exist_ok=True)
    with h5py.File(path, "w") as handle:
        root = handle.create_group("model_weights") if full else handle
        if full:
            text = config if isinstance(config, str) else json.dumps(config)
            handle.attrs["model_config"] = np.bytes_(text) if as_bytes else text
        names = [entry["name"] for entry in config["config"]["layers"]]
        _save_names(root, "layer_names", names, as_bytes, chunked)
        for name in names:
            group = root.create_group(name)
            keys = [f"{name}/{key}{suffix}" for key in weights.get(name, {})]
            _save_names(group, "weight_names", keys, as_bytes, chunked)
            for key, values in zip(keys, weights.get(name, {}).values(), strict=True):
                group[key] = values
    return path


def _save_names(group: h5py.Group, key: str, names: list[str], as_bytes: bool, chunked: bool) -> None:
    encoded: list[Any] = [np.bytes_(name) for name in names] if as_bytes else names
    if chunked and names:
        for number, name in enumerate(encoded):
            group.attrs[f"{key}{number}"] = [name]
    else:
        group.attrs[key] = encoded


def conv2d(
    images: np.ndarray,
    kernel: np.ndarray,
    strides: Sequence[int] = (1, 1),
    padding: str = "valid",
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> np.ndarray:
    """Convolution of images (n, H, W, C) with a kernel (kh, kw, C / groups, filters)."""
    kh, kw, _, filters = kernel.shape
    window = ((kh - 1) * dilation[0] + 1, (kw - 1) * dilation[1] + 1)
    patches = sliding_windows(images, window, strides, padding, fill=0.0)
    patches = patches[:, :, :, :: dilation[0], :: dilation[1]]
    parts = [
        np.einsum("nijhwc,hwco->nijo", part, weights)
        for part, weights in zip(
            np.split(patches, groups, axis=-1), np.split(kernel, groups, axis=-1), strict=True
        )
    ]
    return np.concatenate(parts, axis=-1)


def depthwise(images: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Each channel of (n, H, W, C) with its own filters (kh, kw, C, multiplier), no padding."""
    patches = sliding_windows(images, kernel.shape[:2], (1, 1), "valid", fill=0.0)
    out = np.einsum("nijhwc,hwcm->nijcm", patches, kernel)
    return out.reshape(*out.shape[:3], -1)


def pool(
    images: np.ndarray, size: Sequence[int], strides: Sequence[int], padding: str, how: str
) -> np.ndarray:
    """Maximum or average over windows; places outside the image do not exist for either."""
    patches = sliding_windows(images, size, strides, padding, fill=np.nan)
    return (np.nanmax if how == "max" else np.nanmean)(patches, axis=(3, 4))


def sliding_windows(
    images: np.ndarray, window: Sequence[int], strides: Sequence[int], padding: str, fill: float
) -> np.ndarray:
    """(n, H', W', h, w, C) windows. 'same' gives ceil(size / stride) of them along an axis, and
    puts what padding that needs half before and half after, an odd one after."""
    before, after = [0, 0], [0, 0]
    count = [(images.shape[1 + i] - window[i]) // strides[i] + 1 for i in range(2)]
    if padding == "same":
        for i in range(2):
            count[i] = math.ceil(images.shape[1 + i] / strides[i])
            total = max(0, (count[i] - 1) * strides[i] + window[i] - images.shape[1 + i])
            before[i], after[i] = total // 2, total - total // 2
    edges = [(0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)]
    padded = np.pad(images, edges, constant_values=fill)
    rows = [
        [padded[:, i * strides[0] :, j * strides[1] :][:, : window[0], : window[1]] for j in range(count[1])]
        for i in range(count[0])
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


def set_config(path: Path, config: Any) -> None:
    """Replace the attribute `model_config` of a file."""
    with h5py.File(path, "r+") as handle:
        handle.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)


def contents(path: Path) -> dict[str, np.ndarray]:
    """Everything in a file: data sets by path, attributes by path and name."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as handle:

        def visit(name: str, node: h5py.Group | h5py.Dataset) -> None:
            found.update({f"{name}@{key}": np.asarray(value) for key, value in node.attrs.items()})
            if isinstance(node, h5py.Dataset):
                found[name] = node[()]

        visit("", handle)
        handle.visititems(visit)
    return found
