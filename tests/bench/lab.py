"""The lab's case at the lab's size: its network, and as many images as it has."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.masks import Channel
from prune_core.model.model import PrunableModel, load_model
from tests.bench.author.loop import DeepID
from tests.nets.networks import as_model

LAYERS = ("conv_4", "conv_3", "conv_2")
SIZE = 11_547  # clean images, and as many poisoned ones
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, eq=False)
class Lab:
    """``real``: the published BadNet and real faces, tiled and jittered; else all is random."""

    model: PrunableModel
    real: bool
    folder: Path | None

    def split(self, part: str, size: int) -> Split:
        """``size`` clean and ``size`` poisoned images of "valid" or "test"."""
        rng = np.random.default_rng(len(part))
        if self.folder is not None:
            clean, poisoned = (
                tiled(read_images(self.folder / f"{kind}_{part}.h5"), size, rng) for kind in ("cl", "bd")
            )
            return make_split(clean, poisoned)
        pixels = rng.integers(0, 256, (2 * size, 3, 55, 47)).astype(np.uint8)
        said = np.concatenate(
            [
                self.model.logits(torch.from_numpy(part.astype(np.float32))).argmax(dim=1).numpy()
                for part in np.array_split(pixels[:size], max(1, size // 256))
            ]
        )
        return make_split(
            LabeledImages(pixels[:size], said, None, "made"),
            LabeledImages(pixels[size:], np.zeros(size, np.int64), None, "made"),
        )

    def order(self) -> list[Channel]:
        return [Channel(la, c) for la in LAYERS for c in range(self.model.layer(la).channels)]


def shared_data() -> Path:
    """Where the real networks and images lie, if they do."""
    return Path(os.environ.get("GOODNET_SHARED", ROOT.parent / "shared")) / "data"


def the_lab() -> Lab:
    shared = shared_data() / "csaw"
    if shared.is_dir():
        return Lab(load_model(shared / "bd_weights.h5", "deepid"), True, shared)
    torch.manual_seed(0)
    model = as_model(DeepID(1283), (3, 55, 47), "random DeepID")
    names = dict(zip(("conv_1", *reversed(LAYERS)), model.layers, strict=True))
    layers = tuple(replace(layer, name=name) for name, layer in names.items())
    return Lab(replace(model, layers=layers), False, None)


def tiled(images: LabeledImages, size: int, rng: np.random.Generator) -> LabeledImages:
    """The images again and again, copies jittered by up to 6 of 255 grey levels."""
    pixels, labels = np.empty((size, *images.shape), np.uint8), np.empty(size, np.int64)
    for start in range(0, size, len(images)):
        stop = min(start + len(images), size)
        copy = images.pixels[: stop - start].astype(np.int16)
        if start:
            copy += rng.integers(-6, 7, copy.shape, dtype=np.int16)
        pixels[start:stop], labels[start:stop] = copy.clip(0, 255), images.labels[: stop - start]
    return LabeledImages(pixels, labels, None, images.name)
