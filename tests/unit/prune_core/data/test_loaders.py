"""Splits from tensors and from loaders of batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from prune_core.data.images import Split
from prune_core.errors import InputError

CLEAN = torch.arange(7 * 3 * 4 * 4, dtype=torch.float32).reshape(7, 3, 4, 4)
LABELS = torch.tensor([0, 1, 2, 1, 0, 2, 2])
POISONED, TRUTH = CLEAN[:4] + 1, torch.tensor([0, 1, 2, 1])


def loader(*tensors: torch.Tensor) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), batch_size=3)


def test_tensors_are_arrays() -> None:
    arrays = (t.numpy() for t in (CLEAN, LABELS, POISONED))
    made = Split.from_arrays(CLEAN.clone().requires_grad_(), LABELS, POISONED, 2, TRUTH)
    assert made.digest == Split.from_arrays(*arrays, 2, TRUTH.numpy()).digest
    assert Split.from_arrays(CLEAN.bfloat16(), LABELS, POISONED).clean.pixels.dtype == np.float32
    assert Split.from_arrays(CLEAN, LABELS, [POISONED, POISONED + 1], [2, 1]).goals == (2, 1)


def test_a_loader_is_the_arrays_that_it_gives() -> None:
    wanted = torch.full((4,), 2)
    made = Split.from_loader(loader(CLEAN, LABELS), loader(POISONED, wanted), scale=0.5)
    assert made.digest == Split.from_arrays(CLEAN, LABELS, POISONED, 2, scale=0.5).digest
    made = Split.from_loader(loader(CLEAN, LABELS), loader(POISONED, TRUTH, wanted), 2)
    assert made.digest == Split.from_arrays(CLEAN, LABELS, POISONED, 2, TRUTH).digest
    made = Split.from_loader([(CLEAN.numpy(), LABELS.tolist())], [POISONED[:2], POISONED[2:]], 2)
    assert made.digest == Split.from_arrays(CLEAN, LABELS, POISONED, 2).digest
    made = Split.from_loader(
        ((x, y) for x, y in loader(CLEAN, LABELS)), loader(POISONED, TRUTH), "next", classes=3
    )
    assert made.targets.tolist() == [1, 2, 0, 2]


def test_a_loader_that_fills_one_buffer_again() -> None:
    def batches() -> Any:
        buffer = np.empty((1, 3, 4, 4), np.float32)
        for image, label in zip(CLEAN, LABELS, strict=True):
            buffer[0] = image.numpy()
            yield buffer, [int(label)]

    made = Split.from_loader(batches(), loader(POISONED, torch.full((4,), 2)))
    assert np.array_equal(made.clean.pixels, CLEAN.numpy())


@pytest.mark.parametrize(
    ("clean", "poisoned", "target", "expected"),
    [
        (3, [], None, "clean is a int; expected an iterable of batches"),
        ([], [], None, "clean gave no batch"),
        ([{"image": CLEAN, "label": LABELS}], [], None, "batch 0 of clean is a dict"),
        ([(CLEAN, LABELS)], [POISONED], None, "batch 0 of poisoned is a Tensor; expected a pair"),
        ([(CLEAN, LABELS), (CLEAN[:, :, :2], LABELS)], [], None, "batch 1 of clean are (3, 2, 4)"),
        ([(CLEAN[0], LABELS)], [], None, "have shape (3, 4, 4)"),
        ([(CLEAN, LABELS[:3])], [(POISONED, TRUTH)], None, "3 labels for 7 images"),
        ([(CLEAN, LABELS)], [POISONED, (POISONED, TRUTH)], 2, "some batches have labels"),
        ([(CLEAN, LABELS)], [(POISONED, torch.full((4,), 2))], 2, "every label is the target 2; leave"),
        ([(["a"], LABELS)], [], None, "the images of batch 0 of clean"),
    ],
)
def test_what_is_no_loader(clean: Any, poisoned: Any, target: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        Split.from_loader(clean, poisoned, target)
    assert expected in str(caught.value) and "\n" not in str(caught.value)
