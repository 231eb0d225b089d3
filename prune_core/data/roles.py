"""What is in a file of images -> what each image shows, and what the attacker wants of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prune_core.data.attack import NEXT, Target
from prune_core.errors import InputError


def clean_roles(fields: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """(N,) the labels of clean images. Raises InputError."""
    if "label" not in fields:
        raise InputError(f"{path}: no labels; expected clean images with the class of each")
    return fields["label"]


def poisoned_roles(
    fields: Mapping[str, np.ndarray], path: Path, target: Target | None, true: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """(N,) the class wanted of each poisoned image, and (N,) what it shows, None where that is not known.

    A file's ``target`` says what is wanted; ``label`` beside it is what the image shows, if it does not
    repeat the target. Without one, ``label`` is returned as it is: ``attack.aimed`` finds out which it is.

    Args:
        fields: int64 arrays by role, and pixels.
        target: what the user says; needed where the file cannot tell.
        true: ``label`` is what the image shows, whatever is said, as in class folders.

    Raises:
        InputError: the target is not known.
    """
    label, truth, wanted = (fields.get(role) for role in ("label", "true_label", "target"))
    if wanted is not None:
        if truth is None and label is not None and (true or (label != wanted).any()):
            truth = label
        return wanted, truth
    if label is not None and not true:
        return label, truth
    if label is not None and target == NEXT:
        return label, label
    if target is None or target == NEXT:
        raise InputError(
            f"{path}: holds pictures and no class that the attacker wants; give data.target, or --target"
        )
    return np.full(len(fields["images"]), target, np.int64), label
