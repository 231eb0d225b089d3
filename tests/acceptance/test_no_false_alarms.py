"""The look at the data finds nothing wrong with data that are right, nor with parts of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prune_core.data.checks.findings import Answers, Finding, Seen
from prune_core.data.checks.labels import check_classes_of_splits, check_labels_of
from prune_core.data.checks.pixels import check_ranges, check_shift
from prune_core.data.checks.poison import check_poison
from prune_core.data.checks.size import check_size
from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.evaluation.look import findings_of, see
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


def part(seen: Seen, rng: np.random.Generator) -> Seen:
    """A draw without replacement, of 300 images or more."""

    def rows(total: int) -> np.ndarray:
        return rng.permutation(total)[: int(rng.integers(min(300, total), total + 1))]

    clean, poisoned = rows(len(seen.split.clean)), rows(len(seen.split.poisoned))
    answers = [
        Answers(a.classes[r], a.above[r], a.number)
        for a, r in ((seen.clean, clean), (seen.poisoned, poisoned))
    ]
    return Seen(seen.name, seen.split.keeping(clean, poisoned), *answers)


def looked_at(parts: list[Seen]) -> list[Finding]:
    """All rules that a part may break where the whole does not, but those that ask the network again."""
    found = check_ranges(parts)
    for seen in parts:
        found += [*check_labels_of(seen), *check_poison(seen), *check_size(seen)]
    return [*found, *check_shift(parts), *check_classes_of_splits(parts)]


@pytest.mark.parametrize("name", SETS)
def test_no_false_alarm(name: str, shared_data: Path) -> None:
    model, splits = SETS[name](shared_data)
    seen = [see(model, what, split) for what, split in zip(("validation", "test"), splits, strict=True)]
    # The benign network has no attack, which is no fault of the images.
    right = {"few-images"} | ({"no-attack"} if name == "zoo/benign" else set())
    assert {f.name for f in findings_of(model, seen, (2, 4, 10))} <= right
    rng = np.random.default_rng(0)
    alarms: Counter[str] = Counter()
    for _ in range(200):
        alarms.update(f.detail for f in looked_at([part(s, rng) for s in seen]) if f.name not in right)
    assert not alarms
