"""Files made to do harm: refused by name, with nothing outside them opened, written or run."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras_files as kf
import numpy as np
import onnx
import pytest
from fuzz.__main__ import watched
from fuzz.make_hdf5 import conv_net
from fuzz.make_other import HOSTILE
from hand_nets import sign_net
from onnx import TensorProto, helper, numpy_helper

from prune_core.data.images import read_images
from prune_core.data.triggers import read_trigger
from prune_core.errors import InputError
from prune_core.model.model import load_model
from prune_core.reader import client as contained
from sweeps.config.schema import load_config
from sweeps.console import printable
from sweeps.reports.frontier_html import frontier_page
from sweeps.storage.manifest import read_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage


def refusal(read: Callable[..., Any], *given: Any) -> str:
    """The one line of an InputError."""
    with pytest.raises(InputError) as caught:
        read(*given)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the working folder, with files that a hostile one could point to."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "canary.bin").write_bytes(b"\0" * 4096)
    with h5py.File(folder / "canary.h5", "w") as file:
        file.create_dataset("data", data=np.zeros((2, 2, 2, 3), np.float32), maxshape=(None, 2, 2, 3))
    (tmp_path / "work").mkdir()
    return folder


def test_a_lambda_layer_that_would_write_a_file(goodnet: Any, tmp_path: Path) -> None:
    """Keras would unmarshal the code in it and run it when the model is loaded or called."""
    made = tmp_path / "made-by-the-model"
    config, weights = conv_net()
    code = f"lambda x: open({str(made)!r}, 'w').write('x')"
    config["config"]["layers"][3] = kf.layer(
        "Lambda",
        "pool",
        "norm",
        function=[code, None, None],
        function_type="lambda",
        module="builtins",
        output_shape=None,
    )
    path = kf.save_raw(tmp_path / "net.h5", config, weights)
    for command in (["inspect", path], ["evaluate", path, "--clean", path, "--poisoned", path]):
        said = goodnet(*command)
        assert said.status == 2 and "Traceback" not in said.err
        assert command[0] != "inspect" or "layer 'pool' (Lambda): not supported (no code" in said.err
    assert not made.exists()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("../outside/canary.bin", "points at '../outside/canary.bin', outside the model's folder"),
        ("{outside}/canary.bin", "outside the model's folder"),
        ("link.bin", "outside the model's folder"),
        ("pipe", "is missing"),
    ],
)
def test_an_onnx_file_that_points_outside_its_folder(
    tmp_path: Path, outside: Path, place: str, words: str
) -> None:
    path = sign_net(tmp_path / "work" / "net.onnx", [1, -1], [0, 0])
    (tmp_path / "work" / "link.bin").symlink_to(outside / "canary.bin")
    os.mkfifo(tmp_path / "work" / "pipe")
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", place.format(outside=outside)
    path.write_bytes(model.SerializeToString())
    with watched(outside) as touched:
        assert words in refusal(load_model, path)
    assert touched == []


def link(kind: str, outside: Path) -> Callable[[h5py.Group, str], Any]:
    other = str(outside / "canary.h5")
    layout = h5py.VirtualLayout((2, 2, 2, 3), "f4")
    layout[...] = h5py.VirtualSource(other, "data", (2, 2, 2, 3))
    # As long as its source, so that HDF5 opens that to tell the shape.
    growing = h5py.VirtualLayout((2, 2, 2, 3), "f4", maxshape=(None, 2, 2, 3))
    source = h5py.VirtualSource(other, "data", (2, 2, 2, 3), maxshape=(None, 2, 2, 3))
    growing[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    return {
        "external link": lambda g, n: g.__setitem__(n, h5py.ExternalLink(other, "/data")),
        "soft link": lambda g, n: g.__setitem__(n, h5py.SoftLink("/nowhere")),
        "external data": lambda g, n: g.create_dataset(
            n, (2, 2, 2, 3), "f4", external=[(str(outside / "canary.bin"), 0, 96)]
        ),
        "virtual data": lambda g, n: g.create_virtual_dataset(n, layout),
        "growing virtual data": lambda g, n: g.create_virtual_dataset(n, growing),
    }[kind]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("external link", "external"),
        ("soft link", "soft"),
        ("external data", "in another file"),
        ("virtual data", "in another file"),
        ("growing virtual data", "in another file"),
    ],
)
def test_hdf5_that_leads_out_of_the_file(tmp_path: Path, outside: Path, kind: str, words: str) -> None:
    put = link(kind, outside)
    images = tmp_path / "work" / "images.h5"
    with h5py.File(images, "w") as file:
        put(file, "data")
        file["label"] = np.zeros(2)
    config, weights = conv_net()
    model = kf.save_raw(tmp_path / "work" / "net.h5", config, weights)
    with h5py.File(model, "r+") as file:
        del file["model_weights/conv/conv/kernel"]
        put(file["model_weights/conv/conv"], "kernel")
    with watched(outside) as touched:
        assert words in refusal(read_images, images)
        assert words in refusal(load_model, model)
    assert touched == []


def test_a_link_out_of_the_file_that_nothing_needs(tmp_path: Path, outside: Path) -> None:
    """A pruned copy would hand it on. Circles of links within the file are only odd."""
    images, config_and_weights = tmp_path / "work" / "images.h5", conv_net()
    with h5py.File(images, "w") as file:
        file["data"], file["label"] = np.zeros((2, 2, 2, 3)), np.zeros(2)
    model = kf.save_raw(tmp_path / "work" / "net.h5", *config_and_weights)
    for path in (images, model):
        with h5py.File(path, "r+") as file:
            file["deep/er/self"] = file["/"]
    assert len(read_images(images)) == 2 and load_model(model).layers
    for path in (images, model):
        with h5py.File(path, "r+") as file:
            file["deep/er/out"] = h5py.ExternalLink(str(outside / "canary.h5"), "/data")
    with watched(outside) as touched:
        for read, path in ((read_images, images), (load_model, model)):
            assert "'deep/er/out' goes through an external link ('out'); refused" in refusal(read, path)
    assert touched == []


def test_names_of_layers_with_path_parts(tmp_path: Path) -> None:
    """Keras layers and ONNX nodes have slashes in their names; ``..`` is no name."""
    config, weights = conv_net()
    text = json.dumps(config).replace('"conv"', '"a/../conv"')
    weights["a/../conv"] = weights.pop("conv")
    with h5py.File(tmp_path / "net.h5", "w") as file:
        file.attrs["model_config"] = text
        file.create_group("model_weights").attrs["layer_names"] = [b"out"]
        file["model_weights"].create_group("out").attrs["weight_names"] = []
    assert "'a/../conv' is not a valid layer name" in refusal(load_model, tmp_path / "net.h5")
    path = sign_net(tmp_path / "net.onnx", [1, -1], [0, 0])
    for name, shown in (("block/conv", "block/conv"), ("../../conv", "conv_1")):
        model = onnx.load(path)
        model.graph.node[0].name = name
        onnx.save(model, path)
        assert [layer.name for layer in load_model(path).layers] == [shown]


def test_more_nodes_than_a_network_has(tmp_path: Path) -> None:
    """Turning them into torch would take minutes."""
    path = sign_net(tmp_path / "net.onnx", [1, -1], [0, 0])
    model = onnx.load(path)
    for number in range(20_000):
        model.graph.node.append(helper.make_node("Relu", [model.graph.node[0].output[0]], [f"r{number}"]))
    onnx.save(model, path)
    assert re.search(r"net.onnx: 200\d\d nodes; at most 20000", refusal(load_model, path))


def test_the_watch_sees_what_it_should(outside: Path) -> None:
    with watched(outside) as touched:
        (outside / "canary.bin").read_bytes()
    assert any(name.startswith("canary.bin") for name in touched)


def bomb(path: Path, **options: Any) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", **options)
        file["label"] = np.zeros(options["shape"][0], np.uint8)
    return path


def test_images_that_claim_more_than_the_file_can_hold(tmp_path: Path) -> None:
    huge = bomb(tmp_path / "a.h5", shape=(2, 3, 2**20, 2**10), dtype="u1", chunks=(1, 1, 16, 16))
    assert "claims 6,442,450,944 bytes in a file of" in refusal(read_images, huge)
    chunk = bomb(tmp_path / "b.h5", shape=(1, 1, 2**15, 2**14), dtype="u1", chunks=(1, 1, 2**15, 2**14))
    assert "claims 536,870,912 bytes" in refusal(read_images, chunk)
    packed = tmp_path / "c.h5"
    with h5py.File(packed, "w") as file:
        data = file.create_dataset(
            "data",
            (300, 1, 2**10, 2**10),
            "u1",
            chunks=(1, 1, 2**10, 2**10),
            compression="gzip",
            compression_opts=1,
        )
        for row in range(300):
            data[row] = 0
        file["label"] = np.zeros(300)
    assert packed.stat().st_size < 2**22
    assert "compressed at most 50 times" in refusal(read_images, packed)


def test_a_filter_that_would_load_a_plugin(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1, 1, 2, 2))
        plist.set_filter(305, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        space = h5py.h5s.create_simple((1, 1, 2, 2))
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT8, space, plist)
        file["label"] = np.zeros(1)
    assert "needs the HDF5 filter 305" in refusal(read_images, tmp_path / "x.h5")


def png(width: int, height: int, *chunks: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = b"".join(chunk(c[:4], c[4:]) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (png(6000, 6000, b"IDAT" + zlib.compress(b"\0" * 10**6)), "too large"),
        (png(2**31 - 1, 2**31 - 1), "not a readable picture"),
        (png(4, 4, b"zTXtk\0\0" + zlib.compress(b"\0" * 10**8)), "not a readable picture"),
        (png(4, 4), "not a readable picture"),
        (b"GIF89a" + bytes(40), "not a readable picture"),
    ],
)
def test_pictures_that_unpack_to_too_much(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "t.png").write_bytes(data)
    assert words in refusal(read_trigger, tmp_path / "t.png", 0, 0)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_configurations_that_expand_or_run(tmp_path: Path, outside: Path, number: int) -> None:
    path = tmp_path / "work" / "x.yaml"
    path.write_text(HOSTILE[number], "utf-8")
    began = time.process_time()
    assert "x.yaml: " in refusal(load_config, path)
    assert time.process_time() - began < 5
    assert not (outside / "made").exists()


def test_why_a_configuration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    for text, words in (
        (HOSTILE[0], "aliases counted"),
        (HOSTILE[1], "contains itself"),
        (HOSTILE[2], "only plain values are read"),
        ("a: " + "[" * 60, "too deeply nested"),
        ("a: b${c}", "only ${oc.env:NAME,default}"),
        ("a: " + "x" * 40_000, "characters"),
    ):
        path.write_text(text)
        assert words in refusal(load_config, path)


def test_networks_with_values_that_no_memory_holds(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["s"], ["big"]),
            helper.make_node("Conv", ["images", "k"], ["c"]),
            helper.make_node("Add", ["c", "big"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [
            numpy_helper.from_array(np.array([1, 4, 2**16, 2**16]), "s"),
            numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "k"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "x.onnx")
    assert "'big' has 17179869184 values for one image" in refusal(load_model, tmp_path / "x.onnx")


def test_damaged_records_and_manifests(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for data in (b"", b"PAR1", b"PAR1" + bytes(40) + b"PAR1", b"[" * 100_000, b'{"name": 1}'):
        storage.write_bytes("trials/x.parquet", data)
        assert RecordStore(storage).read("x") is None
        storage.write_bytes("sweeps/x.json", data)
        assert "its manifest is damaged" in refusal(read_manifest, storage, "x")
    assert "holds no sweep" in refusal(read_manifest, storage, "../../etc/passwd")


def test_names_from_files_steer_neither_terminal_nor_page(goodnet: Any, tmp_path: Path) -> None:
    import factories

    evil = "<script>alert(1)</script>\x1b[2J"
    record = factories.make_record(settings=factories.make_settings(layers=(evil,)))
    page = frontier_page([record], factories.make_frontier([record]), evil)
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert printable(evil + "\n\u202e") == "<script>alert(1)</script>?[2J\n?"
    path = sign_net(tmp_path / "net.onnx", [1, -1], [0, 0])
    model = onnx.load(path)
    model.graph.node[0].name = "conv\x1b]0;evil\x07[red]"
    onnx.save(model, path)
    said = goodnet("inspect", path)
    assert said.status == 0 and "\x1b" not in said.out + said.err


def kill_when_reading(what: signal.Signals) -> None:
    def act() -> None:
        time.sleep(0.3)
        assert contained._reader is not None
        contained._reader.process.send_signal(what)

    threading.Thread(target=act).start()


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (signal.SIGSEGV, r"crashed the library that reads it \(SIGSEGV\)"),
        (signal.SIGPROF, "more computing time"),
    ],
)
def test_what_stops_the_reader_is_one_line(tmp_path: Path, sent: signal.Signals, words: str) -> None:
    """Opening a pipe waits for a writer, so there is time for the reader to die."""
    good = sign_net(tmp_path / "net.onnx", [1, -1], [0, 0])
    load_model(good)
    os.mkfifo(tmp_path / "pipe.h5")
    kill_when_reading(sent)
    with pytest.raises(InputError, match=f"pipe.h5: .*{words}"):
        contained.read("images", tmp_path / "pipe.h5")
    assert load_model(good).layers  # by a new reader


def test_a_reader_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contained, "WAIT_SECONDS", 0.3)
    os.mkfifo(tmp_path / "pipe.h5")
    with pytest.raises(InputError, match="could not be read within 0 s"):
        contained.read("images", tmp_path / "pipe.h5")


def test_the_reader_has_bounds_and_its_arrays_cannot_be_changed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"], file["label"] = np.arange(48).reshape(4, 3, 2, 2), np.arange(4)
    images = read_images(tmp_path / "x.h5")
    np.testing.assert_array_equal(images.pixels, np.arange(48).reshape(4, 3, 2, 2))
    assert not images.pixels.flags.writeable
    assert contained._reader is not None
    limits = Path(f"/proc/{contained._reader.process.pid}/limits").read_text()
    (line,) = [line for line in limits.splitlines() if line.startswith("Max address space")]
    assert 2**30 < int(line.split()[3]) < 8 * 2**30


def test_json_of_hostile_names_stays_json(goodnet: Any, tmp_path: Path) -> None:
    path = sign_net(tmp_path / "net.onnx", [1, -1], [0, 0])
    model = onnx.load(path)
    model.graph.initializer[0].name = model.graph.node[0].input[1] = 'k"\n\x1b[2J'
    onnx.save(model, path)
    said = goodnet("inspect", path, "--json")
    assert said.status == 0 and json.loads(said.out)["channels_total"] == 2
    assert "\x1b" not in said.out
