"""Every mistake of a caller: one clear line, exit status 2, no traceback, earlier trials kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sweeps.inputs.embedded import EmbeddedFiles

Spoil = Callable[[Path, EmbeddedFiles], list[str]]


def images(path: Path, source: Path, **changes: object) -> str:
    """A copy of an image file with some data sets replaced (None: left out)."""
    with h5py.File(source) as given:
        fields = {name: given[name][()] for name in given} | changes
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            if values is not None:
                file[name] = values
    return str(path)


def as_set(key: str, make: Callable[[Path, EmbeddedFiles], object]) -> Spoil:
    return lambda folder, files: ["--set", f"{key}={make(folder, files)}"]


def valid(**changes: object) -> Spoil:
    return as_set("data.clean_valid", lambda d, f: images(d / "x.h5", f.clean_valid, **changes))


def pixels(files: EmbeddedFiles) -> np.ndarray:
    with h5py.File(files.clean_valid) as file:
        return file["data"][()]


def _text(folder: Path, files: EmbeddedFiles) -> str:
    (folder / "x.h5").write_text("these are not pictures")
    return str(folder / "x.h5")


def _cut(folder: Path, files: EmbeddedFiles) -> str:
    data = files.clean_valid.read_bytes()
    (folder / "x.h5").write_bytes(data[: len(data) // 2])
    return str(folder / "x.h5")


def _with_nan(folder: Path, files: EmbeddedFiles) -> str:
    bad = pixels(files).astype(np.float32)
    bad[0, 0, 0, 0] = np.nan
    return images(folder / "x.h5", files.clean_valid, data=bad)


def _smaller(folder: Path, files: EmbeddedFiles) -> str:
    return images(folder / "x.h5", files.clean_valid, data=pixels(files)[..., :20])


def _no_convolution(folder: Path, files: EmbeddedFiles) -> str:
    size = int(np.prod(pixels(files).shape[1:]))
    weight = helper.make_tensor("w", TensorProto.FLOAT, (size, 10), np.zeros(size * 10))
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *pixels(files).shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "x.onnx")
    return str(folder / "x.onnx")


def _a_file_where_a_folder_should_be(folder: Path, files: EmbeddedFiles) -> str:
    (folder / "file").write_text("")
    return str(folder / "file")


# What is spoilt, and what the one line must say.
TABLE: dict[str, tuple[Spoil, list[str]]] = {
    "missing data": (as_set("data.clean_valid", lambda d, f: d / "no.h5"), ["no.h5", "no such file"]),
    "missing model": (as_set("badnet", lambda d, f: d / "no.h5"), ["no.h5", "no such file"]),
    "model of another kind": (
        as_set("badnet", lambda d, f: shutil.copy(f.badnet, d / "x.pkl")),
        ["x.pkl", ".onnx", ".pth"],
    ),
    "weights of another kind": (
        as_set("badnet", lambda d, f: shutil.copy(f.badnet, d / "x.pt")),
        ["x.pt", "torch.save"],
    ),
    "not HDF5": (as_set("data.clean_valid", _text), ["x.h5", "not a readable HDF5 file"]),
    "cut short": (as_set("data.clean_valid", _cut), ["x.h5", "HDF5"]),
    "model is no HDF5": (as_set("badnet", _text), ["x.h5", "HDF5"]),
    "no data": (valid(data=None), ["no field 'data'"]),
    "no label": (valid(label=None), ["no field 'label'"]),
    "wrong rank": (valid(data=np.zeros((5, 3, 9))), ["'data'", "rank 4"]),
    "NaN pixels": (as_set("data.clean_valid", _with_nan), ["x.h5", "'data'", "NaN"]),
    "labels out of range": (
        as_set(
            "data.clean_valid",
            lambda d, f: images(d / "x.h5", f.clean_valid, label=np.full(len(pixels(f)), 77)),
        ),
        ["'label'", "77", "classes"],
    ),
    "negative labels": (
        as_set(
            "data.clean_valid",
            lambda d, f: images(d / "x.h5", f.clean_valid, label=np.full(len(pixels(f)), -1)),
        ),
        ["'label'", "negative"],
    ),
    "labels of another count": (valid(label=np.zeros(3)), ["'label'", "expected"]),
    "labels that are fractions": (
        as_set(
            "data.clean_valid",
            lambda d, f: images(d / "x.h5", f.clean_valid, label=np.full(len(pixels(f)), 0.5)),
        ),
        ["'label'", "whole numbers"],
    ),
    "words for pixels": (valid(data=np.array([[[[b"a"]]]])), ["'data'", "real numbers"]),
    "empty set": (valid(data=np.zeros((0, 3, 9, 9)), label=np.zeros(0)), ["'data'", "empty"]),
    "image size refused": (as_set("data.clean_valid", _smaller), ["(3, ", "images are"]),
    "clean given as poisoned": (
        as_set("data.poisoned_valid", lambda d, f: f.clean_valid),
        ["was the clean file given as the poisoned one"],
    ),
    "unknown key": (as_set("sweep.order", lambda d, f: "[index]"), ["'sweep.order'", "'sweep.orders'"]),
    "unknown key at the top": (as_set("storrage", lambda d, f: d), ["'storrage'", "'storage'"]),
    "unknown layer": (as_set("sweep.layer_sets", lambda d, f: "[conv_9]"), ["'conv_9'", "conv_1"]),
    "too many layers": (as_set("sweep.layer_sets", lambda d, f: "[last:99]"), ["last:99"]),
    "channel that is not there": (
        as_set("sweep.layer_sets", lambda d, f: "['conv_1[0-999]']"),
        ["channels go from 0"],
    ),
    "unknown order": (as_set("sweep.orders", lambda d, f: "[indx]"), ["'indx'", "'index'"]),
    "unknown policy": (as_set("sweep.policies", lambda d, f: "[best]"), ["'best'", "margin"]),
    "X below 0": (as_set("sweep.x_thresholds", lambda d, f: "[-1]"), ["X is -1", "0 to 100"]),
    "X is a word": (as_set("sweep.x_thresholds", lambda d, f: "[two]"), ["x_thresholds"]),
    "nothing to sweep": (as_set("sweep.orders", lambda d, f: "[]"), ["sweep.orders", "at least one"]),
    "search that is none": (as_set("sweep.search", lambda d, f: "magic"), ["sweep.search", "grid"]),
    "no convolutions": (as_set("badnet", _no_convolution), ["x.onnx", "no convolution"]),
    "unwritable storage": (as_set("storage", _a_file_where_a_folder_should_be), ["storage", "file"]),
    "storage of no kind": (as_set("storage", lambda d, f: "gopher://x"), ["storage", "gopher"]),
    "MLflow does not answer": (as_set("tracking.uri", lambda d, f: "http://127.0.0.1:9"), ["127.0.0.1:9"]),
    "set without value": (lambda d, f: ["--set", "storage"], ["key=value"]),
    "executor that is none": (lambda d, f: ["--executor", "slurm"], ["ray or inline"]),
}


@pytest.mark.parametrize("case", TABLE)
def test_one_clear_line(case, goodnet, smoke_config, smoke_files, tmp_path) -> None:
    earlier = tmp_path / "runs" / "trials" / "earlier.parquet"
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"a finished trial")
    spoil, words = TABLE[case]
    said = goodnet("sweep", smoke_config, "--executor", "inline", *spoil(tmp_path, smoke_files))
    lines = said.err.strip().splitlines()
    assert said.status == (3 if case == "MLflow does not answer" else 2), said.err
    assert said.out == "" and "Traceback" not in said.err
    assert len(lines) == 1 and lines[0].startswith("goodnet: "), said.err
    for word in words:
        assert word in lines[0]
    assert earlier.read_bytes() == b"a finished trial"


def test_a_config_that_is_not_there_or_not_yaml(goodnet, tmp_path) -> None:
    said = goodnet("sweep", tmp_path / "no.yaml")
    assert said.status == 2 and "no.yaml: no such file" in said.err
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    said = goodnet("sweep", tmp_path / "bad.yaml")
    assert said.status == 2 and "bad.yaml: cannot be read as YAML" in said.err


def test_prune_wants_one_of_each(goodnet, smoke_config) -> None:
    said = goodnet("prune", smoke_config)
    assert said.status == 2 and "sweep.orders has 2 entries" in said.err


def test_a_missing_file_comes_with_the_hint_of_the_configuration(goodnet, smoke_config) -> None:
    said = goodnet("sweep", smoke_config, "--set", "data.clean_valid=no.h5", "--set", "data_hint=Ask us.")
    assert said.status == 2 and said.err.strip().endswith("Ask us.")


def test_nothing_to_look_at_yet(goodnet, tmp_path) -> None:
    for command in (["frontier"], ["pick", "--knee"]):
        said = goodnet(*command, "--storage", tmp_path)
        assert said.status == 2 and "holds no sweep yet" in said.err


def test_a_file_is_no_storage(goodnet, tmp_path) -> None:
    (tmp_path / "runs").write_bytes(b"")
    for place in (tmp_path / "runs", tmp_path / "runs" / "inner"):
        said = goodnet("frontier", "--storage", place)
        assert said.status == 2 and f"{tmp_path / 'runs'} is a file; expected a folder" in said.err


def _no_pairs(folder: Path, files: EmbeddedFiles) -> str:
    """Poisoned images in another order than the clean ones, without their true labels."""
    with h5py.File(files.poisoned_valid) as file:
        data = file["data"][()]
    return images(folder / "p.h5", files.poisoned_valid, data=np.roll(data, 1, axis=0), true_label=None)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        (["sweep.orders=[tac]"], ["'tac'", "pairs"]),
        (["sweep.orders=[across:tac]"], ["'across:tac'", "pairs"]),
        (["sweep.orders=[taylor]"], ["'taylor'", "true labels"]),
        (["sweep.orders=[attack-clean-ratio]"], ["'attack-clean-ratio'", "true labels"]),
        (["sweep.orders=[index]", "sweep.repair=unlearn"], ["unlearn", "true labels"]),
    ],
)
def test_prune_with_data_that_lack_what_is_needed(
    choice, words, goodnet, smoke_config, smoke_files, tmp_path
) -> None:
    chosen = [
        *choice,
        "sweep.layer_sets=[last:1]",
        "sweep.x_thresholds=[10]",
        f"data.poisoned_valid={_no_pairs(tmp_path, smoke_files)}",
    ]
    said = goodnet("prune", smoke_config, *(part for one in chosen for part in ("--set", one)))
    *found, wrong = said.err.strip().splitlines()
    assert said.status == 2 and said.out == "", said.err
    assert wrong.startswith("goodnet: "), said.err
    assert all(line.startswith(("warning: ", "note: ")) for line in found), said.err  # of the data
    for word in words:
        assert word in wrong
