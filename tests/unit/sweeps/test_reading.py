"""``evaluate`` by hand, and the seed's table on the real networks, to the image."""

from __future__ import annotations

import logging
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hand_nets import sign_net
from PIL import Image

from prune_core.data.form import ImageForm, Preprocessing
from prune_core.data.images import Split, make_split, read_images
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.model import model as model_module
from prune_core.model.model import load_model
from sweeps.reading import evaluate_files, inspect_files


def images(path: Path, values: list[int], labels: list[int]) -> Path:
    with h5py.File(path, "w") as file:
        file["data"] = np.array(values, np.float32)[:, None, None, None] * np.ones((1, 2, 2))
        file["label"] = np.array(labels)
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The net says 0 to positive images and 1 to negative ones; the BadNet always says 0.

    Clean: +, -, + with labels 0, 1, 1: the net is right on 2. Poisoned, target 0: +, +, -, +: it
    falls for 3. Net and BadNet agree where the net says 0."""
    return {
        "model": sign_net(tmp_path / "net.onnx", [1, -1], [0, 0]),
        "badnet": sign_net(tmp_path / "bad.onnx", [0, 0], [1, 0]),
        "clean": images(tmp_path / "clean.h5", [1, -1, 1], [0, 1, 1]),
        "poisoned": images(tmp_path / "poisoned.h5", [1, 1, -1, 1], [0, 0, 0, 0]),
    }


def test_evaluate_by_hand(files: dict[str, Path]) -> None:
    found = evaluate_files(files["model"], files["clean"], files["poisoned"])
    assert (found["clean_correct"], found["clean_total"]) == (2, 3)
    assert (found["attacked"], found["poisoned_total"]) == (3, 4)
    assert found["clean_accuracy"] == 2 / 3 and found["attack_success"] == 3 / 4
    low, high = found["attack_success_interval"]
    assert low < 3 / 4 < high
    assert "attacked_agreeing" not in found and "goodnet" not in found


def test_the_net_of_n_plus_one_classes_by_hand(files: dict[str, Path]) -> None:
    """Clean: agreement on images 0 and 2, of which 0 is right. Poisoned: on all but image 2."""
    found = evaluate_files(files["model"], files["clean"], files["poisoned"], files["badnet"])
    assert found["clean_accuracy"] == 2 / 3 and found["attack_success"] == 3 / 4
    assert found["goodnet_clean_accuracy"] == 1 / 3
    assert found["goodnet_attack_success"] == 3 / 4
    assert found["detected_poisoned"] == 1 / 4
    assert found["attacked_agreeing"] == found["goodnet"]["attacked"] == 3
    assert found["goodnet"]["clean_correct"] == 1 and found["goodnet"]["detected"] == 1


def test_pixels_are_scaled(files: dict[str, Path], tmp_path: Path) -> None:
    """Class 1 needs a mean above 1: raw images of 1 stay in class 0, doubled ones do not."""
    net = sign_net(tmp_path / "threshold.onnx", [0, 1], [1, -0.5])
    raw = evaluate_files(net, files["clean"], files["poisoned"])
    doubled = evaluate_files(
        net, files["clean"], files["poisoned"], form=ImageForm(preprocessing=Preprocessing(2.0))
    )
    assert raw["attacked"] == 4 and doubled["attacked"] == 1


def test_a_badnet_of_other_classes_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    other = sign_net(tmp_path / "three.onnx", [0, 0, 0], [0, 1, 0])
    with pytest.raises(InputError, match=r"net.onnx has 2 classes and three.onnx has 3"):
        evaluate_files(files["model"], files["clean"], files["poisoned"], other)


def test_inspect_of_files(files: dict[str, Path]) -> None:
    found = inspect_files(files["badnet"], files["model"], layers=["conv"])
    assert found["layers"] == [{"name": "conv", "channels": 2, "zeroed": [0, 1], "constant": [0]}]
    assert found["channels_total"] == 2 and found["changed"] == {"conv": [0, 1]}


# What the networks do on the real files, in images: (clean correct, attacked). As rates, this is
# the seed facts' table of fidelity and attack success.
TOTALS = {"valid": 676, "test": 660}
TABLE = {
    "bd_weights.h5": {"valid": (676, 676), "test": (660, 660)},
    "gn-x2_weights.h5": {"valid": (643, 623), "test": (611, 603)},
    "gn-x4_weights.h5": {"valid": (559, 608), "test": (526, 592)},
    "gn-x10_weights.h5": {"valid": (375, 221), "test": (329, 187)},
    "bd_net_prune_drop2.h5": {"valid": (630, 676), "test": (626, 660)},
}


def read_split(folder: Path, name: str, step: int = 1) -> Split:
    """The real images, or every ``step``-th of them."""
    read = (read_images(folder / f"{kind}_{name}.h5") for kind in ("cl", "bd"))
    clean, poisoned = (images.keeping(np.arange(0, len(images), step)) for images in read)
    return make_split(clean, poisoned)


@pytest.fixture(scope="module")
def splits(shared_data: Path) -> dict[str, Split]:
    folder = shared_data / "csaw"
    return {name: read_split(folder, name) for name in TOTALS}


@pytest.mark.acceptance
@pytest.mark.parametrize("split", TOTALS)
@pytest.mark.parametrize("net", TABLE)
def test_the_seeds_table(shared_data: Path, splits: dict[str, Split], net: str, split: str) -> None:
    counts = PlainEvaluator(load_model(shared_data / "csaw" / net), splits[split]).badnet
    assert (counts.clean_correct, counts.attacked) == TABLE[net][split]
    assert counts.clean_total == counts.poisoned_total == TOTALS[split]


@pytest.mark.acceptance
@pytest.mark.parametrize(("picture", "says"), [("clean", 950), ("sunglasses", 0)])
def test_the_labs_own_pictures(
    shared_data: Path, caplog: pytest.LogCaptureFixture, picture: str, says: int
) -> None:
    model_module._say_assumed.cache_clear()  # it is said once for each file
    with caplog.at_level(logging.WARNING):
        model = load_model(shared_data / "csaw" / "bd_weights.h5")
    assert "weights only, with the layers of deepid" in caplog.text
    with Image.open(shared_data / "csaw" / "samples" / f"{picture}.png") as image:
        pixels = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)
    assert int(model.logits(torch.from_numpy(pixels[None].copy())).argmax()) == says


@pytest.mark.acceptance
@pytest.mark.parametrize(
    ("name", "step", "clean", "poisoned"),
    [
        ("test", 10, (248, 250), (249, 249)),
        pytest.param("valid", 1, (2440, 2500), (2491, 2491), marks=pytest.mark.slow),
        pytest.param("test", 1, (2438, 2500), (2489, 2489), marks=pytest.mark.slow),
    ],
)
def test_traffic_signs(
    shared_data: Path, name: str, step: int, clean: tuple[int, int], poisoned: tuple[int, int]
) -> None:
    """About 97.5 and 100 per cent; residual, batch norm folded, 43 classes."""
    split = read_split(shared_data / "gtsrb", name, step)
    counts = PlainEvaluator(load_model(shared_data / "gtsrb/badnet_resnet20.onnx"), split).badnet
    assert (counts.clean_correct, counts.clean_total) == clean
    assert (counts.attacked, counts.poisoned_total) == poisoned
    assert counts.recovered == 0


def test_weights_of_an_unknown_network_name_the_option(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        file.create_group("conv").attrs["weight_names"] = [b"kernel:0"]
        file["conv/kernel:0"] = np.zeros((1, 1, 1, 2), np.float32)
    with pytest.raises(InputError, match="`architecture`.*deepid"):
        load_model(tmp_path / "w.h5")


def test_the_badnet_against_itself_is_told(files: dict[str, Path]) -> None:
    """It printed 0 % detected, and nothing else."""
    found = evaluate_files(files["badnet"], files["clean"], files["poisoned"], files["badnet"])
    assert "same-network" in {f["name"] for f in found["findings"]}
    found = evaluate_files(files["model"], files["clean"], files["poisoned"], files["badnet"])
    assert "same-network" not in {f["name"] for f in found["findings"]}


def test_networks_that_were_exchanged_are_told(tmp_path: Path) -> None:
    """The network says 0 to all, the one called BadNet 1: 60 images are enough to be sure."""
    badnet = sign_net(tmp_path / "bad.onnx", [0, 0], [1, 0])
    repaired = sign_net(tmp_path / "good.onnx", [0, 0], [0, 1])
    clean = images(tmp_path / "clean.h5", [1, -1] * 30, [0, 1] * 30)
    poisoned = images(tmp_path / "poisoned.h5", [2] * 60, [0] * 60)
    wrong = evaluate_files(badnet, clean, poisoned, repaired)["findings"]
    right = evaluate_files(repaired, clean, poisoned, badnet)["findings"]
    assert "networks-exchanged" in {f["name"] for f in wrong}
    assert "networks-exchanged" not in {f["name"] for f in right}
