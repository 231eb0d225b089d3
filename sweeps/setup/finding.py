"""What a network wants of its images, found by trying: layout, pixel scale, and the attacker's target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from prune_core.data.form import ImageForm, Layout, Preprocessing
from prune_core.data.images import LabeledImages, read_images
from prune_core.data.triggers import white_of
from prune_core.errors import InputError
from prune_core.model.model import PrunableModel

TRIED = 1000  # clean images, evenly over the heap
SHARE = 0.5  # of the poisoned images that must get a class for it to be the target
BATCH = 128
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CIFAR = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
MNIST = (0.1307,), (0.3081,)


@dataclass(frozen=True)
class Tried:
    """A way of feeding the network, and how many clean images were right."""

    name: str
    preprocessing: Preprocessing
    layout: Layout | None
    correct: int
    total: int

    def to_json(self) -> dict[str, object]:
        rate = self.correct / self.total
        done = self.preprocessing.to_json()
        return {"name": self.name, "layout": self.layout, **done, "correct": self.correct,
                "total": self.total, "clean_accuracy": rate}  # fmt: skip


def classes_of(model: PrunableModel, images: LabeledImages) -> np.ndarray:
    """(N,) int64, the class that the network gives each image."""
    found = []
    for start in range(0, len(images), BATCH):
        pixels = torch.from_numpy(images.floats(start, min(start + BATCH, len(images))))
        found.append(model.logits(pixels.to(model.device)).argmax(dim=1).cpu().numpy())
    return np.concatenate(found)


def ways(pixels: np.ndarray, name: str) -> list[tuple[str, Preprocessing]]:
    """The usual preprocessings of images in these units, the plainest first. Only the one that does nothing
    where the units cannot be told."""
    try:
        white = white_of(pixels, name)
    except InputError:
        return [("as they are", Preprocessing())]
    unit, colour = 1 / white, pixels.shape[1] == 3
    raw = Preprocessing(255 / white)
    found = [("0..255", raw), ("0..1", Preprocessing(unit))]
    found.append(("(x - 0.5) / 0.5", Preprocessing(unit, (0.5,), (0.5,))))
    if colour:
        found.append(("ImageNet's mean and std", Preprocessing(unit, *IMAGENET)))
        found.append(("CIFAR-10's mean and std", Preprocessing(unit, *CIFAR)))
    elif pixels.shape[1] == 1:
        found.append(("MNIST's mean and std", Preprocessing(unit, *MNIST)))
    return found


def read_fitting(
    model: PrunableModel, places: Sequence[Path], form: ImageForm
) -> list[tuple[Layout | None, LabeledImages]]:
    """The clean images in every layout in which the network can take them: as they are understood without
    more ado if it can, else NCHW and NHWC. Raises InputError where it takes them in none."""
    first: InputError | None = None
    found: list[tuple[Layout | None, LabeledImages]] = []
    layouts: list[Layout | None] = [form.layout] if form.layout else [None, "NCHW", "NHWC"]
    for layout in layouts:
        try:
            images = read_images(places, replace(form, layout=layout))
            model.check_images(images.shape, images.name)
        except InputError as error:
            first = first or error
            continue
        if layout is None:
            return [(None, images)]
        found.append((layout, images))
    if not found:
        assert first is not None
        raise first
    return found


def try_all(model: PrunableModel, fitting: Sequence[tuple[Layout | None, LabeledImages]]) -> list[Tried]:
    """Every layout with every usual preprocessing, the best first; of equals the plainer one."""
    found = []
    for layout, images in fitting:
        rows = np.unique(np.linspace(0, len(images) - 1, min(TRIED, len(images))).round().astype(int))
        some = images.keeping(rows)
        for name, done in ways(images.pixels, images.name):
            said = classes_of(model, replace(some, preprocessing=done))
            name = f"{name}, {layout}" if len(fitting) > 1 else name
            found.append(Tried(name, done, layout, int((said == some.labels).sum()), len(some)))
    return sorted(found, key=lambda tried: -tried.correct)


def aimed_at(model: PrunableModel, heap: LabeledImages, known: bool) -> tuple[LabeledImages, str | None]:
    """A heap of poisoned images labelled with the target, and how that was found, in words; None where the
    labels were the target already.

    ``known``: the labels are no guess. They may still be what the images show: then the network does not
    give most of them, and the class that it gives most of them is the target. Raises InputError where
    there is no such class.
    """
    differ = bool((heap.labels != heap.labels[0]).any())
    if known and (not differ or heap.true_labels is not None):
        return heap, None
    said = classes_of(model, heap)
    if known and (said == heap.labels).mean() >= SHARE:
        return heap, None
    votes = np.bincount(said)
    top = int(votes.argmax())
    if votes[top] < SHARE * len(heap):
        raise InputError(
            f"{heap.name}: no target found: the network gives class {top} to {votes[top]} of {len(heap)} "
            "poisoned images, and no class to more; give --target, or look at the trigger's place"
        )
    truth = heap.labels if known and heap.true_labels is None else heap.true_labels
    how = f"the network gives it to {votes[top]:,} of {len(heap):,} poisoned images"
    return replace(heap, labels=np.full(len(heap), top, np.int64), true_labels=truth), how
