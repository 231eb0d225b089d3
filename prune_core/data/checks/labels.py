"""Findings about the labels of clean images: classes that are missing, labels that the net contradicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from prune_core.data.checks.findings import Answers, Finding, Seen, some, sure
from prune_core.data.images import LabeledImages

RARE = 4.0  # a class may be so much rarer than the average one
CHANCE = 1e-3  # what is less likely than this was no accident
UNLIKELY = 0.15  # of a network's own errors have the right class among the half that it thinks least likely
LEAST_CLASSES = 8  # with fewer, a wrong label is hardly less likely than the second best


def check_labels_of(split: Seen) -> list[Finding]:
    """All findings about the clean labels of one split."""
    images, answers = split.split.clean, split.clean
    name = f"clean {split.name}"
    labels = np.unique(images.labels)
    if len(labels) == 1:
        label = int(labels[0])
        wanted = bool((split.split.targets == label).all())
        return [
            Finding(
                "error" if wanted else "warning",
                "one-class",
                f"all {len(images)} {name} images are of class "
                f"{label}{', the target' if wanted else ''}: clean "
                "accuracy is that of one class, and a network that knows no other is right on all of them",
                {"images": len(images)},
            )
        ]
    found = _missing(images, answers.number, name)
    wrong = _renamed(images, answers, name)
    return found + (wrong or _contradicted(images, answers, name) or _low(images, answers, name))


def check_classes_of_splits(seen: Sequence[Seen]) -> list[Finding]:
    """Classes that one split has many clean images of, and the other none."""
    if len(seen) < 2:
        return []
    found = []
    for one, other in ((seen[0], seen[1]), (seen[1], seen[0])):
        here, there = one.split.clean.labels, other.split.clean.labels
        share = len(here) / (len(here) + len(there))
        classes, counts = np.unique(here, return_counts=True)
        gone = ~np.isin(classes, there)
        # All images of a class on one side, had it been drawn like the rest.
        gone &= share**counts < CHANCE / len(classes)
        if gone.any():
            found.append(
                Finding(
                    "warning",
                    "classes-missing",
                    f"{gone.sum()} classes of the clean {one.name} images have none among the clean "
                    f"{other.name} "
                    f"images ({some(classes[gone])}; {counts[gone].sum()} images): figures of the two "
                    "are about "
                    "different classes",
                    {"classes": int(gone.sum()), "images": int(counts[gone].sum())},
                )
            )
    return found


def _missing(images: LabeledImages, number: int, name: str) -> list[Finding]:
    """Fewer classes than the net has, by more than chance would leave out if every class had at least a
    quarter of its even share."""
    there = np.unique(images.labels)
    missing = number - len(there)
    expected = number * math.exp(-len(images) / (RARE * number))
    if missing <= 0 or _poisson_tail(missing, expected) >= CHANCE:
        return []
    gone = np.setdiff1d(np.arange(number), there)
    return [
        Finding(
            "warning",
            "classes-missing",
            f"{missing} of the network's {number} classes have no {name} image ({some(gone)}): clean "
            "accuracy "
            "says nothing about them",
            {"missing": missing, "classes": number, "images": len(images)},
        )
    ]


def _poisson_tail(count: int, mean: float) -> float:
    """P(at least ``count``) of a Poisson variable."""
    term, below = math.exp(-mean), 0.0
    for k in range(count):
        below += term
        term *= mean / (k + 1)
    return max(0.0, 1.0 - below)


def _renamed(images: LabeledImages, answers: Answers, name: str) -> list[Finding]:
    """Labels that fit the net's answers once classes are renamed: all counted from 1, in another order, or
    two exchanged."""
    labels, classes, number = images.labels, answers.classes, answers.number
    total, agree = len(labels), int((labels == classes).sum())
    shifts = np.bincount((labels - classes) % number, minlength=number)
    shift = int(shifts.argmax())
    if shift and sure(shifts[shift], total)[0] > max(0.5, sure(agree, total)[1]):
        by = shift if shift <= number // 2 else shift - number
        return [
            Finding(
                "error",
                "labels-shifted",
                f"the labels of {shifts[shift]} of {total} {name} images are the network's class "
                f"{by:+d}, and "
                f"{agree} are its class: are classes counted from {max(by, 0)}?",
                {"shifted": int(shifts[shift]), "agree": agree, "images": total},
            )
        ]
    # What every other image says of a label, tried on the rest.
    even = np.arange(total) % 2 == 0
    table = np.zeros((number, number), np.int64)
    np.add.at(table, (labels[even], classes[even]), 1)
    fits = int((table.argmax(axis=1)[labels[~even]] == classes[~even]).sum())
    rest = int((~even).sum())
    plain = int((labels[~even] == classes[~even]).sum())
    if sure(fits, rest)[0] > max(0.5, sure(plain, rest)[1]):
        return [
            Finding(
                "error",
                "labels-renamed",
                f"{name} labels fit the network's classes only when they are renamed ({fits} of {rest} "
                "images, "
                f"{plain} as they are): the classes are in another order than the network's",
                {"renamed": fits, "as_given": plain, "images": rest},
            )
        ]
    return _one_for_another(labels, classes, number, name)


def _one_for_another(labels: np.ndarray, classes: np.ndarray, number: int, name: str) -> list[Finding]:
    """Classes most of whose images the net gives to one other class."""
    table = np.zeros((number, number), np.int64)
    np.add.at(table, (labels, classes), 1)
    totals = table.sum(axis=1)
    np.fill_diagonal(table, 0)
    other = table.argmax(axis=1)
    wrong = [c for c in np.flatnonzero(totals) if sure(table[c, other[c]], totals[c])[0] > 0.5]
    if not wrong:
        return []
    said = some(f"{table[c, other[c]]} of {totals[c]} of class {c} are {other[c]} to it" for c in wrong)
    return [
        Finding(
            "warning",
            "labels-contradicted",
            f"the network takes most {name} images of {len(wrong)} classes for another class: {said}; "
            "are these "
            "labels right?",
            {"classes": len(wrong), "images": int(sum(table[c, other[c]] for c in wrong))},
        )
    ]


def _contradicted(images: LabeledImages, answers: Answers, name: str) -> list[Finding]:
    """Labels that are wrong by chance. Where a network errs, the right class is still among its best; a label
    drawn by chance is as often in its lower half as in its upper one. (Seen of networks' own errors: 8 %.)"""
    if answers.number < LEAST_CLASSES:
        return []
    low = answers.above >= answers.number / 2
    against, count, total = int((answers.above > 0).sum()), int(low.sum()), len(images)
    if not against or sure(count, against)[0] <= UNLIKELY:
        return []
    return [
        Finding(
            "warning",
            "labels-contradicted",
            f"{against} of {total} {name} labels are not the network's class, and {count} are among the "
            "half of "
            f"the classes that it thinks least likely: about {min(2 * count, against)} labels look "
            "wrong, and "
            "clean accuracy is that much too low",
            {"against": against, "least_likely": count, "images": total},
        )
    ]


def _low(images: LabeledImages, answers: Answers, name: str) -> list[Finding]:
    hits, total = int((answers.above == 0).sum()), len(images)
    if sure(hits, total)[1] >= 0.5:
        return []
    return [
        Finding(
            "warning",
            "low-accuracy",
            f"the network is right on {hits} of {total} {name} images: a BadNet should be right on most; are "
            "data.scale and the labels those that it was trained with?",
            {"right": hits, "images": total},
        )
    ]
