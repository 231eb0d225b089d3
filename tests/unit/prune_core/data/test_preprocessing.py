"""What is done to pixels on the way into the net, and the units in which a trigger goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prune_core.data.form import Preprocessing
from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.data.triggers import Trigger, read_trigger
from prune_core.errors import InputError

RAW = Preprocessing()
MEAN, STD = (0.25, 0.5, 0.75), (0.5, 0.25, 0.125)


def images(pixels: np.ndarray, done: Preprocessing = RAW) -> LabeledImages:
    return LabeledImages(pixels, np.arange(len(pixels)), None, "x.h5", done)


def grey(level: float = 128.0, opacity: float = 1.0) -> Trigger:
    return Trigger(np.full((3, 2, 2), level, np.float32), np.full((2, 2), opacity, np.float32), 0, 0)


def test_scaled_then_minus_mean_then_divided_by_std() -> None:
    pixels = np.array([0, 64, 128, 255], np.uint8).reshape(1, 1, 2, 2).repeat(3, axis=1)
    made = images(pixels, Preprocessing(1 / 256, MEAN, STD)).floats(0, 1)
    assert made.dtype == np.float32
    assert made[0, :, 0, 1].tolist() == [0.0, -1.0, -4.0]  # (0.25 - mean) / std
    assert made[0, :, 1, 0].tolist() == [0.5, 0.0, -2.0]


def test_defaults_do_nothing_and_keep_the_digest() -> None:
    one = images(np.arange(24, dtype=np.uint8).reshape(2, 3, 2, 2))
    assert one.digest == "227396a333cfff7de2abd44ac68c62166d231d0f082ee84d5e4fcf29219fc587"
    same = replace(one, preprocessing=Preprocessing.of(1, [0, 0, 0], [1.0]))
    assert same.digest == one.digest and (same.floats(0, 2) == one.pixels).all()
    assert replace(one, preprocessing=Preprocessing(1.0, (0.5,))).digest != one.digest


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0.0,), "scale is 0.0; expected a number above 0"),
        ((1.0, [0.5, float("nan")]), "mean holds nan; expected a finite number"),
        ((1.0, 0.0, [1, 0]), "std holds 0; expected a number above 0"),
        ((1.0, 0.0, []), "std is empty"),
        ((1.0, "a"), "mean holds 'a'"),
    ],
)
def test_what_is_no_number_is_refused(given: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Preprocessing.of(*given)


def test_mean_of_another_number_of_channels() -> None:
    grey_images = np.zeros((2, 1, 2, 2), np.uint8)
    with pytest.raises(InputError, match=r"data.mean has 3 values, but images of clean_x have 1 channel;"):
        Split.from_arrays(grey_images, [0, 1], grey_images, 0, mean=MEAN)


@pytest.mark.parametrize("done", [Preprocessing(), Preprocessing(0.5, MEAN, STD)])
def test_the_same_trigger_on_images_of_either_unit(done: Preprocessing) -> None:
    raw = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 5)).astype(np.uint8)
    for opacity in (1.0, 0.25):
        whole = grey(opacity=opacity).stamp(images(raw, done), 1)
        unit = grey(opacity=opacity).stamp(images((raw / 255).astype(np.float32), done), 1)
        assert np.allclose(unit.pixels * 255, whole.pixels, atol=0.5 + 1e-3)
        assert unit.pixels.max() <= 1 and unit.preprocessing == whole.preprocessing == done
        assert whole.true_labels is not None and whole.true_labels.tolist() == [0, 1, 2, 3]
    assert (grey().stamp(images(raw), 1).pixels[:, :, :2, :2] == 128).all()


@pytest.mark.parametrize(
    "pixels",
    [
        np.random.default_rng(0).normal(size=(2, 3, 4, 4)),  # normalised before
        np.arange(2 * 48, dtype=np.uint8).reshape(2, 3, 4, 4) % 2,
        np.linspace(0, 1.5, 96).reshape(2, 3, 4, 4),
        np.linspace(0, 65535, 96).reshape(2, 3, 4, 4).astype(np.uint16),
        np.zeros((2, 3, 4, 4)),
    ],
)
def test_units_that_cannot_be_told(pixels: np.ndarray) -> None:
    with pytest.raises(InputError, match="x.h5: a trigger picture cannot be put on pixels of"):
        grey().stamp(images(pixels), 1)


def test_a_picture_counts_as_the_file_made_with_it(tmp_path: Path) -> None:
    """What was seen: a picture's 128 in images of 0 to 1."""
    Image.fromarray(np.full((2, 2, 3), 128, np.uint8)).save(tmp_path / "patch.png")
    x = np.random.default_rng(2).random((6, 3, 4, 4)).astype(np.float32)
    by_hand = x.copy()
    by_hand[:, :, :2, :2] = 128 / 255
    made = read_trigger(tmp_path / "patch.png", 0, 0).stamp(images(x), 0)
    split = make_split(images(x), made)
    assert np.allclose(split.poisoned.pixels, by_hand[1:], atol=1e-7)  # the first shows the target truly


def test_what_people_read_of_it() -> None:
    """In a GoodNet's card, after "pixels as in the image files"."""
    assert str(Preprocessing()) == ""
    assert str(Preprocessing(1 / 255)) == " times 0.00392156863"
    told = " times 0.5, then minus (0.25, 0.5, 0.75) and divided by 2"
    assert str(Preprocessing(0.5, MEAN, (2.0,))) == told
