"""Split.from_arrays and from_files: what they make, and what they say of arrays that are no split."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from prune_core.data.images import Split
from prune_core.errors import InputError

CLEAN = np.arange(4 * 3 * 8 * 8, dtype=np.uint8).reshape(4, 3, 8, 8)
LABELS = [0, 1, 2, 1]
POISONED = CLEAN[:3]


def test_a_split_of_arrays() -> None:
    split = Split.from_arrays(CLEAN, LABELS, POISONED, 2, true_labels=[0, 2, 1], scale=0.5)
    assert split.clean.pixels is CLEAN and split.clean.labels.tolist() == LABELS
    assert split.target == 2 and split.clean.scale == split.poisoned.scale == 0.5
    assert split.poisoned.true_labels.tolist() == [0, 1]  # the image that truly shows 2 is left out
    assert (split.poisoned.pixels == POISONED[[0, 2]]).all()
    assert Split.from_arrays(CLEAN, np.array(LABELS, np.float32), POISONED).poisoned.true_labels is None


def test_the_same_from_files(tmp_path: Path) -> None:
    for name, fields in {
        "clean": {"data": CLEAN, "label": LABELS},
        "poisoned": {"data": POISONED, "label": [2, 2, 2], "true_label": [0, 1, 0]},
    }.items():
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            for field, values in fields.items():
                file[field] = values
    made = Split.from_arrays(CLEAN, LABELS, POISONED, 2, [0, 1, 0])
    assert Split.from_files(tmp_path / "clean.h5", tmp_path / "poisoned.h5").digest == made.digest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"clean_x": CLEAN[0]}, r"clean_x has shape \(3, 8, 8\); expected \(N, C, H, W\); add an axis"),
        ({"clean_x": CLEAN.transpose(0, 2, 3, 1)}, r"channels last .* clean_x.transpose\(0, 3, 1, 2\)"),
        ({"poisoned_x": POISONED[:0]}, r"poisoned_x is empty"),
        ({"poisoned_x": POISONED[:, :2]}, r"poisoned_x: images are \(2, 8, 8\), those of clean_x are"),
        ({"clean_x": np.full(CLEAN.shape, np.nan)}, r"clean_x holds NaN or infinite"),
        ({"clean_x": "pictures"}, r"clean_x has dtype <U8; expected real numbers"),
        ({"clean_x": [[1], [1, 2]]}, r"clean_x cannot be taken as a NumPy array"),
        ({"clean_y": LABELS[:3]}, r"clean_y has 3 labels for 4 images"),
        ({"clean_y": np.eye(4)}, r"clean_y has shape \(4, 4\).* clean_y.argmax\(axis=1\)"),
        ({"clean_y": [0, 1, 2, 0.5]}, r"clean_y must hold whole numbers"),
        ({"clean_y": [0, 1, -1, 2]}, r"clean_y holds -1; classes count from 0"),
        ({"true_labels": [0, 1]}, r"true_labels has 2 labels for 3 images"),
        ({"true_labels": [2, 2, 2]}, r"the true label of every image is the target class 2"),
        ({"target": -1}, r"target is -1; expected the class"),
        ({"target": 1.5}, r"target is 1.5; expected the class"),
        ({"scale": 0}, r"scale is 0; expected a number above 0"),
    ],
)
def test_what_is_no_split_is_one_line(change: dict, line: str) -> None:
    given = {"clean_x": CLEAN, "clean_y": LABELS, "poisoned_x": POISONED, "target": 2, **change}
    with pytest.raises(InputError, match=line) as error:
        Split.from_arrays(**given)
    assert "\n" not in str(error.value)
