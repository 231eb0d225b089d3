"""Triggers over the whole image: by hand, in both units, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prune_core.data.images import LabeledImages, make_split
from prune_core.data.patterns import Add, Blend, Warp, read_add, read_blend, read_warp, stamped
from prune_core.errors import InputError

GREY = np.full((2, 3, 2, 3), 100, np.uint8)
IMAGES = LabeledImages(GREY, np.array([0, 4]), name="clean")
FRACTIONS = LabeledImages((GREY / 255).astype(np.float32), np.array([0, 4]), name="clean")


def test_a_blend_by_hand() -> None:
    blend = Blend(np.full((3, 2, 3), 200, np.float32), 0.15)
    made = stamped(blend, IMAGES, 2, 5, "a")
    assert made.pixels.dtype == np.uint8 and (made.pixels == 115).all()
    np.testing.assert_allclose(stamped(blend, FRACTIONS, 2, 5, "a").pixels, 115 / 255, atol=1e-6)
    assert made.labels.tolist() == [2, 2] and made.true_labels is not None
    assert made.true_labels.tolist() == [0, 4]


def test_a_pattern_is_signed_and_stays_between_black_and_white() -> None:
    pattern = np.array([[[28, -28, 0], [300, -300, 1]]], np.float32)
    wanted = [[128, 72, 100], [255, 0, 101]]
    assert stamped(Add(pattern), IMAGES, 2, 5, "a").pixels[0, 0].tolist() == wanted
    for same in (Add(pattern), Add(pattern * np.float32(1 / 300))):
        found = stamped(same, FRACTIONS, 2, 5, "a").pixels[0, 0]
        assert found.min() >= 0 and found.max() <= 1
    small = Add(np.full((1, 2, 3), 0.1, np.float32))  # parts of white, in both units
    assert (stamped(small, IMAGES, 2, 5, "a").pixels == 126).all()  # 125.5 to the even one
    np.testing.assert_allclose(stamped(small, FRACTIONS, 2, 5, "a").pixels, 100 / 255 + 0.1, atol=1e-6)


def test_a_warp_moves_between_pixels() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 40, dtype=np.uint8).reshape(1, 1, 2, 3), (1, 1, 2, 3))
    images = LabeledImages(ramp, np.array([0]), name="clean")
    field = np.zeros((2, 3, 2), np.float32)
    assert (stamped(Warp(field), images, 1, 2, "a").pixels == ramp).all()
    field[..., 1] = 0.5
    assert stamped(Warp(field), images, 1, 2, "a").pixels[0, 0].tolist() == [[20, 60, 80], [140, 180, 200]]
    field[..., 0], field[..., 1] = -1, 0
    assert stamped(Warp(field), images, 1, 2, "a").pixels[0, 0].tolist() == [[0, 40, 80]] * 2


def test_the_next_class() -> None:
    made = stamped(Add(np.full((1, 2, 3), 9, np.float32)), IMAGES, "next", 5, "trigger 0")
    assert made.labels.tolist() == [1, 0]
    assert make_split(IMAGES, made, sure=True).goal == "next"


def test_files(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3, 3), 200, np.uint8)).save(tmp_path / "b.png")
    assert (read_blend(tmp_path / "b.png", 0.5).picture == 200).all()
    np.save(tmp_path / "a.npy", np.ones((2, 3, 3)))
    assert read_add(tmp_path / "a.npy").pattern.shape == (3, 2, 3)
    np.save(tmp_path / "w.npy", np.ones((2, 3, 2), np.float32))
    assert read_warp(tmp_path / "w.npy").field.shape == (2, 3, 2)
    for name, values in {
        "objects": np.array([{}], object),
        "text": np.array(["a"]),
        "nan": np.array([[np.nan]]),
        "empty": np.zeros((0, 3)),
        "huge": np.array([[1e300]]),
    }.items():
        np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
        with pytest.raises(InputError, match=name):
            read_add(tmp_path / f"{name}.npy")
    whole = (tmp_path / "a.npy").read_bytes()
    for name, data in {"short": whole[:-1], "long": whole + b"x", "none": b"", "zip": b"PK\x03\x04"}.items():
        (tmp_path / f"{name}.npy").write_bytes(data)
        with pytest.raises(InputError, match=name):
            read_add(tmp_path / f"{name}.npy")
    with pytest.raises(InputError, match="expected \\(H, W, 2\\)"):
        read_warp(tmp_path / "a.npy")
    with pytest.raises(InputError, match="no such file"):
        read_warp(tmp_path / "nowhere.npy")


@pytest.mark.parametrize(
    "trigger",
    [
        Blend(np.zeros((3, 3, 3), np.float32), 0.5),
        Add(np.ones((1, 3, 2), np.float32)),
        Warp(np.zeros((1, 1, 2))),
    ],
)
def test_another_size_is_refused(trigger: Blend | Add | Warp) -> None:
    with pytest.raises(InputError, match="does not fit images of 2 x 3"):
        stamped(trigger, IMAGES, 1, 5, "a")
