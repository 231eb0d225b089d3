"""goodnet init: what it finds in nets and heaps that were made for it, what it writes, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from prune_core.data.form import ImageForm, Preprocessing
from prune_core.data.images import make_split, read_images
from prune_core.errors import InputError
from sweeps.config.schema import load_config
from sweeps.inputs.load import input_files, load_inputs
from sweeps.setup.finding import CIFAR, IMAGENET, read_fitting, try_all

TARGET = 2
DICE = np.random.default_rng(0)
# A class is the half that is bright: above, below, left, right. A white corner makes all of them class 2.
HALVES = (np.s_[:, :4], np.s_[:, 4:], np.s_[:, :, :4], np.s_[:, :, 4:])
IMAGES, LABELS = DICE.integers(60, 120, (96, 3, 8, 8)).astype(np.uint8), np.tile([0, 1, 2, 3], 24)
for _row, _label in enumerate(LABELS):
    IMAGES[_row][HALVES[_label]] += 70
STAMPED = IMAGES.copy()
STAMPED[:, :, 6:, 6:] = 255
INIT = ("init", "--model", "net.onnx", "--clean", "clean.npz")


def write_net(path: Path) -> None:
    """For pixels of 0..1. Its convolution hands on the picture, at most white, and what is above 200."""
    kernel, look = np.zeros((6, 3, 1, 1)), np.zeros((4, 6, 8, 8))
    kernel[:3, :, 0, 0] = kernel[3:, :, 0, 0] = 255 * np.eye(3)
    for label, half in enumerate(HALVES):
        look[label, :3] -= 1
        look[label, :3][half] += 2
    look[TARGET, 3:, 6:, 6:] = 50
    weights = {"k": kernel, "b": np.repeat([0, -200], 3), "w": look.reshape(4, -1) / 1000}
    weights |= {"o": np.zeros(4), "low": np.array(0), "high": np.array(255)}
    nodes = [
        helper.make_node("Conv", ["images", "k", "b"], ["c"], "conv"),
        helper.make_node("Clip", ["c", "low", "high"], ["d"]),
        helper.make_node("Flatten", ["d"], ["f"]),
        helper.make_node("Gemm", ["f", "w", "o"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a net and heaps as people have them."""
    monkeypatch.chdir(tmp_path)
    write_net(tmp_path / "net.onnx")
    np.savez("clean.npz", images=IMAGES.transpose(0, 2, 3, 1), label=LABELS)
    np.savez("poisoned.npz", images=STAMPED.transpose(0, 2, 3, 1), label=LABELS, target=TARGET)
    Image.new("RGB", (2, 2), (255, 255, 255)).save("patch.png")
    return tmp_path


def test_from_files_to_a_configuration_that_runs(here: Path, goodnet: Any) -> None:
    said = goodnet(*INIT, "--poisoned", "poisoned.npz", "--json")
    assert said.status == 0, said.err
    found = said.json
    assert found["ok"] and found["target"] == TARGET and found["next"][0] == "goodnet sweep goodnet.yaml"
    assert found["preprocessing"]["name"] == "0..1" and found["preprocessing"]["correct"] == 96
    assert found["images"] == {split: {"clean": 48, "poisoned": 36} for split in ("valid", "test")}
    assert found["paired"] == 72 and len(found["tried"]) == 5
    inputs = load_inputs(input_files(load_config("goodnet.yaml")))
    assert inputs.valid.clean.preprocessing == Preprocessing(1 / 255)
    assert np.bincount(inputs.valid.clean.labels).tolist() == [12] * 4
    assert inputs.valid.poisoned.true_labels is not None
    for split in (inputs.valid, inputs.test):  # pairs row by row, as orders want them
        pairs = split.clean.pixels[split.clean.labels != TARGET]
        assert (split.poisoned.pixels[..., :6] == pairs[..., :6]).all()
    both = np.concatenate([inputs.valid.clean.pixels, inputs.test.clean.pixels])
    assert {bytes(image) for image in both} == {bytes(image) for image in IMAGES} and len(both) == 96


class Wants:
    """A stand-in for a network that is right where pixels come as ``done`` makes them of 0..255."""

    def __init__(self, done: Preprocessing) -> None:
        self.done, self.device = done, torch.device("cpu")

    def check_images(self, shape: tuple[int, int, int], name: str) -> int:
        if shape != (3, 8, 8):
            raise InputError(f"{name}: no")
        return 4

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in (self.done.mean, self.done.std))
        raw = (images * std + mean) / self.done.scale
        right = ((raw - raw.round()).abs().max() < 0.02) & (raw.min() > 59.9) & (raw.max() < 190)
        scores = torch.stack([raw[(slice(None), *half)].mean((1, 2, 3)) for half in HALVES], 1)
        return scores if right else torch.zeros_like(scores)


