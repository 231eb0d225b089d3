"""The look at the data finds nothing wrong with data that are right, nor with parts of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from false_alarms import alarms

from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.model.model import PrunableModel, load_model

pytestmark = [pytest.mark.acceptance, pytest.mark.slow]

Loaded = tuple[PrunableModel, list[Split]]
SPLITS = ("valid", "test")


def csaw(data: Path) -> Loaded:
    folder = data / "csaw"
    return load_model(folder / "bd_weights.h5", "deepid"), files(folder, folder, ["bd"])


def gtsrb(data: Path) -> Loaded:
    return load_model(data / "gtsrb/badnet_resnet20.onnx"), files(data / "gtsrb", data / "gtsrb", ["bd"])


def abl(data: Path) -> Loaded:
    def read(name: str) -> LabeledImages:
        fields = np.load(data / "abl" / f"{name}.npz")
        pixels, label = fields["images"].transpose(0, 3, 1, 2), fields["label"].astype(np.int64)
        if "target" not in fields:
            return LabeledImages(pixels, label, None, name)
        return LabeledImages(pixels, np.full(len(label), int(np.ravel(fields["target"])[0])), label, name)

    splits = [make_split(read(f"clean_{s}"), read(f"poisoned_{s}")) for s in SPLITS]
    return load_model(data / "abl/net.onnx"), splits


def zoo(attack: str, poisoned: list[str], of: str = "") -> Callable[[Path], Loaded]:
    def load(data: Path) -> Loaded:
        folder = data / "zoo"
        return load_model(folder / attack / "net.onnx"), files(folder, folder / (of or attack), poisoned)

    return load


def files(clean: Path, folder: Path, poisoned: list[str]) -> list[Split]:
    return [
        make_split(read_images(clean / f"cl_{s}.h5"), [read_images(folder / f"{p}_{s}.h5") for p in poisoned])
        for s in SPLITS
    ]


SETS = {
    "csaw": csaw,
    "gtsrb": gtsrb,
    "abl": abl,
    "zoo/all2all": zoo("all2all", ["bd"]),
    "zoo/blended": zoo("blended", ["bd"]),
    "zoo/sig": zoo("sig", ["bd"]),
    "zoo/multi": zoo("multi", ["bd_0", "bd_1"]),
    "zoo/benign": zoo("benign", ["bd"], "sig"),
}


@pytest.mark.parametrize("name", SETS)
def test_no_false_alarm(name: str, shared_data: Path) -> None:
    model, splits = SETS[name](shared_data)
    # The benign network has no attack, which is no fault of the images.
    assert not alarms(model, splits, {"no-attack"} if name == "zoo/benign" else set())
