"""One made file after the other into the code that reads such files, as the commands do."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch

from fuzz import make_hdf5, make_images, make_keras, make_onnx, make_other, make_torch
from fuzz.mutate import mutated
from prune_core.compaction.compact import compact
from prune_core.data.images import LabeledImages
from prune_core.data.patterns import add_of, warp_of
from prune_core.data.triggers import Trigger
from prune_core.errors import InputError
from prune_core.export.audit import inspect_model
from prune_core.export.files import as_input
from prune_core.model.model import build_model
from prune_core.model.onnx2torch_import import load_onnx2torch
from prune_core.reader import server as reader_process
from prune_core.torch_nets.weights import put_in
from sweeps.config.schema import load_config
from sweeps.storage.manifest import read_manifest
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

load_onnx2torch()  # seconds, once, before children are forked
# Stricter than a command is: small files need milliseconds, and what hangs would take all our time.
reader_process.CPU_SECONDS = 0.7
SECONDS = 5.0  # of computing, for all else that is done with an input
ROOT = Path(__file__).resolve().parent.parent.parent
Stage = Callable[[str], None]
SUFFIX = {
    "keras": ".h5",
    "onnx": ".onnx",
    "images": ".h5",
    "yaml": ".yaml",
    "records": ".parquet",
    "trigger": ".png",
    "pattern": ".npy",
    "pickled": ".pth",
    "tensors": ".safetensors",
    "arrays": ".npz",
    "table": ".parquet",
    "folder": ".json",  # which says what is in it
    "layers": ".h5",
    "archive": ".keras",
}
KINDS = tuple(SUFFIX)
# What the reader is asked for.
WHAT = {
    "keras": "model",
    "onnx": "model",
    "images": "images",
    "trigger": "picture",
    "pattern": "array",
    "pickled": "weights",
    "tensors": "weights",
    "arrays": "images",
    "table": "images",
    "folder": "images",
    "layers": "model",
    "archive": "model",
}
CORPUS = Path(__file__).resolve().parent / "corpus"


def make_corpus(folder: Path) -> dict[str, list[bytes]]:
    """The files of ``CORPUS``, by kind: whole ones, which mutations start from. ``folder`` is for
    files on the way. Configurations are those of the repository."""
    return {
        "keras": make_hdf5.corpus_keras(folder),
        "images": make_hdf5.corpus_images(folder),
        "onnx": make_onnx.corpus(),
        "records": make_other.corpus_records(folder),
        "trigger": make_other.corpus_pictures(),
        "pattern": make_other.corpus_patterns(),
        "pickled": make_torch.corpus_pickled(),
        "tensors": make_torch.corpus_tensors(),
        "arrays": make_images.corpus_npz(),
        "table": make_images.corpus_parquet(),
        "folder": make_images.corpus_folder(),
        "layers": make_keras.corpus_layers(folder),
        "archive": make_keras.corpus_archives(),
    }


def write_corpus(top: Path) -> None:
    """``top/KIND/NUMBER.SUFFIX``, as ``CORPUS`` is kept."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, files in make_corpus(Path(folder)).items():
            (top / kind).mkdir(parents=True, exist_ok=True)
            for number, data in enumerate(files):
                (top / kind / f"{number:02}{SUFFIX[kind]}").write_bytes(data)


def read_corpus() -> dict[str, list[bytes]]:
    found = {path.name: [file.read_bytes() for file in sorted(path.iterdir())] for path in CORPUS.iterdir()}
    return {**found, "yaml": make_other.corpus_yaml(ROOT)}


