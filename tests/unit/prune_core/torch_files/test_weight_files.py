"""Files of PyTorch weights, through the reader: what is in them, or one line that refuses them."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prune_core.errors import InputError
from prune_core.reader import client as contained


def read(path: Path) -> dict[str, np.ndarray]:
    said, arrays = contained.read("weights", path)
    return dict(zip(said["names"], arrays, strict=True))


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    text = str(caught.value)
    assert text.isprintable() and text.startswith(str(path))
    return text


def state() -> dict[str, torch.Tensor]:
    return {
        "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
        "half": torch.tensor([0.5, 1.25], dtype=torch.float16),
        "brain": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "bn.num_batches_tracked": torch.tensor(7),
    }


def same(found: dict[str, np.ndarray]) -> None:
    assert found.keys() == state().keys()
    for name, tensor in state().items():
        assert np.array_equal(found[name], tensor.float().numpy()), name
        assert found[name].shape == tuple(tensor.shape)
    assert found["half"].dtype == np.float16 and found["bn.num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize("new", [True, False])
def test_pth_of_both_forms(tmp_path: Path, new: bool) -> None:
    torch.save(state(), tmp_path / "net.pth", _use_new_zipfile_serialization=new)
    same(read(tmp_path / "net.pth"))


def test_safetensors(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "net.safetensors")
    same(read(tmp_path / "net.safetensors"))


def test_views_and_transposed_tensors_are_read_as_they_are(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    torch.save({"a": whole.t(), "b": whole[1:, ::2], "p": nn.Parameter(whole)}, tmp_path / "net.pt")
    found = read(tmp_path / "net.pt")
    assert np.array_equal(found["a"], whole.t().numpy()) and np.array_equal(
        found["b"], whole[1:, ::2].numpy()
    )
    assert np.array_equal(found["p"], whole.numpy())


def test_a_checkpoint_with_harmless_things_beside(tmp_path: Path) -> None:
    """BackdoorBench's attack_result.pt holds NumPy arrays; training scripts keep their arguments."""
    saved = {
        "model": OrderedDict(state()),
        "model_name": "preactresnet18",
        "num_classes": 10,
        "img_size": (32, 32, 3),
        "bd_train": {"original_index_array": np.arange(5), "data": {np.int64(3): {"path": "3.png"}}},
        "args": argparse.Namespace(lr=0.1, out=Path("runs")),
    }
    torch.save(saved, tmp_path / "attack_result.pt")
    said, arrays = contained.read("weights", tmp_path / "attack_result.pt")
    same(dict(zip(said["names"], arrays, strict=True)))
    assert (said["model_name"], said["num_classes"], said["img_size"]) == ("preactresnet18", 10, [32, 32, 3])


