"""`.keras` files that are refused, and models within models in the dialects of Keras 2: nothing is run,
unpacked to disk, or grows beyond bounds."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras_files as kf
import numpy as np
import pytest

from prune_core.errors import InputError
from prune_core.keras_files.h5 import read_keras

CONFIG = kf.as_keras_3(
    kf.functional(
        kf.input_layer(4, 4, 2),
        kf.layer("Conv2D", "first", "input", filters=3, kernel_size=[2, 2], activation="relu"),
        kf.layer("Conv2D", "second", "first", filters=3, kernel_size=[2, 2], activation="relu"),
        kf.layer("Flatten", "flat", "second"),
        kf.layer("Dense", "out", "flat", units=2, activation="softmax"),
    )
)
SHAPES = {
    "conv2d": ("first", [(2, 2, 2, 3), (3,)]),
    "conv2d_1": ("second", [(2, 2, 3, 3), (3,)]),
    "dense": ("out", [(12, 2), (2,)]),
}
Change = Callable[[h5py.File], Any]


def weights(change: Change = lambda handle: None) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as handle:
        for group, (name, shapes) in SHAPES.items():
            made = handle.create_group(f"layers/{group}/vars")
            made.attrs["name"] = name
            for number, shape in enumerate(shapes):
                made[str(number)] = np.full(shape, 0.5, np.float32)
        change(handle)
    return stream.getvalue()


def archive(path: Path, config: Any = CONFIG, **entries: bytes | None) -> Path:
    """A `.keras` file; entries that are None are left out."""
    held: dict[str, bytes | None] = {
        "metadata.json": b'{"keras_version": "3.15.1"}',
        "config.json": json.dumps(config).encode(),
        "model.weights.h5": weights(),
    }
    held |= {name.replace("__", "."): data for name, data in entries.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in held.items():
            if data is not None:
                made.writestr(name, data)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_keras(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def changed(name: str, **fields: Any) -> Any:
    config = json.loads(json.dumps(CONFIG))
    next(entry for entry in config["config"]["layers"] if entry["name"] == name).update(fields)
    return config


def test_the_unchanged_file_reads(tmp_path: Path) -> None:
    model = read_keras(archive(tmp_path / "net.keras"))
    assert [node.name for node in model.graph.node if node.op_type == "Conv"] == ["first", "second"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"config__json": None}, "holds 0 entries config.json"),
        ({"model.weights__h5": None}, "holds 0 entries model.weights.h5"),
        ({"model.weights__h5": None, "model.weights__json": b"{}"}, "cut into several files"),
        ({"config__json": b"{"}, "config.json is not readable JSON"),
        ({"config__json": b"[" * 100_000}, "config.json is not readable JSON"),
        ({"metadata__json": b"["}, "metadata.json is not readable JSON"),
        ({"config__json": b" " * (17 * 2**20)}, "config.json has 17,825,792 bytes; too many"),
        ({"model.weights__h5": b"\0" * 300 * 2**20}, "claims 314,572,800 bytes in a file of"),
        ({"model.weights__h5": b"no HDF5"}, "cannot be read as an HDF5 file"),
        ({"../evil": b"x"}, "leads out of the archive"),
        ({"/etc/evil": b"x"}, "leads out of the archive"),
    ],
)
def test_archives_that_are_refused(tmp_path: Path, entries: dict[str, bytes | None], message: str) -> None:
    assert message in refusal(archive(tmp_path / "net.keras", **entries))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.keras"]


def test_other_kinds_of_files(tmp_path: Path) -> None:
    path = tmp_path / "net.keras"
    assert "no such file" in refusal(path)
    for data in (b"", b"PK\x03\x04", weights()):
        path.write_bytes(data)
        assert "cannot be read as a .keras file" in refusal(path)
    with zipfile.ZipFile(archive(path), "a") as twice, pytest.warns(UserWarning, match="Duplicate"):
        twice.writestr("config.json", "{}")
    assert "holds 2 entries config.json" in refusal(path)
    with zipfile.ZipFile(archive(path), "a") as many:
        for number in range(1000):
            many.writestr(str(number), b"")
    assert "1003 entries" in refusal(path)


HOLES: dict[str, tuple[Change, str]] = {
    "fewer": (lambda h: h.__delitem__("layers/dense/vars/1"), "it takes 2 weights, the file has 1"),
    "none": (lambda h: h.__delitem__("layers"), "it takes 2 weights, the file has 0"),
    "other": (
        lambda h: h["layers/dense/vars"].attrs.__setitem__("name", "third"),
        "where its weights belong, the file has those of 'third'",
    ),
    "shape": (
        lambda h: (
            h.__delitem__("layers/dense/vars/0"),
            h.__setitem__("layers/dense/vars/0", np.ones((2, 12))),
        ),
        "its kernel should have shape (12, 2), the file has (2, 12)",
    ),
    "external": (
        lambda h: h["layers"].__setitem__("x", h5py.ExternalLink("other.h5", "/x")),
        "goes through an external link",
    ),
    "elsewhere": (
        lambda h: (
            h.__delitem__("layers/dense/vars/1"),
            h["layers/dense/vars"].create_dataset("1", (2,), "f4", external=[("other", 0, 8)]),
        ),
        "keeps its data in another file",
    ),
    "one for two": (
        lambda h: (
            h.__delitem__("layers/conv2d_1/vars/1"),
            h.__setitem__("layers/conv2d_1/vars/1", h["layers/conv2d/vars/1"]),
        ),
        "are one data set; refused",
    ),
}  # fmt: skip


@pytest.mark.parametrize("hole", HOLES)
def test_weights_that_are_refused(tmp_path: Path, hole: str) -> None:
    change, message = HOLES[hole]
    assert message in refusal(archive(tmp_path / "net.keras", **{"model.weights__h5": weights(change)}))


@pytest.mark.parametrize("offset", range(24, 96, 8))
def test_weights_whose_addresses_lead_nowhere(tmp_path: Path, offset: int) -> None:
    """Python's own files know no such places: an OverflowError of the driver that reads them."""
    data = bytearray(weights())
    for address in (2**62, 2**63 - 1, 2**64 - 2):
        data[offset : offset + 8] = address.to_bytes(8, "little")
        path = archive(tmp_path / "net.keras", **{"model.weights__h5": bytes(data)})
        try:
            read_keras(path)
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_name": "Lambda"}, "layer 'flat' (Lambda): not supported (no code of a file is run)"),
        ({"class_name": "MultiHeadAttention"}, "model.export('net.onnx', format='onnx')"),
        (
            {"module": "evil.layers"},
            "a custom class (evil.layers); its code is not known here; a way out is ONNX",
        ),
        ({"registered_name": "evil>Flatten"}, "a custom class (evil>Flatten)"),
    ],
)
def test_code_is_refused_by_name(tmp_path: Path, fields: Any, message: str) -> None:
    """And never run: its configuration, of whatever form, is not looked at."""
    hostile = {"config": {"name": "flat", "function": {"class_name": "__lambda__", "config": {"code": "x"}}}}
    config = changed("flat", **hostile, **fields)
    assert message in refusal(archive(tmp_path / "net.keras", config))