@dataclass
class Feeder:
    """Makes inputs of a kind and feeds them. ``folder`` is the working folder."""

    folder: Path
    seed: int
    corpora: dict[str, list[bytes]]

    @classmethod
    def at(cls, folder: Path, seed: int) -> Feeder:
        return cls(folder, seed, read_corpus())

    def make(self, kind: str, number: int) -> bytes:
        """Input ``number`` of a kind: the same for the same seed, whatever came before."""
        dice = random.Random(f"{self.seed}/{kind}/{number}")
        grammar: dict[str, Callable[[], bytes]] = {
            "keras": lambda: make_hdf5.odd_keras(dice),
            "images": lambda: make_hdf5.odd_images(dice),
            "onnx": lambda: make_onnx.odd_onnx(dice),
            "yaml": lambda: make_other.odd_yaml(dice),
            "records": lambda: make_other.odd_record(self.corpora["records"], dice),
            "trigger": lambda: make_other.odd_picture(dice),
            "pattern": lambda: make_other.odd_pattern(dice),
            "arrays": lambda: make_images.odd_npz(dice),
            "table": lambda: make_images.odd_parquet(dice),
            "folder": lambda: make_images.odd_folder(dice),
            "pickled": lambda: make_torch.odd_pickled(self.corpora["pickled"], dice),
            "tensors": lambda: make_torch.odd_tensors(dice),
            "layers": lambda: make_keras.odd(make_keras.in_h5, dice),
            "archive": lambda: make_keras.odd(make_keras.in_archive, dice),
        }
        known = self.corpora[kind]
        if dice.random() < 0.45:
            try:
                data = grammar[kind]()
                return mutated(data, known, dice) if dice.random() < 0.2 else data
            except (
                TypeError,
                ValueError,
                OverflowError,
                OSError,
                LookupError,
                AttributeError,
                RuntimeError,
                MemoryError,
            ):
                pass  # the libraries that write would not write this one
        return mutated(dice.choice(known), known, dice)

    def feed(self, kind: str, data: bytes, stage: Stage) -> str | None:
        """The reason why the file is refused; None where it is taken. Whatever else is raised is a
        fault. ``stage`` is told whether it is the reader process that would be at work."""
        if kind in ("yaml", "records"):
            stage("here")
            return self._text(kind, data)
        path = self.folder / f"input{SUFFIX[kind]}"
        if kind == "folder":
            path = self.folder / "input"
            shutil.rmtree(path, ignore_errors=True)
            make_images.unpack(data, path)
        else:
            path.write_bytes(data)
        what = WHAT[kind]
        stage("reader")
        reader_process.limits(path)
        said, arrays = reader_process.answer({"what": what, "path": str(path)})
        stage("here")
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # the reader's time ends with its answer
        if "fault" in said:
            raise RuntimeError(said["fault"])
        if "error" in said:
            return str(said["error"])
        try:
            if what == "model":
                _use_model(arrays[0].tobytes())
            elif what == "weights":
                _use_weights(dict(zip(said["result"]["names"], arrays, strict=True)))
            elif what == "images":
                names = dict(zip(said["result"]["fields"], arrays, strict=True))
                truth = names.get("true_label")
                images = LabeledImages(names["images"], names.get("label", names.get("target")), truth)
                assert len(images.floats(0, 2)) and len(images.digest) == 64
            elif what == "array":
                _use_pattern(arrays[0])
            else:
                _use_picture(arrays[0])
        except InputError as error:
            return str(error)
        return None

    def _text(self, kind: str, data: bytes) -> str | None:
        try:
            if kind == "yaml":
                path = self.folder / "input.yaml"
                path.write_bytes(data)
                load_config(path)
                return None
            storage = Storage(str(self.folder))
            storage.write_bytes("trials/input.parquet", data)
            record = RecordStore(storage).read("input")
            storage.write_bytes("sweeps/input.json", data)
            with contextlib.suppress(InputError):
                read_manifest(storage, "input")
            if record is None:
                return "not one of ours"
            str(record.settings), f"{record.seconds:.1f}"
            for counts in [state.counts for state in record.states()] + [record.valid, record.test]:
                if counts is not None:
                    counts.to_json()
        except InputError as error:
            return str(error)
        return None


def _use_model(data: bytes) -> None:
    """What inspect, evaluate and pick do with a network."""
    model = build_model(onnx.ModelProto.FromString(data), "digest", "input")
    inspect_model(model)
    image = tuple(size or 8 for size in model.image_shape)
    model.check_images((image[0], image[1], image[2]), "images")
    compact(model.proto, as_input(model, (image[0], image[1], image[2])))


def _use_weights(arrays: dict[str, np.ndarray]) -> None:
    """What load does with a state_dict: into a net that the corpus fits."""
    layers = OrderedDict(conv=torch.nn.Conv2d(3, 4, 3, bias=False), fc=torch.nn.Linear(4, 2, bias=False))
    net = torch.nn.Sequential(layers)
    net.add_module("bn", torch.nn.Module())
    net.bn.weight = torch.nn.Parameter(torch.zeros(4))
    assert all(array.dtype.kind in "fiub" for array in arrays.values())
    put_in(net, arrays, "input", "a small net")


def _use_picture(rgba: np.ndarray) -> None:
    trigger = Trigger(rgba[..., :3].transpose(2, 0, 1).copy(), rgba[..., 3] / 255, 1, 0)
    images = LabeledImages(np.zeros((2, 3, 20, 48), np.uint8), np.zeros(2, np.int64))
    assert trigger.stamp(images, 1).pixels.dtype == np.uint8


def _use_pattern(values: np.ndarray) -> None:
    """As a pattern to add and as a field to warp by; refused where it is neither."""
    images = np.zeros((2, 3, 5, 6), np.uint8)
    try:
        made = add_of(values, "input").on(images, "images")
    except InputError:
        made = warp_of(values, "input").on(images, "images")
    assert made.shape == images.shape and np.isfinite(made).all()
