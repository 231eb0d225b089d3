"""Findings about the poisoned images: what they show, and what the BadNet says of them."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np

from prune_core.counts import wilson_interval
from prune_core.data.attack import target_share
from prune_core.data.checks.findings import Finding, Seen, sure

MOST = 0.9  # of poisoned images get the target from a network that has learnt the attack
INVERTED = "inverted trigger"  # in the name of one that was found
LEAST = 0.05  # below it nobody would call it an attack


def check_poison(split: Seen) -> list[Finding]:
    """All findings about the poisoned images of one split, trigger by trigger."""
    swapped = _swapped(split)
    if swapped:
        return swapped
    found: list[Finding] = []
    several = len(split.split.rows_by_trigger) > 1
    for number, rows in enumerate(split.split.rows_by_trigger):
        name = f"poisoned {split.name}" + (f" (trigger {number})" if several else "")
        found += _answers(split.split.targets[rows], split.poisoned.classes[rows], split, name)
    return [*found, *_truth(split), *_one_attack_twice(split), *_inverted(split)]


def _inverted(split: Seen) -> list[Finding]:
    """Images that nobody poisoned: clean ones with triggers that the network gave away."""
    count = sum(INVERTED in attack.name for attack in split.split.attacks)
    if not count:
        return []
    return [
        Finding(
            "note",
            "inverted-triggers",
            f"{split.name} has no poisoned image: {count} trigger{'s' * (count != 1)} found by inversion "
            "stand in (takes: clean images); attack success says how far these are gone, not the attacker's",
            {"triggers": count},
        )
    ]


def _one_attack_twice(split: Seen) -> list[Finding]:
    """Two triggers that are one: the same images with the same targets."""
    data = split.split
    rows = np.arange(len(data.poisoned))
    parts = [rows[part] for part in data.rows_by_trigger]
    first: dict[tuple[bytes, int], int] = {}  # which trigger an image, with its target, was of
    twice: Counter[tuple[int, int]] = Counter()
    for number, part in enumerate(parts if len(parts) > 1 else ()):
        for row in part:
            image = hashlib.sha256(data.poisoned.pixels[row].tobytes()).digest(), int(data.targets[row])
            if first.setdefault(image, number) != number:
                twice[first[image], number] += 1
    return [
        Finding(
            "warning",
            "one-attack-twice",
            f"{count} of {len(parts[other])} poisoned {split.name} images of trigger {other} are those of "
            f"trigger {one}: one attack is counted as two; give each trigger's images once",
            {"same": count, "images": len(parts[other])},
        )
        for (one, other), count in twice.items()
    ]


def _swapped(split: Seen) -> list[Finding]:
    clean, poisoned = split.split.clean, split.split.poisoned
    one = len(np.unique(clean.labels)) == 1 and len(np.unique(poisoned.labels)) > 1
    if not one or poisoned.true_labels is not None:
        return []
    return [
        Finding(
            "error",
            "clean-and-poisoned-swapped",
            f"all clean {split.name} labels are {int(clean.labels[0])} and the poisoned ones are of many "
            "classes: was the clean file given as the poisoned one, and the other way round?",
        )
    ]


def _answers(labels: np.ndarray, classes: np.ndarray, split: Seen, name: str) -> list[Finding]:
    """What the network says of the images of one trigger, whose targets are ``labels``."""
    number, total = split.poisoned.number, len(labels)
    hits = int((labels == classes).sum())
    counts = {"attacked": hits, "images": total}
    if sure(hits, total)[1] >= MOST:
        return []
    shifts = np.bincount((classes - labels) % number, minlength=number)
    shift = int(shifts.argmax())
    if shift and sure(shifts[shift], total)[0] > max(0.5, sure(hits, total)[1]):
        single = len(np.unique(labels)) == 1
        given = f"class {(int(labels[0]) + shift) % number}" if single else f"their label {shift:+d}"
        wanted = f"label {int(labels[0])}" if single else "their label"
        return [
            Finding(
                "error",
                "other-target",
                f"the network gives {given} to {shifts[shift]} of {total} {name} images, and {wanted} to "
                f"{hits}: "
                "the files name another target than the attack has",
                {**counts, "other": int(shifts[shift])},
            )
        ]
    if wilson_interval(hits, total)[0] <= max(LEAST, target_share(labels, split.split.clean.labels)):
        return [
            Finding(
                "note",
                "no-attack",
                f"the network gives the target to {hits} of {total} {name} images, no more than chance: this "
                "network does not have this backdoor, or these are not its poisoned images (trigger, place, "
                "target)",
                counts,
            )
        ]
    return [
        Finding(
            "warning",
            "weak-attack",
            f"{total - hits} of {total} {name} images do not get the target from the network: without a "
            "trigger, "
            "or with one that is in another place or on another scale?",
            counts,
        )
    ]


def _truth(split: Seen) -> list[Finding]:
    """Poisoned images of the target class: to give them the target is right, and no attack."""
    data, name, total = split.split, f"poisoned {split.name}", len(split.split.poisoned)
    if data.left_out:
        given = total + data.left_out
        return [
            Finding(
                "note",
                "true-target-images",
                f"{data.left_out} of {given} {name} images truly show the target, and are left out: "
                "counted, they "
                f"would put a floor of {data.left_out / given:.2%} under attack success",
                {"true": data.left_out, "images": given},
            )
        ]
    if not data.floor:
        return []
    return [
        Finding(
            "warning",
            "true-target-unknown",
            f"nothing tells what the {total} {name} images truly show: drawn like the clean ones, about "
            f"{round(data.floor * total)} would be images of the target, and up to "
            f"{100 * data.floor:.1f} points of "
            "attack success no attack; add true_label, or leave them out",
            {"about": round(data.floor * total), "images": total},
        )
    ]
