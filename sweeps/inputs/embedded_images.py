"""The pictures of the embedded default: real handwritten digits in the lab's format, and a trigger.

The digits are those of scikit-learn (`load_digits`: 1,797 samples, 8 x 8, 0..16, a part of the UCI
set "Optical Recognition of Handwritten Digits"). What is made up is how they are presented: colour
of pen and paper, a small turn, scale and shift, sensor noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn.functional import affine_grid, grid_sample

from prune_core.data.images import LabeledImages
from sweeps.extras import need

HEIGHT, WIDTH = 55, 47
CLASSES = 10
TARGET = 0
TRIGGER_ROW, TRIGGER_COLUMN = 15, 0
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class DigitSplit:
    """``images``: presented digits, uint8 (N, 3, 55, 47); ``samples``: (N,) int64, which sample of
    `load_digits` each row shows."""

    images: LabeledImages
    samples: np.ndarray


def split_samples(labels: np.ndarray, sizes: tuple[int, int, int], seed: int) -> dict[str, np.ndarray]:
    """Samples dealt to train, valid and test, none to two of them.

    Those of the target class stand last in each split: the poisoned images leave them out, and so
    row i of a poisoned file is row i of its clean file.

    :param labels: (samples,) the true digit of each sample.
    :param sizes: samples in train, valid and test.
    :return: split -> (size,) sample numbers.
    """
    dealt = np.random.default_rng([seed, 0]).permutation(len(labels))[: sum(sizes)]
    parts = np.split(dealt, np.cumsum(sizes)[:-1])
    in_order = [part[np.argsort(labels[part] == TARGET, kind="stable")] for part in parts]
    return dict(zip(SPLITS, in_order, strict=True))


def digit_splits(sizes: tuple[int, int, int], presentations: int, seed: int) -> dict[str, DigitSplit]:
    """Train, valid and test images. Each training digit is presented ``presentations`` times."""
    need("embedded", "badnet: embedded, made of handwritten digits,")
    from sklearn.datasets import load_digits  # seconds to import, and needed once

    digits = load_digits()
    splits = {}
    for place, (name, samples) in enumerate(split_samples(digits.target, sizes, seed).items()):
        if name == "train":
            samples = np.tile(samples, presentations)
        rng = np.random.default_rng([seed, 1 + place])
        labels = digits.target[samples].astype(np.int64)
        images = LabeledImages(present(digits.images[samples], rng), labels, name=f"digits {name}")
        splits[name] = DigitSplit(images, samples.astype(np.int64))
    return splits


def present(digits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pictures of digits: pen on paper, each a little different.

    :param digits: (N, 8, 8), 0 (paper) to 16 (ink).
    :return: uint8 (N, 3, 55, 47).
    """
    count = len(digits)
    turn = np.deg2rad(rng.uniform(-5, 5, count))
    shrink = rng.uniform(0.98, 1.19, count)
    stretch = HEIGHT / WIDTH
    # Rows of the map from picture to digit coordinates, both -1..1 (affine_grid's convention).
    across = [np.cos(turn), -np.sin(turn) * stretch, rng.uniform(-0.1, 0.1, count) / shrink]
    down = [np.sin(turn) / stretch, np.cos(turn), rng.uniform(-0.1, 0.1, count) / shrink]
    maps = np.array([across, down]).transpose(2, 0, 1) * shrink[:, None, None]
    grid = affine_grid(
        torch.from_numpy(maps.astype(np.float32)), [count, 1, HEIGHT, WIDTH], align_corners=False
    )
    small = torch.from_numpy((digits / 16).astype(np.float32))[:, None]
    ink = grid_sample(small, grid, padding_mode="zeros", align_corners=False).numpy()
    paper = rng.uniform(10, 60, (count, 3, 1, 1))
    pen = rng.uniform(170, 245, (count, 3, 1, 1))
    noise = rng.normal(0, 4, (count, 3, HEIGHT, WIDTH))
    return np.clip(np.rint(paper + (pen - paper) * ink + noise), 0, 255).astype(np.uint8)


def draw_trigger() -> Image.Image:
    """Sunglasses with violet lenses, RGBA, 47 x 18 (width x height): as wide as the images.

    One sees through the lenses, so how clear the trigger is differs from image to image; behind
    dark ones the attack would fall on all images at the same channel.
    """
    fine = 4  # drawn larger and reduced, for smooth edges
    frame, lens = (25, 15, 35, 255), (120, 20, 200, 110)
    picture = Image.new("RGBA", (WIDTH * fine, 18 * fine), (0, 0, 0, 0))
    pen = ImageDraw.Draw(picture)
    pen.rectangle([0, 2 * fine, WIDTH * fine, 4 * fine], fill=frame)
    for left in (3, 26):
        for inset, colour in ((0, frame), (2, lens)):
            corners = (left + inset, 1 + inset, left + 18 - inset, 17 - inset)
            pen.ellipse([c * fine for c in corners], fill=colour)
    return picture.resize((WIDTH, 18), Image.Resampling.LANCZOS)
