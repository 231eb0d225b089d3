"""Labels as people store them: one an image, with or without an axis of their own."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from prune_core.data.images import read_images
from prune_core.errors import InputError


def write(path: Path, labels: np.ndarray) -> Path:
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.zeros((4, 3, 2, 2), np.float32), labels
    return path


def test_labels_of_one_column_are_labels(tmp_path: Path) -> None:
    labels = np.array([3, 1, 0, 2])
    flat, column = (write(tmp_path / n, v) for n, v in (("a.h5", labels), ("b.h5", labels[:, None])))
    assert read_images(column).labels.tolist() == read_images(flat).labels.tolist() == [3, 1, 0, 2]
    assert read_images(column).digest == read_images(flat).digest


@pytest.mark.parametrize("shape", [(4, 2), (1, 4), (2, 2), (8,)])
def test_other_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"expected \(4,\), one for each image"):
        read_images(write(tmp_path / "a.h5", np.zeros(shape, int)))
