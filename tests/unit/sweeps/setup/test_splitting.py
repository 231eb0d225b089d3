"""Validation and test out of heaps: by class, pairs together, no image on both sides."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from prune_core.data.images import LabeledImages
from sweeps.setup.splitting import same, split_rows

DICE = np.random.default_rng(3)
LABELS = np.repeat([0, 1, 2, 3], [20, 21, 30, 9])
PIXELS = DICE.integers(0, 256, (80, 3, 8, 8)).astype(np.uint8)
STAMPED = PIXELS.copy()
STAMPED[:, :, 6:, 6:] = 255


def images(pixels: np.ndarray, labels: np.ndarray) -> LabeledImages:
    return LabeledImages(pixels, labels, None, "x")


def test_half_of_every_class_and_pairs_together() -> None:
    others = np.flatnonzero(LABELS != 0)
    poisoned = images(STAMPED[others], np.zeros(len(others), np.int64))
    valid, (bad,), counts = split_rows(images(PIXELS, LABELS), [poisoned], 0)
    for label, size in enumerate((20, 21, 30, 9)):
        assert abs(2 * valid[label == LABELS].sum() - size) <= 1
    assert abs(2 * int(valid.sum()) - 80) <= 2
    assert (valid[others] == bad).all() and counts == {"duplicates": 0, "paired": 60}
    again = split_rows(images(PIXELS, LABELS), [poisoned], 0)
    other = split_rows(images(PIXELS, LABELS), [poisoned], 1)
    assert (again[0] == valid).all() and (other[0] != valid).any()


def test_pairs_in_another_order_and_of_two_triggers() -> None:
    rows = DICE.permutation(80)[:50]
    top = PIXELS.copy()
    top[:, :, :2, :2] = 0
    heaps = [images(STAMPED[rows], np.zeros(50, np.int64)), images(top, np.full(80, 2))]
    valid, (one, two), counts = split_rows(images(PIXELS, LABELS), heaps, 0)
    assert (valid[rows] == one).all() and (valid == two).all() and counts["paired"] == 130


def _exact(image: np.ndarray) -> np.ndarray:
    return image


def _one_grey_level(image: np.ndarray) -> np.ndarray:
    return np.clip(image.astype(int) + DICE.integers(-1, 2, image.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("change", [_exact, _one_grey_level])
@pytest.mark.parametrize("white", [255, 1])
def test_no_image_on_both_sides(change: Callable[[np.ndarray], np.ndarray], white: int) -> None:
    pixels = np.concatenate([PIXELS, np.stack([change(image) for image in PIXELS[:40]])])
    labels = np.concatenate([LABELS, LABELS[:40]])
    alone = DICE.integers(0, 256, (9, 3, 8, 8))
    if white == 1:
        pixels, alone = (pixels / 255).astype(np.float32), (alone / 255).astype(np.float32)
    heap = images(alone.astype(pixels.dtype), np.zeros(9, np.int64))
    valid, (bad,), counts = split_rows(images(pixels, labels), [heap], 0)
    assert (valid[:40] == valid[80:]).all() and 0 < valid.sum() < 120
    assert counts["duplicates"] >= 40 and 3 <= bad.sum() <= 6


def test_two_grey_levels_are_another_image() -> None:
    other = PIXELS[:5].copy()
    other[:, 0, 0, 0] = np.where(other[:, 0, 0, 0] > 99, other[:, 0, 0, 0] - 2, other[:, 0, 0, 0] + 2)
    assert list(same([PIXELS[:5], other])) == []
    assert list(same([PIXELS[:5], PIXELS[2:4]])) == [(2, 5), (3, 6)]