def doubling(depth: int) -> Any:
    """Models within models, each of which calls the one within twice: 2**depth convolutions."""
    inner: Any = kf.layer("ReLU", "act", "input")
    for level in range(depth):
        model = kf.functional(kf.input_layer(4, 4, 2), inner, kf.layer("Add", "sum", "act", "act"))
        if level:
            name = inner["name"]
            model["config"]["layers"][2]["inbound_nodes"] = [[[name, 0, 0, {}], [name, 1, 0, {}]]]
        calls = [[["input", 0, 0, {}]], [["input", 0, 0, {}]]]
        inner = {**model, "name": f"level_{level}", "inbound_nodes": calls}
    return inner


def test_models_within_models_that_would_never_end(tmp_path: Path) -> None:
    path = archive(tmp_path / "net.keras", doubling(18))
    assert "are called more than 5000 times" in refusal(path)
    assert "more than 20 deep" in refusal(archive(path, doubling(40)))


@pytest.mark.parametrize("kind", ["Sequential", "Functional"])
def test_models_within_models_in_the_dialect_of_keras_2(tmp_path: Path, kind: str) -> None:
    """Keras 2 counts the calls of a model from 1, the one on its own input being 0; Keras 3 from 0. The file
    has the weights that training changes first."""
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    kernel = np.arange(36, dtype=np.float32).reshape(3, 3, 2, 2) / 9
    numbers = np.arange(1, 9, dtype=np.float32).reshape(4, 2)
    stored = {"norm/gamma:0": numbers[0], "norm/beta:0": numbers[1], "conv/kernel:0": kernel}
    stored |= {"norm/moving_mean:0": numbers[2], "norm/moving_variance:0": numbers[3]}
    body = [
        kf.layer("BatchNormalization", "norm", "input", axis=[3]),
        kf.layer("Conv2D", "conv", "norm", filters=2, kernel_size=[3, 3], padding="same", use_bias=False),
    ]
    inner = kf.functional(kf.input_layer(4, 4, 2), *body)
    if kind == "Sequential":
        inner = {"class_name": "Sequential", "config": {"name": "block", "layers": body}}
    found = []
    for first in (1, 0):
        calls = [[["input", 0, 0, {}]], [["block", first, 0, {}]]]
        entry = {**inner, "name": "block", "inbound_nodes": calls}
        total = kf.layer("Add", "sum")
        total["inbound_nodes"] = [[["block", first, 0, {}], ["block", first + 1, 0, {}]]]
        model = kf.functional(kf.input_layer(4, 4, 2), entry, total, kf.layer("Flatten", "flat", "sum"),
                              kf.layer("Dense", "out", "flat", units=2))  # fmt: skip
        path = tmp_path / f"net{first}.h5"
        kf.save_raw(path, model, {"out": {"kernel": np.ones((32, 2)), "bias": np.ones(2)}})
        with h5py.File(path, "r+") as handle:
            group = handle["model_weights/block"]
            group.attrs["weight_names"] = list(stored)
            for name, values in stored.items():
                group[name] = values
        found.append(read_keras(path))
    assert found[0].graph.node == found[1].graph.node
    held = {t.name: np.frombuffer(t.raw_data, np.float32) for t in found[0].graph.initializer}
    for again in ("", "#2"):
        for part, values in zip(norm, numbers, strict=True):
            np.testing.assert_array_equal(held[f"block/norm{again}/{part}"], values)
        np.testing.assert_array_equal(held[f"block/conv{again}/kernel"], kernel.transpose(3, 2, 0, 1).ravel())
    with h5py.File(path, "r+") as handle:  # as if training changed other weights than those it says
        handle["model_weights/block"].attrs["weight_names"] = [*list(stored)[1:], next(iter(stored))]
    assert "where 'gamma' of 'block/norm' belongs, the file has" in refusal(path)


def test_a_hard_sigmoid_of_keras_2_is_another_one(tmp_path: Path) -> None:
    config = kf.functional(
        kf.input_layer(4, 4, 2),
        kf.layer("Conv2D", "conv", "input", filters=1, kernel_size=[4, 4], activation="hard_sigmoid"),
        kf.layer("Flatten", "flat", "conv"),
        kf.layer("Dense", "out", "flat", units=2),
    )
    weights = {
        "conv": {"kernel": np.ones((4, 4, 2, 1)), "bias": np.ones(1)},
        "out": {"kernel": np.ones((1, 2)), "bias": np.ones(2)},
    }
    path = kf.save_raw(tmp_path / "net.h5", config, weights)
    for version, slope in (("2.7.0", 0.2), ("3.15.1", 1 / 6)):
        with h5py.File(path, "r+") as handle:
            handle["model_weights"].attrs["keras_version"] = version
        node = next(n for n in read_keras(path).graph.node if n.op_type == "HardSigmoid")
        assert {a.name: a.f for a in node.attribute} == pytest.approx({"alpha": slope, "beta": 0.5})