class WritesAFile:
    """Unpickled, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle", "in a checkpoint", "renamed"])
def test_a_pickle_that_would_write_a_file_writes_none(tmp_path: Path, form: str) -> None:
    canary, path = tmp_path / "written", tmp_path / "net.pth"
    evil: Any = WritesAFile(canary)
    if form == "pickle":
        path.write_bytes(pickle.dumps(evil))
    elif form == "in a checkpoint":
        torch.save({"model": state(), "args": evil}, path)
    elif form == "renamed":
        path = tmp_path / "net.safetensors"
        torch.save(evil, path)
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
    said = refusal(path)
    if form in ("zip", "in a checkpoint"):
        assert "posix.system" in said and "refused" in said
    assert not canary.exists()
    torch.load(path, weights_only=False) if form == "zip" else None
    assert canary.exists() == (form == "zip")  # so the file does what is said of it


def test_a_whole_module_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3)), tmp_path / "net.pth")
    said = refusal(tmp_path / "net.pth")
    assert "torch.nn.modules.container.Sequential" in said and "torch.save(net.state_dict()" in said


def test_torchscript_is_refused_with_what_to_do(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3)).eval()
    example = torch.rand(1, 3, 8, 8)
    torch.jit.save(torch.jit.trace(net, example), tmp_path / "net.pt")
    assert "TorchScript" in refusal(tmp_path / "net.pt") and "state_dict" in refusal(tmp_path / "net.pt")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    net = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4))).eval()
    with torch.no_grad():
        net.conv.weight.copy_(torch.randn(4, 3, 3, 3).transpose(2, 3))
    torch.save(net.state_dict(), tmp_path / "net.pth")
    torch.export.save(torch.export.export(net, (torch.rand(1, 3, 8, 8),)), tmp_path / "net.pt2")
    return tmp_path / "net.pt2"


def test_of_an_exported_program_the_weights_are_read(program: Path) -> None:
    found, wanted = read(program), read(program.with_suffix(".pth"))
    assert found.keys() == wanted.keys()
    assert all(np.array_equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize(
    "change",
    [
        {"use_pickle": True},
        {"path_name": "../../sample_inputs/model.pt"},
        {"path_name": 3},
        {"dtype": 9},
        {"dtype": 8},
        {"sizes": [{"as_int": 2**62}, {"as_int": 4}]},
        {"sizes": [{"as_int": -1}]},
        {"sizes": [{"as_expr": "__import__('os').system('touch written')"}]},
        {"strides": [{"as_int": 2**40}]},
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": {"as_int": -1}},
    ],
)
def test_exported_weights_that_lie_are_refused(program: Path, change: dict[str, Any]) -> None:
    parts = entries(program)
    (place,) = (name for name in parts if name.endswith("model_weights_config.json"))
    config = json.loads(parts[place])
    said = config["config"]["conv.bias"]
    for key, value in change.items():
        (said if key in said else said["tensor_meta"])[key] = value
    rewritten(program, {**parts, place: json.dumps(config).encode()})
    assert "its weights are damaged" in refusal(program)
    assert not Path("written").exists()


def test_the_program_itself_is_not_looked_at(program: Path) -> None:
    parts = entries(program)
    (place,) = (name for name in parts if name.endswith("models/model.json"))
    rewritten(program, {**parts, place: b"nonsense"})
    assert "conv.weight" in read(program)
    (place,) = (name for name in parts if name.endswith("model_weights_config.json"))
    rewritten(program, {name: data for name, data in parts.items() if name != place})
    assert "torch.onnx.export" in refusal(program)


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.eye(3).to_sparse(), "sparse"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantised"),
        (torch.ones(3, device="meta"), "device 'meta'"),
        (torch.ones(3, dtype=torch.complex64), "complex64"),
        (torch.ones(1).expand(1000), "stands for many"),
        (torch.ones(3, dtype=torch.float8_e4m3fn), "float8"),
    ],
)
def test_odd_tensors_are_refused_by_name(tmp_path: Path, tensor: torch.Tensor, kind: str) -> None:
    torch.save({"fine": torch.ones(2), "odd": tensor}, tmp_path / "net.pth")
    said = refusal(tmp_path / "net.pth")
    assert kind in said and "'odd'" in said


def test_whole_numbers_alone_are_no_weights(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3)}, tmp_path / "net.pth")
    assert "holds floats" in refusal(tmp_path / "net.pth")


def entries(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, parts: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(name, data)


def test_a_zip_that_expands_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(4)}, path)
    parts = entries(path)
    (place,) = (name for name in parts if name.endswith("data/0"))
    rewritten(path, {**parts, place: bytes(2**28)}, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 2**20
    assert "compressed" in refusal(path)


def test_a_storage_that_lies_about_its_length_is_refused(tmp_path: Path) -> None:
    """The pickle says 2,000 numbers, the storage holds 4: nothing behind it is read."""
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(2000)}, path)
    parts = entries(path)
    (place,) = (name for name in parts if name.endswith("data/0"))
    rewritten(path, {**parts, place: bytes(16)})
    refusal(path)


class Tensor:
    """Pickles as a tensor of torch's with any shape, strides and offset over a storage of four floats."""

    def __init__(self, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.form = offset, shape, strides

    def __reduce__(self) -> Any:
        storage = torch.arange(4.0).untyped_storage()
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=torch.float32, _internal=True)
        return torch._utils._rebuild_tensor_v2, (typed, *self.form, False, OrderedDict())


