"""What is in a file of images -> what each image shows, and what the attacker wants of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prune_core.errors import InputError


def clean_roles(fields: Mapping[str, np.ndarray], path: Path) -> np.ndarray:
    """(N,) the labels of clean images. Raises InputError."""
    if "label" not in fields:
        raise InputError(f"{path}: no labels; expected clean images with the class of each")
    return fields["label"]


def poisoned_roles(
    fields: Mapping[str, np.ndarray], path: Path, target: int | None, true: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """(N,) the class wanted of each poisoned image, and (N,) what it shows, None where that is not known.

    In a file with no ``target`` of its own, and none asked for, ``label`` is the class wanted. Else
    ``label`` is what the image shows, if it does not repeat the target.

    Args:
        fields: int64 arrays by role, without pixels too.
        target: asked for, for every image.
        true: ``label`` is the class shown whatever is asked for, as in folders.

    Raises:
        InputError: no target is known, or two that differ.
    """
    label, truth, wanted = (fields.get(role) for role in ("label", "true_label", "target"))
    if target is not None:
        if wanted is not None and (wanted != target).any():
            other = int(wanted[wanted != target][0])
            raise InputError(f"{path}: field 'target' holds {other}, but data.target is {target}")
        wanted = np.full(len(fields["images"]), target, np.int64)
    if wanted is None:
        if label is None or true:
            raise InputError(
                f"{path}: holds the true class of each image; the class that the attacker wants is missing: "
                "give data.target"
            )
        return label, truth
    if truth is None and label is not None and (true or (label != wanted).any()):
        truth = label
    return wanted, truth
