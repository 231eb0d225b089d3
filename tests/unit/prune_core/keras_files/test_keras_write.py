"""Pruned copies of Keras files: which weights become zero, and that nothing else changes."""

from __future__ import annotations

from pathlib import Path

import keras_files as kf
import numpy as np
import onnxruntime
import pytest

from prune_core.errors import InputError
from prune_core.keras_files.h5 import read_keras, write_keras, write_pruned_keras

ONES = np.ones(3, np.float32)
NORM = {"gamma": ONES, "beta": ONES, "moving_mean": ONES, "moving_variance": ONES}


def net(tmp_path: Path, *behind: kf.Config, **weights: dict[str, np.ndarray]) -> Path:
    """Conv2D `conv` of 2 -> 3 channels on 4 x 4, all weights one, and what stands behind it."""
    config = kf.functional(
        kf.input_layer(4, 4, 2),
        kf.layer("Conv2D", "conv", "input", filters=3, kernel_size=[2, 2], padding="same"),
        *behind,
    )
    weights["conv"] = {"kernel": np.ones((2, 2, 2, 3)), "bias": ONES}
    write_keras(tmp_path / "net.h5", config, weights)
    return tmp_path / "net.h5"


def zeros(path: Path) -> dict[str, list[int]]:
    """Weights -> output channels that are all zero, for weights that have any."""
    found = {}
    for key, value in kf.contents(path).items():
        if "@" not in key:
            gone = ~value.reshape(-1, value.shape[-1]).any(axis=0)
            found[key.split("/", 2)[2]] = np.flatnonzero(gone).tolist()
    return {key: channels for key, channels in found.items() if channels}


def outputs(path: Path) -> np.ndarray:
    """(2, C, H, W) of random images."""
    session = onnxruntime.InferenceSession(read_keras(path).SerializeToString())
    images = np.random.default_rng(0).normal(size=(2, 2, 4, 4)).astype(np.float32)
    return np.asarray(session.run(None, {"images": images})[0])


def test_kernel_and_bias(tmp_path: Path) -> None:
    source, copy = net(tmp_path), tmp_path / "copy.h5"
    write_pruned_keras(source, copy, {"conv": [2, 0]})
    assert zeros(copy) == {"conv/kernel:0": [0, 2], "conv/bias:0": [0, 2]}
    assert zeros(source) == {}
    write_pruned_keras(source, copy, {"conv": [1]}, keep_bias=True)
    assert zeros(copy) == {"conv/kernel:0": [1]}
    write_pruned_keras(source, copy, {})
    assert copy.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_batch_normalization_behind(tmp_path: Path, scale: bool, center: bool) -> None:
    """The channel is zero after it; the identity of a Dropout between changes nothing."""
    norm = {k: v for k, v in NORM.items() if {"gamma": scale, "beta": center}.get(k, True)}
    source = net(
        tmp_path,
        kf.layer("Dropout", "drop", "conv"),
        kf.layer("BatchNormalization", "norm", "drop", scale=scale, center=center),
        norm=norm,
    )
    copy = tmp_path / "copy.h5"
    write_pruned_keras(source, copy, {"conv": [1]})
    before, after = outputs(source), outputs(copy)
    assert (after[:, 1] == 0).all()
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    gone = ({"gamma"} if scale else {"moving_mean"}) | ({"beta"} if center else set())
    assert zeros(copy) == {f"norm/{key}:0": [1] for key in gone} | {
        "conv/kernel:0": [1],
        "conv/bias:0": [1],
    }
    write_pruned_keras(source, copy, {"conv": [1]}, keep_bias=True)
    assert zeros(copy) == {"conv/kernel:0": [1]}


def test_batch_normalization_that_is_not_alone_behind_stays(tmp_path: Path) -> None:
    source = net(
        tmp_path,
        kf.layer("BatchNormalization", "norm", "conv"),
        kf.layer("Add", "sum", "norm", "conv"),
        norm=NORM,
    )
    write_pruned_keras(source, tmp_path / "copy.h5", {"conv": [1]})
    assert zeros(tmp_path / "copy.h5") == {"conv/kernel:0": [1], "conv/bias:0": [1]}