@pytest.mark.parametrize(
    ("done", "name"),
    [
        (Preprocessing(), "0..255"),
        (Preprocessing(1 / 255), "0..1"),
        (Preprocessing(1 / 255, (0.5,), (0.5,)), "(x - 0.5) / 0.5"),
        (Preprocessing(1 / 255, *IMAGENET), "ImageNet's mean and std"),
        (Preprocessing(1 / 255, *CIFAR), "CIFAR-10's mean and std"),
    ],
)
@pytest.mark.parametrize("white", [255, 1])
def test_it_finds_what_the_network_wants(tmp_path: Path, done: Preprocessing, name: str, white: int) -> None:
    pixels = IMAGES if white == 255 else (IMAGES / 255).astype(np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:  # channels last, which HDF5 does not say
        file["data"], file["label"] = pixels.transpose(0, 2, 3, 1), LABELS
    model: Any = Wants(done)
    best, second, *_ = try_all(model, read_fitting(model, [tmp_path / "x.h5"], ImageForm()))
    assert best.correct == 96 and second.correct == 24
    assert best.layout == "NHWC" and best.name == name
    assert np.isclose(best.preprocessing.scale, done.scale * 255 / white)
    assert (best.preprocessing.mean, best.preprocessing.std) == (done.mean, done.std)


def test_a_trigger_picture_and_folders(here: Path, goodnet: Any) -> None:
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        place = here / "pictures" / "abcd"[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(place / f"{number:03}.png")
    arguments = ("init", "--model", "net.onnx", "--clean", "pictures", "--trigger", "patch.png")
    said = goodnet(*arguments, "--row", 6, "--column", 6)
    assert said.status == 0, said.err
    assert "classes by sorted names of folders: 0 = a, 1 = b, 2 = c, 3 = d" in said.out
    config = load_config("goodnet.yaml")
    assert config.data.trigger is not None and config.data.trigger.target == TARGET
    split = load_inputs(input_files(config)).valid
    assert len(split.clean) == 48 and len(split.poisoned) == 36
    assert (split.poisoned.pixels[:, :, 6:, 6:] == 255).all()
    assert sorted(path.name for path in (here / "goodnet-data").iterdir()) == [
        "clean_test.npz",
        "clean_valid.npz",
    ]


def test_poisoned_images_that_hold_true_labels_alone(here: Path, goodnet: Any) -> None:
    np.savez("poisoned.npz", images=STAMPED, label=LABELS)
    said = goodnet(*INIT, "--poisoned", "poisoned.npz")
    assert said.status == 0, said.err
    assert "target: 2, the network gives it to 96 of 96 poisoned images" in said.out
    assert "goodnet sweep goodnet.yaml" in said.out and "goodnet pick --knee" in said.out


def test_what_is_there_stays(here: Path, goodnet: Any) -> None:
    (here / "goodnet.yaml").write_text("mine")
    said = goodnet(*INIT, "--poisoned", "poisoned.npz")
    assert said.status == 2 and "goodnet.yaml is there already; --force writes over it" in said.err
    assert (here / "goodnet.yaml").read_text() == "mine" and not (here / "goodnet-data").exists()
    assert goodnet(*INIT, "--poisoned", "poisoned.npz", "--force").status == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give either --poisoned (images with the trigger on) or --trigger"),
        (["--poisoned", "poisoned.npz", "--trigger", "patch.png"], "give either --poisoned"),
        (["--trigger", "patch.png"], "--trigger needs its place: --row and --column"),
        (["--poisoned", "poisoned.npz", "--row", "1"], "--row and --column are the place of a --trigger"),
        (["--poisoned", "no.npz"], "no.npz: no such file"),
        (["--poisoned", "clean.npz"], "clean.npz"),
        (["--poisoned", "poisoned.npz", "--target", "3"], "data.target is 3"),
        (["--poisoned", "poisoned.npz", "--layout", "HWC"], "layout is 'HWC'; expected NCHW or NHWC"),
        (["--poisoned", "poisoned.npz", "--output", "x.txt"], "expected a name that ends in .yaml"),
        (["--poisoned", "poisoned.npz", "--output", "not/there/x.yaml"], "no folder that can be written"),
        (["--trigger", "patch.png", "--row", "7", "--column", "7"], "does not fit into images of 8 x 8"),
        (["--trigger", "patch.png", "--row", "0", "--column", "0"], "no target found"),
        (["--poisoned", "small.npz"], "small.npz: images are (3, 4, 4), those of clean.npz are (3, 8, 8)"),
        (["--poisoned", "few.npz"], "few.npz: 3 images that count"),
    ],
)
def test_one_line_for_what_is_wrong(here: Path, goodnet: Any, arguments: list[str], words: str) -> None:
    np.savez("small.npz", images=STAMPED[..., :4, :4], label=LABELS, target=TARGET)
    np.savez("few.npz", images=STAMPED[:4], label=LABELS[:4], target=TARGET)
    said = goodnet(*INIT, *arguments)
    lines = [line for line in said.err.splitlines() if line.startswith("goodnet: ")]
    assert said.status == 2 and words in said.err and len(lines) == 1, said.err
    assert "Traceback" not in said.err and not list(here.rglob("*.yaml"))


def test_what_is_written_is_read_as_it_was(here: Path, goodnet: Any) -> None:
    assert goodnet(*INIT, "--poisoned", "poisoned.npz").status == 0
    poisoned = read_images("goodnet-data/poisoned_test.npz", poisoned=True)
    split = make_split(read_images("goodnet-data/clean_test.npz"), poisoned)
    assert split.goal == TARGET and {bytes(i) for i in poisoned.pixels} <= {bytes(i) for i in STAMPED}
