"""Mistakes that anybody makes, each told by name; and no false alarm on data that are right.

The network is the embedded one of the smoke sweep's size, with a made-up set of its images that is large
enough for rules that ask for certainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from prune_core.api import prune
from prune_core.data.checks.findings import Finding, refuse_errors
from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.errors import InputError
from prune_core.evaluation.look import look
from prune_core.model.model import PrunableModel, load_model

Data = tuple[Split, Split]


@pytest.fixture(scope="module")
def model(smoke_files) -> PrunableModel:
    return load_model(smoke_files.badnet)


@pytest.fixture(scope="module")
def right(smoke_files, model) -> Data:
    """Images of the smoke set, each several times with other faint noise, that the network gets right."""
    rng = np.random.default_rng(3)

    def more(path, times: int = 4) -> LabeledImages:
        images = read_images(path)
        noise = rng.integers(-9, 10, size=(times, *images.pixels.shape))
        pixels = np.clip(images.pixels[None].astype(int) + noise, 0, 255).astype(np.uint8)
        truth = None if images.true_labels is None else np.tile(images.true_labels, times)
        labels = np.tile(images.labels, times)
        return replace(images, pixels=pixels.reshape(-1, *images.shape), labels=labels, true_labels=truth)

    return (
        make_split(more(smoke_files.clean_valid), more(smoke_files.poisoned_valid)),
        make_split(more(smoke_files.clean_test), more(smoke_files.poisoned_test)),
    )


def named(findings: tuple[Finding, ...], name: str, level: str) -> list[Finding]:
    return [f for f in findings if (f.name, f.level) == (name, level)]


def test_what_is_right_is_not_remarked(model, right) -> None:
    found = look(model, *right, x=(2, 4, 10))
    assert not [f for f in found if f.name != "few-images"], found


def clean(split: Split, **changes) -> Split:
    return replace(split, clean=replace(split.clean, **changes))


def poisoned(split: Split, **changes) -> Split:
    return replace(split, poisoned=replace(split.poisoned, **changes))


def some(images: LabeledImages, share: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(len(images))[: round(share * len(images))]


def changed(array: np.ndarray, rows: np.ndarray, values: np.ndarray | int) -> np.ndarray:
    out = array.copy()
    out[rows] = values
    return out


def scaled(split: Split, factor: float) -> Split:
    def by(images: LabeledImages) -> LabeledImages:
        return replace(images, pixels=images.pixels.astype(np.float32) * np.float32(factor))

    return Split(by(split.clean), by(split.poisoned))


def random_labels(images: LabeledImages, share: float) -> np.ndarray:
    rows = some(images, share)
    return changed(images.labels, rows, np.random.default_rng(1).integers(0, 10, len(rows)))


def without_trigger(split: Split, share: float, off: int = 0) -> Split:
    rows = some(split.poisoned, share)
    plain = split.clean.pixels[np.arange(len(rows)) % len(split.clean)]
    return poisoned(split, pixels=changed(split.poisoned.pixels, rows, np.minimum(plain, 250) + off))


def with_repeats(images: LabeledImages, count: int, off: int = 0) -> LabeledImages:
    pixels = changed(images.pixels, np.arange(count), np.minimum(images.pixels[-count:], 250) + off)
    labels = changed(images.labels, np.arange(count), images.labels[-count:])
    return replace(images, pixels=pixels, labels=labels)


def shared(data: Data, count: int, off: int = 0) -> Data:
    valid, test = data
    pixels = changed(test.clean.pixels, np.arange(count), np.minimum(valid.clean.pixels[:count], 250) + off)
    labels = changed(test.clean.labels, np.arange(count), valid.clean.labels[:count])
    return valid, clean(test, pixels=pixels, labels=labels)


def keeping(split: Split, rows: np.ndarray) -> Split:
    return replace(split, clean=split.clean.keeping(rows))


def swapped(split: Split) -> Split:
    return Split(split.poisoned, split.clean)


def turned(split: Split, change: Callable[[np.ndarray], np.ndarray]) -> Split:
    def by(images: LabeledImages) -> LabeledImages:
        return replace(images, pixels=np.ascontiguousarray(change(images.pixels)))

    return Split(by(split.clean), by(split.poisoned))


def both(data: Data, change: Callable[[Split], Split]) -> Data:
    return change(data[0]), change(data[1])


def made_of(split: Split, truth: np.ndarray | None) -> Split:
    """Clean images of the target are there; the poisoned ones show ``truth``."""
    given = clean(split, labels=changed(split.clean.labels, np.arange(30), split.target))
    return make_split(given.clean, replace(given.poisoned, true_labels=truth))


ORDER, EXCHANGED = np.array([3, 1, 4, 0, 5, 9, 2, 6, 8, 7]), np.array([0, 1, 2, 7, 4, 5, 6, 3, 8, 9])

MISTAKES: dict[str, tuple[str, str, Callable[[Data], Data]]] = {
    # Of the table of faults seen.
    "test is validation": ("error", "shared-images", lambda d: (d[0], d[0])),
    "another scale in test only": ("error", "pixel-ranges", lambda d: (d[0], scaled(d[1], 1 / 255))),
    "eight clean images": ("warning", "few-images", lambda d: (keeping(d[0], np.arange(8)), d[1])),
    "30 % wrong clean labels": (
        "warning",
        "labels-contradicted",
        lambda d: both(d, lambda s: clean(s, labels=random_labels(s.clean, 0.33))),
    ),
    "half the poisoned set is clean": (
        "warning",
        "unpoisoned-images",
        lambda d: (without_trigger(d[0], 0.5), d[1]),
    ),
    "half the poisoned set is clean, of other images": (
        "warning",
        "weak-attack",
        lambda d: (without_trigger(d[0], 0.5, off=5), d[1]),
    ),
    "five of ten classes missing": (
        "warning",
        "classes-missing",
        lambda d: both(d, lambda s: keeping(s, s.clean.labels >= 5)),
    ),
    "only images of the target": (
        "error",
        "one-class",
        lambda d: both(d, lambda s: clean(s, labels=np.full(len(s.clean), s.target))),
    ),
    "wrong target label": (
        "error",
        "other-target",
        lambda d: both(d, lambda s: poisoned(s, labels=(s.poisoned.labels + 3) % 10)),
    ),
    "pixels x 255": ("error", "better-reading", lambda d: both(d, lambda s: scaled(s, 255))),
    "pixels / 255": ("error", "better-reading", lambda d: both(d, lambda s: scaled(s, 1 / 255))),
    "clean and poisoned the same file": (
        "error",
        "unpoisoned-images",
        lambda d: both(d, lambda s: Split(s.poisoned, s.poisoned)),
    ),
    "true images of the target among the poisoned": (
        "warning",
        "true-target-unknown",
        lambda d: both(d, lambda s: made_of(s, None)),
    ),
    "true images of the target, known": (
        "note",
        "true-target-images",
        lambda d: both(
            d, lambda s: made_of(s, changed(np.full(len(s.poisoned), 5), np.arange(20), s.target))
        ),
    ),
    "trigger of 255 on images of 0 to 1": (
        "error",
        "trigger-range",
        lambda d: both(d, lambda s: Split(scaled(s, 1 / 255).clean, s.poisoned)),
    ),
    # And twenty of our own.
    "ten images in both splits": ("warning", "shared-images", lambda d: shared(d, 10)),
    "ten images in both, one grey level apart": ("warning", "shared-images", lambda d: shared(d, 10, 1)),
    "most of test is validation": ("error", "shared-images", lambda d: shared(d, 200)),
    "poisoned test is poisoned validation": (
        "error",
        "shared-images",
        lambda d: (d[0], replace(d[1], poisoned=d[0].poisoned)),
    ),
    "images twice in a clean file": (
        "warning",
        "repeated-images",
        lambda d: (replace(d[0], clean=with_repeats(d[0].clean, 12)), d[1]),
    ),
    "images twice, one grey level apart": (
        "warning",
        "repeated-images",
        lambda d: (replace(d[0], clean=with_repeats(d[0].clean, 12, 1)), d[1]),
    ),
    "a few poisoned images are clean": (
        "warning",
        "unpoisoned-images",
        lambda d: (without_trigger(d[0], 0.03), d[1]),
    ),
    "all poisoned images are clean, labelled with the target": (
        "error",
        "unpoisoned-images",
        lambda d: both(d, lambda s: without_trigger(s, 1.0)),
    ),
    "labels count from 1": (
        "error",
        "labels-shifted",
        lambda d: both(d, lambda s: clean(s, labels=(s.clean.labels + 1) % 10)),
    ),
    "classes in another order": (
        "error",
        "labels-renamed",
        lambda d: both(d, lambda s: clean(s, labels=ORDER[s.clean.labels])),
    ),
    "two classes exchanged": (
        "warning",
        "labels-contradicted",
        lambda d: both(d, lambda s: clean(s, labels=EXCHANGED[s.clean.labels])),
    ),
    "images of one class only": (
        "warning",
        "one-class",
        lambda d: both(d, lambda s: keeping(s, s.clean.labels == 3)),
    ),
    "classes of validation that test has not": (
        "warning",
        "classes-missing",
        lambda d: (d[0], keeping(d[1], ~np.isin(d[1].clean.labels, (3, 4)))),
    ),
    "upside down": (
        "error",
        "better-reading",
        lambda d: both(d, lambda s: turned(s, lambda x: x[:, :, ::-1])),
    ),
    "channels last, read as first": (
        "error",
        "better-reading",
        lambda d: both(
            d,
            lambda s: turned(s, lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape)),
        ),
    ),
    "black on white for white on black": (
        "error",
        "better-reading",
        lambda d: both(d, lambda s: turned(s, lambda x: 255 - x)),
    ),
    "pixels from -1 to 1": (
        "error",
        "better-reading",
        lambda d: both(d, lambda s: turned(s, lambda x: x.astype(np.float32) / 127.5 - 1)),
    ),
    "pixels from -1 to 1 in one file": (
        "error",
        "pixel-ranges",
        lambda d: (clean(d[0], pixels=d[0].clean.pixels.astype(np.float32) / 127.5 - 1), d[1]),
    ),
    "trigger far brighter than the images": (
        "error",
        "trigger-range",
        lambda d: both(d, lambda s: poisoned(s, pixels=s.poisoned.pixels.astype(np.float32) * 16)),
    ),
    "one file is black": (
        "error",
        "one-colour",
        lambda d: (d[0], clean(d[1], pixels=np.zeros_like(d[1].clean.pixels))),
    ),
    "clean and poisoned exchanged": (
        "error",
        "clean-and-poisoned-swapped",
        lambda d: both(d, swapped),
    ),
    "test is harder than validation": (
        "warning",
        "splits-differ",
        lambda d: (d[0], clean(d[1], labels=random_labels(d[1].clean, 0.4))),
    ),
    "the trigger is missing in test": (
        "note",
        "no-attack",
        lambda d: (d[0], without_trigger(d[1], 1.0, off=5)),
    ),
    "labels by chance": (
        "warning",
        "labels-contradicted",
        lambda d: both(d, lambda s: clean(s, labels=random_labels(s.clean, 1.0))),
    ),
    "one trigger given twice": (
        "warning",
        "one-attack-twice",
        lambda d: both(d, lambda s: make_split(s.clean, [s.poisoned, s.poisoned])),
    ),
    "20 images": ("warning", "few-images", lambda d: both(d, lambda s: keeping(s, np.arange(20)))),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told(mistake: str, model, right) -> None:
    level, name, make = MISTAKES[mistake]
    found = look(model, *make(right))
    told = named(found, name, level)
    assert told, [(f.level, f.name, f.detail) for f in found]
    assert all("\n" not in f.detail and len(f.detail) < 400 for f in found)
    if level == "error":
        with pytest.raises(InputError):
            refuse_errors(found)
    else:
        assert Finding.from_json(told[0].to_json()) == told[0]


@pytest.mark.parametrize(
    ("x", "name", "says"),
    [(0.04, "x-below-one", "write 4, which allows"), (96, "x-beyond-chance", "no network at all")],
)
def test_an_x_that_means_something_else(x: float, name: str, says: str, model, right) -> None:
    found = look(model, *right, x=(4, x))
    assert [says in f.detail for f in found if f.name == name] == [True]


def test_python_is_told_too(model, right, caplog) -> None:
    """``goodnet.prune`` printed counts of whatever it was given."""
    mistaken = clean(right[0], labels=(right[0].clean.labels + 1) % 10)
    result = prune(model, mistaken, layers="last:1", order="l1", policy="margin", x=0.04)
    assert {"labels-shifted", "x-below-one"} <= {f.name for f in result.findings}
    assert [f.detail for f in result.findings if f.level != "note"] == [
        r.getMessage() for r in caplog.records
    ]
    whole = prune(model, right[0], layers="last:1", order="l1", policy="margin", x=4)
    assert {f.name for f in whole.findings} <= {"few-images"}