@pytest.mark.parametrize("weight", ["kernel", "depthwise_kernel"])
def test_depthwise_channels(tmp_path: Path, weight: str) -> None:
    """Channel c comes from input channel c // multiplier, filter c % multiplier."""
    source, copy = tmp_path / "net.h5", tmp_path / "copy.h5"
    config = kf.functional(
        kf.input_layer(4, 4, 2),
        kf.layer(
            "DepthwiseConv2D", "conv", "input", kernel_size=[2, 2], depth_multiplier=3,
            use_bias=False,
        ),
    )  # fmt: skip
    write_keras(source, config, {"conv": {weight: np.ones((2, 2, 2, 3))}})
    write_pruned_keras(source, copy, {"conv": [1, 5]})
    (kernel,) = (v for k, v in kf.contents(copy).items() if "@" not in k)
    expected = np.ones((2, 2, 2, 3), np.float32)
    expected[:, :, 0, 1] = expected[:, :, 1, 2] = 0
    np.testing.assert_array_equal(kernel, expected)
    assert np.flatnonzero(~outputs(copy).any(axis=(0, 2, 3))).tolist() == [1, 5]


@pytest.mark.parametrize(
    ("pruned", "message"),
    [
        ({"conv": [3]}, "channels 0 to 2"),
        ({"conv": [-1]}, "channels 0 to 2"),
        ({"other": [0]}, "'other' is not a convolution; the convolutions are conv"),
    ],
)
def test_channels_that_are_not_there(tmp_path: Path, pruned: dict[str, list[int]], message: str) -> None:
    source, copy = net(tmp_path), tmp_path / "copy.h5"
    with pytest.raises(InputError, match=message):
        write_pruned_keras(source, copy, pruned)
    assert list(tmp_path.iterdir()) == [source]


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault while writing leaves the old file and no other."""
    source, copy = net(tmp_path), tmp_path / "copy.h5"
    copy.write_bytes(b"old")
    with pytest.raises(InputError, match="no such folder"):
        write_pruned_keras(source, tmp_path / "none" / "copy.h5", {"conv": [0]})

    def half(_: Path, aside: Path) -> None:
        aside.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("prune_core.keras_files.h5.shutil.copyfile", half)
    with pytest.raises(OSError, match="disk full"):
        write_pruned_keras(source, copy, {"conv": [0]})
    assert copy.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [copy, source]


def test_write_keras_knows_its_layers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\['other'\]"):
        net(tmp_path, other=NORM)


@pytest.mark.acceptance
@pytest.mark.parametrize("name", ["bd_weights", "bd_net_prune_drop2"])
@pytest.mark.parametrize("keep_bias", [False, True])
def test_pruned_copy_of_a_published_network(
    shared_data: Path, tmp_path: Path, name: str, keep_bias: bool
) -> None:
    source, copy = shared_data / "csaw" / f"{name}.h5", tmp_path / "copy.h5"
    write_pruned_keras(source, copy, {"conv_4": [79, 3], "conv_2": [0]}, keep_bias=keep_bias)
    before, after = kf.contents(source), kf.contents(copy)
    assert before.keys() == after.keys()
    expected = {}
    for layer, channels in (("conv_4", [3, 79]), ("conv_2", [0])):
        for weight in ("kernel:0",) if keep_bias else ("kernel:0", "bias:0"):
            expected[f"{layer}/{layer}/{weight}"] = channels
    for key, value in before.items():
        channels = next((c for end, c in expected.items() if key.endswith(end)), [])
        if channels:
            value[..., channels] = 0
        np.testing.assert_array_equal(after[key], value, err_msg=key)
    assert list(tmp_path.iterdir()) == [copy]
