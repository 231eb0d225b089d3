"""Each layer as Keras itself computes it, on random weights: from `.h5` and `.keras`, and pruned copies
that Keras opens again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hand_nets import random_split  # noqa: E402
from keras import layers as L  # noqa: E402
from onnx import numpy_helper  # noqa: E402

from prune_core.evaluation.plain import PlainEvaluator  # noqa: E402
from prune_core.export.files import measured_again, write_formats  # noqa: E402
from prune_core.keras_files.h5 import read_keras, write_pruned_keras  # noqa: E402
from prune_core.keras_files.weights import SharedWeights  # noqa: E402
from prune_core.masks import ChannelMask  # noqa: E402
from prune_core.model.model import PrunableModel, build_model, load_model  # noqa: E402

SHAPE = (9, 8, 3)
NOT_LOADED_BY_KERAS = ("normalization, one", "layer norm")  # not even as Keras writes them


def chain(*layers: Any) -> Callable[[Any], Any]:
    def build(x: Any) -> Any:
        for layer in layers:
            x = layer(x)
        return x

    return build


def conv(filters: int = 4, **fields: Any) -> Any:
    return L.Conv2D(filters, 3, **fields)


def squeeze_and_excite(x: Any) -> Any:
    x = conv(6, padding="same", activation="swish")(x)
    gate = L.Reshape((1, 1, 6))(L.GlobalAveragePooling2D()(x))
    gate = L.Conv2D(6, 1, activation="hard_sigmoid")(L.Conv2D(2, 1, activation="silu")(gate))
    return L.Multiply()([x, gate])


def nested(x: Any) -> Any:
    """Models within models, one of them called twice, and their layers named as others are."""
    inner = keras.Sequential(
        [conv(3, padding="same", name="conv"), L.BatchNormalization(name="norm")], name="block"
    )
    given = keras.Input((9, 8, 3))
    outer = keras.Model(given, L.ReLU()(L.Add()([inner(given), given])), name="outer")
    return L.Concatenate()([outer(x), outer(L.MaxPooling2D(1)(x)), conv(2, padding="same", name="conv")(x)])


def frozen(x: Any) -> Any:
    """Keras keeps weights of a model within the model apart by whether they are trained."""
    norm = L.BatchNormalization(trainable=False)
    return keras.Sequential([conv(3), norm, L.PReLU(), L.BatchNormalization()])(x)


def shared(x: Any) -> Any:
    one = conv(3, padding="same", activation="tanh")
    return L.Average()([one(x), one(L.Rescaling(0.5)(x))])


def merges(x: Any) -> Any:
    a, b = (conv(4, padding="same")(x) for _ in range(2))
    return L.Concatenate()([L.Subtract()([a, b]), L.Maximum()([a, b]), L.Minimum()([a, b]), L.Add()([a, b])])


def reshaped(x: Any) -> Any:
    x = L.Reshape((4, 8, 6))(conv(4, padding="same")(L.Cropping2D(((1, 0), (0, 2)))(x)))
    x = L.Reshape((-1,))(conv(2, padding="same")(x))
    return L.Reshape((4, 4, -1))(L.PReLU()(L.LayerNormalization()(x)))


def augmented(x: Any) -> Any:
    for layer in (
        L.RandomFlip(), L.RandomRotation(0.3), L.RandomZoom(0.3), L.RandomTranslation(0.2, 0.2),
        L.RandomContrast(0.5), L.RandomErasing(), L.RandAugment(), L.MixUp(), L.GaussianNoise(0.5),
        L.SpatialDropout2D(0.5), L.Identity(),
    ):  # fmt: skip
        x = layer(x)
    return conv()(x)


FUNCTIONS = (
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "sigmoid", "hard_sigmoid", "tanh", "hard_tanh",
    "softplus", "softsign", "exponential", "silu", "hard_silu", "gelu", "mish", "softmax", "log_softmax",
)  # fmt: skip
NETS: dict[str, Callable[[Any], Any]] = {
    **{name: chain(conv(activation=name)) for name in FUNCTIONS},
    "rescaling": chain(L.Rescaling(1 / 127.5, offset=-1), conv(), L.Rescaling([0.5, 2.0, 1.0, 3.0])),
    "normalization": chain(L.Normalization(), conv()),
    "normalization, told": chain(L.Normalization(mean=[0.1, 0.5, 0.9], variance=[1.0, 2.0, 0.5]), conv()),
    "normalization, one": chain(L.Normalization(axis=None), conv()),
    "augmentation": augmented,
    "nested": nested,
    "frozen": frozen,
    "shared": shared,
    "squeeze and excite": squeeze_and_excite,
    "merges": merges,
    "reshape": reshaped,
    "separable": chain(L.SeparableConv2D(5, 3, 2, "same", depth_multiplier=2, activation="gelu")),
    "depthwise": chain(L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"), L.GlobalMaxPooling2D()),
    "prelu": chain(conv(), L.PReLU(shared_axes=[1, 2]), L.PReLU()),
    "layer norm": chain(conv(), L.LayerNormalization(), L.LayerNormalization(axis=[1, 2, 3], center=False)),
    "group norm": chain(conv(6), L.GroupNormalization(3), L.GroupNormalization(-1, scale=False)),
    "up": chain(conv(), L.UpSampling2D((2, 3)), L.UpSampling2D(2, None, "bilinear"), L.Resizing(5, 7)),
    "pools": chain(L.ZeroPadding2D(((1, 0), (2, 1))), conv(), L.AveragePooling2D(2, padding="same")),
}  # fmt: skip


def made(build: Callable[[Any], Any], seed: int = 0) -> keras.Model:
    """With random weights, statistics too."""
    given = keras.Input(SHAPE)
    x = build(given)
    if len(x.shape) == 4:
        x = L.Flatten()(x)
    model = keras.Model(given, L.Dense(5)(x))
    dice = np.random.default_rng(seed)
    model.set_weights([
        dice.uniform(0.3, 1.5, w.shape) if w.name in ("moving_variance", "variance", "alpha")
        else dice.normal(0, 0.6, w.shape)
        for w in model.weights
    ])  # fmt: skip
    return model


def read(path: Path) -> PrunableModel:
    return build_model(read_keras(path), "digest", path.name)


def logits(net: PrunableModel, images: np.ndarray) -> np.ndarray:
    found: np.ndarray = net.logits(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    return found


IMAGES = np.random.default_rng(1).normal(0.3, 1, (40, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_as_keras_computes_it(name: str, tmp_path: Path) -> None:
    model = made(NETS[name])
    wanted = np.asarray(model.predict(IMAGES, verbose=0))
    assert np.ptp(wanted) > 1e-3
    for suffix in (".h5", ".keras"):
        model.save(tmp_path / f"net{suffix}")
        net = read(tmp_path / f"net{suffix}")
        found = logits(net, IMAGES)
        np.testing.assert_allclose(found, wanted, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())
        np.testing.assert_array_equal(found.argmax(axis=1), wanted.argmax(axis=1))
        if name in NOT_LOADED_BY_KERAS:
            continue
        convs = [node.name for node in net.proto.graph.node if node.op_type == "Conv"]
        mask = {la.name: [1] for la in net.layers if called_once(convs[la.onnx_index], convs)}
        pruned = {convs[net.layer(la).onnx_index]: channels for la, channels in mask.items()}
        write_pruned_keras(tmp_path / f"net{suffix}", tmp_path / f"good{suffix}", pruned)
        good = keras.models.load_model(tmp_path / f"good{suffix}", compile=False)
        with net.pruned(ChannelMask.of(mask)):
            expected = logits(net, IMAGES)
        assert not mask or np.abs(expected - found).max() > 1e-4
        again = np.asarray(good.predict(IMAGES, verbose=0))
        np.testing.assert_allclose(again, expected, rtol=2e-4, atol=2e-4 * np.abs(wanted).max())


def called_once(name: str, names: list[str]) -> bool:
    return not any(n.startswith(f"{name}#") for n in names) and "#" not in name


def test_a_layer_that_is_called_twice(tmp_path: Path) -> None:
    """Its calls are convolutions of their own; a Keras file has room for what is done to all of them."""
    model = made(shared)
    for suffix in (".h5", ".keras"):
        path, good = tmp_path / f"net{suffix}", tmp_path / f"good{suffix}"
        model.save(path)
        net = read(path)
        convs = [node.name for node in net.proto.graph.node if node.op_type == "Conv"]
        assert [n.partition("#")[2] for n in convs] == ["", "2"]
        for pruned in ({convs[0]: [1]}, {convs[0]: [1], convs[1]: [2]}):
            with pytest.raises(SharedWeights, match="called more than once and was changed in one"):
                write_pruned_keras(path, good, pruned)
            assert not good.exists()
        write_pruned_keras(path, good, dict.fromkeys(convs, [1]))
        with net.pruned(ChannelMask.of({layer.name: [1] for layer in net.layers})):
            expected = logits(net, IMAGES)
        again = keras.models.load_model(good, compile=False).predict(IMAGES, verbose=0)
        np.testing.assert_allclose(again, expected, rtol=2e-4, atol=1e-4)
        kernel = next(t for t in net.proto.graph.initializer if t.name == f"{convs[0]}/kernel")
        for both in (False, True):
            values = 2 * numpy_helper.to_array(kernel)
            changed = {f"{name}/kernel": values for name in (convs if both else convs[:1])}
            with contextlib.nullcontext() if both else pytest.raises(SharedWeights):
                write_pruned_keras(path, good, {}, weights=changed)
        again = keras.models.load_model(good, compile=False).predict(IMAGES, verbose=0)
        expected = logits(net.with_weights(changed), IMAGES)
        np.testing.assert_allclose(again, expected, rtol=2e-4, atol=1e-4)


def test_in_every_format(tmp_path: Path) -> None:
    """A `.keras` file of nested models, in by the reader process and out as it came; where it cannot say
    what was pruned, that file is left out and the others are not."""
    path = tmp_path / "net.keras"
    made(nested).save(path)
    model = load_model(path)
    plain = PlainEvaluator(model, random_split((3, 9, 8), 5))
    alone = [layer.name for layer in model.layers if layer.channels == 2]
    for layers, written_back in ((alone, True), ([model.layers[0].name], False)):
        mask = ChannelMask.of(dict.fromkeys(layers, [1]))
        written = write_formats(model, mask, path, tmp_path / f"good{written_back}", (3, 9, 8))
        found = measured_again(written, plain, plain.counts(mask))
        assert ("keras" in found) == written_back
        if written_back:
            assert written.models["keras"].suffix == ".keras"
            keras.models.load_model(written.models["keras"], compile=False)