@pytest.mark.parametrize(
    "form",
    [
        (0, (1000,), (1,)),
        (0, (2, 2), (1000, 1)),
        (1000, (2,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2**20, 2**20), (0, 0)),
        (-4, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2**62, 4), (1, 1)),
        (0, (2**62, 0, 4), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("new", [True, False])
def test_shapes_beyond_their_storage_are_refused(tmp_path: Path, form: Any, new: bool) -> None:
    path = tmp_path / "net.pth"
    torch.save({"a": Tensor(*form)}, path, _use_new_zipfile_serialization=new)
    refusal(path)


def test_a_huge_legacy_storage_is_refused(tmp_path: Path) -> None:
    """The old form says how long a storage is in the pickle; nothing so long is made."""
    path = tmp_path / "net.pth"
    torch.save({"a": torch.zeros(4)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    length = pickle.dumps(4, 2)[2:-1]  # BININT1 4, as it stands behind the device
    at = data.index(b"cpu") + 3
    place = data.index(length, at)
    path.write_bytes(data[:place] + b"\x8a\x06" + (2**45).to_bytes(6, "little") + data[place + len(length) :])
    refusal(path)


@pytest.mark.parametrize("cut", [0, 1, 4, 100, -1, -30])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_cut_short(tmp_path: Path, suffix: str, cut: int) -> None:
    path = tmp_path / f"net{suffix}"
    save_file(state(), path) if suffix == ".safetensors" else torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:cut])
    refusal(path)


def header(path: Path, said: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = json.dumps(said).encode() if not isinstance(said, bytes) else said
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def test_safetensors_headers_that_lie(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    one = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    for said, data, length in (
        ({"a": one}, b"", None),
        ({"a": {**one, "shape": [2**40, 2**40]}}, bytes(16), None),
        ({"a": {**one, "data_offsets": [-16, 16]}}, bytes(16), None),
        ({"a": {**one, "data_offsets": [8, 24]}}, bytes(16), None),
        ({"a": {**one, "dtype": "F8_E4M3", "data_offsets": [0, 4]}}, bytes(4), None),
        ({"a": {**one, "dtype": "nonsense"}}, bytes(16), None),
        ({"a": {**one, "shape": [0, 2**62], "data_offsets": [0, 0]}}, b"", None),
        ({"\x1b[31m": {**one, "data_offsets": [8, 24]}}, bytes(16), None),  # the library shows the name
        (b"{" * 100, b"", None),
        ({"a": one}, bytes(16), 2**62),
        ({"a": one}, bytes(16), 2),
    ):
        refusal(header(path, said, data, length))
    assert "header takes" in refusal(header(path, b" " * (33 * 2**20)))


def test_names_that_are_not_printable_are_refused(tmp_path: Path) -> None:
    torch.save({"a\n": torch.ones(2)}, tmp_path / "net.pth")
    assert "not printable" in refusal(tmp_path / "net.pth")
    torch.save({"a" * 1000: torch.ones(2)}, tmp_path / "net.pth")
    assert "too long" in refusal(tmp_path / "net.pth")


def test_an_archive_that_says_it_has_several_parts_is_refused(tmp_path: Path) -> None:
    """Found by fuzzing: zipfile raises for it where it only asks whether this is an archive."""
    path = tmp_path / "net.pth"
    torch.save({"a": torch.ones(2)}, path)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\x06\x07")  # where another part would lie
    data[place + 16 : place + 20] = struct.pack("<I", 7)
    path.write_bytes(data)
    assert "not a readable zip archive" in refusal(path)


def test_an_archive_whose_entries_begin_before_it_is_refused(program: Path) -> None:
    """Found by fuzzing: where the directory is said to lie further behind than it does."""
    data = bytearray(program.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    for place in (end + 16, data.rfind(b"PK\x06\x06") + 48):
        width = 4 if place == end + 16 else 8
        there = int.from_bytes(data[place : place + width], "little")
        if there != 0xFFFFFFFF:
            data[place : place + width] = (there + 5000).to_bytes(width, "little")
    program.write_bytes(data)
    refusal(program)


def test_archives_that_are_not_of_torch_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    rewritten(path, {"hello.txt": b"hello"})
    assert "no data.pkl" in refusal(path)
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    path.write_bytes(buffer.getvalue())
    assert "no data.pkl" in refusal(path)
