"""Attacks as configurations tell of them: several files, triggers to put on, targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import onnx
import pytest
from networks import CLASSES, SHAPE, made
from PIL import Image

from prune_core.data.images import Split
from prune_core.errors import InputError
from sweeps.config.schema import Config, make_config
from sweeps.inputs.load import input_files, load_inputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network, clean images, poisoned files of two triggers, and triggers in every form."""
    monkeypatch.chdir(tmp_path)
    onnx.save(made("Chain", 1)[0].proto, "net.onnx")
    rng = np.random.default_rng(0)
    channels, height, width = SHAPE
    for split in ("valid", "test"):
        pixels = rng.integers(0, 256, (12, *SHAPE)).astype(np.uint8)
        labels = np.arange(12) % CLASSES
        write(f"cl_{split}.h5", pixels, labels)
        for number in range(2):
            marked = pixels.copy()
            marked[:, :, number, :2] = 255
            write(f"bd_{number}_{split}.h5", marked, np.full(12, number), labels)
        write(f"next_{split}.h5", marked, (labels + 1) % CLASSES)
        write(f"hidden_{split}.h5", 255 - marked, (labels + 1) % CLASSES)
    colours = {1: (), 3: (3,)}[channels]
    Image.fromarray(np.full((2, 2, *colours), 200, np.uint8)).save("patch.png")
    Image.fromarray(np.full((height, width, *colours), 200, np.uint8)).save("noise.png")
    np.save("sine.npy", np.full((height, width), 28.0))
    np.save("field.npy", np.ones((height, width, 2)))
    return tmp_path


def write(path: str, pixels: np.ndarray, labels: np.ndarray, truth: np.ndarray | None = None) -> None:
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = pixels, labels
        if truth is not None:
            file["true_label"] = truth


def config(**data: Any) -> Config:
    clean = {"clean_valid": "cl_valid.h5", "clean_test": "cl_test.h5"}
    return make_config({"name": "a", "badnet": "net.onnx", "data": {**clean, **data}}, "a.yaml")


def read(**data: Any) -> Split:
    return load_inputs(input_files(config(**data))).valid


def files(*names: str) -> dict[str, Any]:
    return {f"poisoned_{split}": [f"{name}_{split}.h5" for name in names] for split in ("valid", "test")}


@pytest.mark.usefixtures("folder")
def test_every_poisoned_file_is_a_trigger() -> None:
    split = read(**files("bd_0", "bd_1"))
    assert split.goals == (0, 1) and split.left_out == 2 * int((np.arange(12) % CLASSES == 0).sum())
    one = read(poisoned_valid="bd_0_valid.h5", poisoned_test="bd_0_test.h5")
    assert one.target == 0 and one.digest == read(**files("bd_0")).digest
    with pytest.raises(InputError, match="validation aims at target label 0, 1, test at 1, 0"):
        read(**{**files("bd_0", "bd_1"), "poisoned_test": ["bd_1_test.h5", "bd_0_test.h5"]})


@pytest.mark.usefixtures("folder")
def test_a_target_for_every_image() -> None:
    split = read(**files("next"))  # pairs
    assert split.left_out == 0 and split.attacks[0].truth == "pairs"
    with pytest.raises(InputError, match="it is not known what the images truly show"):
        read(**files("hidden"))
    assert read(**files("hidden"), target="next").goal == "next"
    with pytest.raises(InputError, match="is 0, but data.target is 1"):
        read(**files("bd_0"), target=1)


@pytest.mark.usefixtures("folder")
def test_triggers_are_put_on_both_splits() -> None:
    given = [
        {"picture": "patch.png", "row": 1, "column": 2, "target": 1},
        {"blend": "noise.png", "alpha": 0.5, "target": 2},
        {"add": "sine.npy", "target": 0},
        {"warp": "field.npy", "target": "next"},
    ]
    split = read(triggers=given)
    assert split.goals == (1, 2, 0, "next") and split.floor == 0
    assert all(attack.truth == "true labels" for attack in split.attacks)
    single = read(trigger=given[0])
    assert single.digest == read(triggers=given[:1]).digest and single.goal == 1
    np.testing.assert_array_equal(single.poisoned.pixels, split.poisoned.pixels[split.rows_by_trigger[0]])
    # Poisoned files go before a trigger picture, as they always have.
    assert read(**files("bd_0"), trigger=given[0]).goal == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"triggers": [{"target": 1}]},
            "data.triggers.0.*expected one of picture, blend, add, warp and invert",
        ),
        ({"triggers": [{"add": "a", "warp": "b", "target": 1}]}, "add and warp; expected one of"),
        ({"triggers": [{"blend": "a", "target": 1}]}, "alpha goes with blend, and blend needs it"),
        ({"triggers": [{"add": "a", "alpha": 0.5, "target": 1}]}, "alpha goes with blend"),
        ({"triggers": [{"picture": "a", "row": 1, "target": 1}]}, "column goes with picture"),
        ({"triggers": [{"add": "a", "target": -1}]}, "expected a class, 0 or more, or next"),
        ({"triggers": [{"add": "a", "target": "other"}]}, "data.triggers.0.target"),
        ({"triggers": [{"add": "a", "target": 0}], "poisoned_valid": "b"}, "expected one of them"),
        ({"triggers": [{"ad": "a", "target": 0}]}, "did you mean 'data.triggers.0.add'"),
        ({"poisoned_valid": []}, "data.poisoned_valid is missing"),
    ],
)
def test_what_makes_no_sense_is_refused(data: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        config(**data)
