"""Keras configurations of networks whose files may hold weights only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_Config = dict[str, Any]


def _layer(class_name: str, name: str, sources: list[str], **config: Any) -> _Config:
    inbound = [[[source, 0, 0, {}] for source in sources]] if sources else []
    config = {"name": name, "trainable": True, "dtype": "float32"} | config
    return {"class_name": class_name, "config": config, "name": name, "inbound_nodes": inbound}


def _conv(name: str, source: str, filters: int, size: int) -> _Config:
    return _layer(
        "Conv2D", name, [source],
        filters=filters, kernel_size=[size, size], strides=[1, 1], padding="valid",
        data_format="channels_last", dilation_rate=[1, 1], activation="relu", use_bias=True,
    )  # fmt: skip


def _pool(name: str, source: str) -> _Config:
    return _layer(
        "MaxPooling2D", name, [source],
        pool_size=[2, 2], padding="valid", strides=[2, 2], data_format="channels_last",
    )  # fmt: skip


def _dense(name: str, source: str, units: int, activation: str = "linear") -> _Config:
    return _layer("Dense", name, [source], units=units, activation=activation, use_bias=True)


def _flatten(name: str, source: str) -> _Config:
    return _layer("Flatten", name, [source], data_format="channels_last")


def deepid(classes: int) -> _Config:
    """DeepID (Sun et al., CVPR 2014) as the CSAW-HackML lab trains it: 55 x 47 RGB in, softmax out.

    Layer names and their order are those of the lab's own files, so that weights saved from this
    configuration load there and the lab's weights load here.

    :param classes: units of the last layer, 1283 for the lab's YouTube Faces.
    :return: a Keras `model_config` of a Functional model.
    """
    return {
        "class_name": "Functional",
        "config": {
            "name": "deepid",
            "layers": [
                _layer("InputLayer", "input", [], batch_input_shape=[None, 55, 47, 3]),
                _conv("conv_1", "input", 20, 4),
                _pool("pool_1", "conv_1"),
                _conv("conv_2", "pool_1", 40, 3),
                _pool("pool_2", "conv_2"),
                _conv("conv_3", "pool_2", 60, 3),
                _pool("pool_3", "conv_3"),
                _conv("conv_4", "pool_3", 80, 2),
                _flatten("flatten_1", "pool_3"),
                _flatten("flatten_2", "conv_4"),
                _dense("fc_1", "flatten_1", 160),
                _dense("fc_2", "flatten_2", 160),
                _layer("Add", "add_1", ["fc_1", "fc_2"]),
                _layer("Activation", "activation_1", ["add_1"], activation="relu"),
                _dense("output", "activation_1", classes, "softmax"),
            ],
            "input_layers": [["input", 0, 0]],
            "output_layers": [["output", 0, 0]],
        },
    }


ARCHITECTURES: dict[str, Callable[[int], _Config]] = {"deepid": deepid}
"""What `architecture` may say for a weights-only file: a name -> (number of classes) -> config."""
