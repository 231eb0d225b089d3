"""When an attack has succeeded, and of which images that can be said: the one definition.

A poisoned image gets the attacker's *target*, its label. Where that is what it truly shows, to say so is
right and no success of the attack, so such an image never counts. What it truly shows is known from its
true label, or from the clean image that it was made from; a trigger that we put on ourselves leaves it
known too. Where it is not known, a share of the figure may be such images, and that is said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from prune_core.data.pairing import paired_rows, share_of_clean
from prune_core.errors import InputError

NEXT: Literal["next"] = "next"  # all-to-all: the class after the true one, the first after the last
Target = int | Literal["next"]
MOST = 0.5  # of the labels that may be true labels, or of images that may be clean ones


@dataclass(frozen=True)
class Attack:
    """One trigger of a split.

    Attributes:
        name: where its images came from.
        truth: how it is known what its images truly show: from ``true labels`` (told, or those of the
            images that a trigger was put on) or from ``pairs``; None where it is not known.
        left_out: images left out because they truly show their target.
    """

    name: str
    truth: Literal["true labels", "pairs"] | None = None
    left_out: int = 0


@dataclass(frozen=True, eq=False)
class Aimed:
    """The images of one trigger, checked.

    Attributes:
        rows: (images,) bool, those that count.
        targets: (images,) int64, the class that the attacker wants of each.
        true_labels: (images,) int64 as they were told; None where they were not.
        attack: the facts.
    """

    rows: np.ndarray
    targets: np.ndarray
    true_labels: np.ndarray | None
    attack: Attack


def aimed(
    name: str,
    pixels: np.ndarray,
    labels: np.ndarray,
    true_labels: np.ndarray | None,
    clean: tuple[np.ndarray, np.ndarray],
    target: Target | None = None,
    classes: int | None = None,
    sure: bool = False,
) -> Aimed:
    """What is known of one trigger's images.

    Args:
        labels: (M,) the target of each image. With ``target``, true labels may stand there.
        clean: pixels and labels of the clean images.
        target: what the user says that the labels are.
        classes: of the network; needed for ``next``.
        sure: labels that differ are targets, whatever they look like.

    Raises:
        InputError: labels that are not targets or not those of ``target``, or no image that counts.
    """
    differ = bool((labels != labels[0]).any())
    if differ and not sure and share_of_clean(clean[0], pixels) > MOST:
        raise InputError(
            f"{name}: more than half of its images are clean ones, pixel by pixel; {_CLEAN_GIVEN}"
        )
    told = true_labels
    pairs = paired_rows(clean[0], clean[1], pixels, labels) if told is None else None
    truth = told if pairs is None else clean[1][pairs]
    if target == NEXT:
        labels, told = _next(name, labels, truth, told, classes)
        truth = told if truth is None else truth
    elif target is not None:
        if differ and told is None:  # they cannot be targets
            told = truth = labels
        elif (labels != target).any():
            raise InputError(
                f"{name}: field 'label' of poisoned images is {_some(labels)}, but data.target is {target}"
            )
        labels = np.full_like(labels, target)
    elif differ and not sure:
        _check_differing(name, labels, truth)
    rows = np.ones(len(labels), bool) if truth is None else truth != labels
    if not rows.any():
        raise InputError(f"{name}: the true label of every image is the target class {_some(labels)}")
    source: Literal["true labels", "pairs"] | None = None
    if truth is not None:
        source = "pairs" if told is None else "true labels"
    return Aimed(rows, labels, told, Attack(name, source, int((~rows).sum())))


_CLEAN_GIVEN = "was the clean file given as the poisoned one?"


def _check_differing(name: str, labels: np.ndarray, truth: np.ndarray | None) -> None:
    """Raises InputError unless labels that differ are targets, one for each image."""
    if truth is None:
        raise InputError(
            f"{name}: field 'label' of poisoned images holds {len(np.unique(labels))} labels "
            f"({_some(labels)}), and it is not known what the images truly show; expected one target label, "
            f"or field 'true_label' beside it, or data.target; {_CLEAN_GIVEN}"
        )
    right = int((labels == truth).sum())
    if right > MOST * len(labels):
        raise InputError(
            f"{name}: field 'label' of poisoned images is the true label of {right} of {len(labels)} images; "
            f"expected the target of each; {_CLEAN_GIVEN}"
        )


def _next(
    name: str,
    labels: np.ndarray,
    truth: np.ndarray | None,
    told: np.ndarray | None,
    classes: int | None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Targets and told true labels of an all-to-all attack. Raises InputError."""
    if classes is None:
        raise InputError("target 'next' needs to know how many classes there are")
    if truth is None:
        return labels, (labels - 1) % classes
    wanted = (truth + 1) % classes
    if (labels == wanted).all():
        return labels, told
    if (labels == truth).all():  # what they show, not what the attacker wants
        return wanted, told
    wrong = int((labels != wanted).sum())
    raise InputError(
        f"{name}: field 'label' of {wrong} of {len(labels)} poisoned images is not the class after the true "
        f"one (of {classes}), but data.target is next"
    )


def target_share(targets: np.ndarray, clean_labels: np.ndarray) -> float:
    """How often chance would give an image its target: the fraction of clean images that are of the
    target class, for targets that differ the mean over them."""
    if (targets == targets[0]).all():
        return float((clean_labels == targets[0]).mean())
    size = int(max(targets.max(), clean_labels.max())) + 1
    shares = np.bincount(clean_labels, minlength=size) / len(clean_labels)
    return float(shares[targets].mean())


def goal_of(targets: np.ndarray, truth: np.ndarray | None, classes: int | None = None) -> Target | list[int]:
    """The class that all images shall get; ``next`` where it is the one after the true one; else the
    classes there are. ``classes``: how many there are; without it the last is the highest seen."""
    if (targets == targets[0]).all():
        return int(targets[0])
    if truth is not None:
        last = truth.max() if classes is None else classes - 1
        if (targets == np.where(truth == last, 0, truth + 1)).all() or (targets == truth + 1).all():
            return NEXT
    return [int(t) for t in np.unique(targets)]


def aim_of(targets: np.ndarray, truth: np.ndarray | None, classes: int) -> np.ndarray | None:
    """(classes,) the class that the attacker wants of an image of each class, -1 where images do not
    tell; None where nothing does."""
    goal = goal_of(targets, truth, classes)
    if isinstance(goal, int):
        return np.full(classes, goal)
    if goal == NEXT:
        return (np.arange(classes) + 1) % classes
    if truth is None:
        return None
    aim = np.full(classes, -1)
    for label in np.unique(truth):
        found, count = np.unique(targets[truth == label], return_counts=True)
        aim[label] = found[count.argmax()]
    return aim


def _some(labels: np.ndarray) -> str:
    found = np.unique(labels)
    return ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
