"""Batches of a loader -> arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from prune_core.data.arrays import as_array
from prune_core.errors import InputError


def gathered(
    batches: Iterable[Any], name: str, labelled: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """All images (N, C, H, W) and labels (N,) of an iterable of batches ``(images, labels, ...)``; further
    entries are left aside. Where ``labelled`` is False a batch may be images alone: then None.

    Raises InputError that names the batch.
    """
    images: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    try:
        batches = iter(batches)
    except TypeError:
        raise InputError(
            f"{name} is a {type(batches).__name__}; expected an iterable of batches (images, labels), as a "
            "DataLoader is one"
        ) from None
    for number, batch in enumerate(batches):
        what = f"batch {number} of {name}"
        if isinstance(batch, (tuple, list)) and len(batch) >= 2:
            x, y = batch[0], batch[1]
        elif not labelled and hasattr(batch, "shape"):
            x, y = batch, None
        else:
            raise InputError(f"{what} is a {type(batch).__name__}; expected a pair (images, labels)")
        x = as_array(x, f"the images of {what}", "images (n, C, H, W)")
        if x.ndim != 4:
            raise InputError(f"the images of {what} have shape {x.shape}; expected (n, C, H, W)")
        if images and x.shape[1:] != images[0].shape[1:]:
            raise InputError(
                f"the images of {what} are {x.shape[1:]}, those before are {images[0].shape[1:]}"
            )
        images.append(np.array(x))  # a loader may use its memory again
        if y is not None:
            labels.append(np.atleast_1d(np.array(as_array(y, f"the labels of {what}", "class indices (n,)"))))
    if not images:
        raise InputError(f"{name} gave no batch; at least one image is needed")
    if labels and len(labels) != len(images):
        raise InputError(f"{name}: some batches have labels and some have none")
    return np.concatenate(images), np.concatenate(labels) if labels else None
