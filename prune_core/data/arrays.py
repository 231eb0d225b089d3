"""Arrays as callers have them -> arrays that a split can hold, or a line that says what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from prune_core.errors import InputError

_COLOURS = (1, 3, 4)


def checked_pixels(given: Any, name: str) -> np.ndarray:
    """``given`` as an array (N, C, H, W) of real numbers; the caller's own memory where that is one.

    Raises InputError that names the argument: no array, another rank, channels last, empty, not finite.
    """
    pixels = as_array(given, name, "images (N, C, H, W)")
    if pixels.ndim != 4:
        hint = "; add an axis for the channel: x[:, None]" if pixels.ndim == 3 else ""
        raise InputError(f"{name} has shape {pixels.shape}; expected (N, C, H, W){hint}")
    if pixels.size == 0:
        raise InputError(f"{name} is empty, of shape {pixels.shape}; at least one image is needed")
    _, first, second, last = pixels.shape
    if last in _COLOURS and min(first, second) > max(_COLOURS):
        raise InputError(
            f"{name} has shape {pixels.shape}, which looks like channels last (N, H, W, C); expected "
            f"(N, C, H, W): {name}.transpose(0, 3, 1, 2)"
        )
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{name} holds NaN or infinite pixels; expected finite numbers")
    return pixels


def checked_labels(given: Any, name: str, images: int) -> np.ndarray:
    """``given`` as (images,) int64 classes, from 0. Raises InputError that names the argument."""
    labels = as_array(given, name, "class indices (N,)")
    if labels.ndim == 2 and labels.shape[0] == images and labels.shape[1] > 1:
        raise InputError(
            f"{name} has shape {labels.shape}; expected ({images},), the class of each image: of one row "
            f"of scores for each image that is {name}.argmax(axis=1)"
        )
    if labels.ndim != 1:
        raise InputError(f"{name} has shape {labels.shape}; expected ({images},), the class of each image")
    if len(labels) != images:
        raise InputError(f"{name} has {len(labels)} labels for {images} images; expected one for each")
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels % 1 == 0).all()):
        raise InputError(f"{name} must hold whole numbers, the classes' indices")
    labels = labels.astype(np.int64)
    if (labels < 0).any():
        raise InputError(f"{name} holds {labels.min()}; classes count from 0")
    return labels


def checked_target(target: Any) -> int:
    """``target`` as a class. Raises InputError."""
    if isinstance(target, bool) or not isinstance(target, (int, np.integer)) or target < 0:
        raise InputError(f"target is {target!r}; expected the class that the attacker wants, 0 or more")
    return int(target)


def checked_targets(
    target: Any, images: int, true_labels: np.ndarray | None, classes: int | None
) -> np.ndarray:
    """(images,) int64, what the attacker wants of each image, from one class, an array of them, or "next"
    (all-to-all). Raises InputError."""
    if isinstance(target, str):
        if target != "next":
            raise InputError(f"target is {target!r}; expected a class, an array of classes, or 'next'")
        if true_labels is None or classes is None:
            raise InputError("target 'next' needs true_labels, and classes: how many the network has")
        return (true_labels + 1) % classes
    if np.ndim(target) == 1:
        return checked_labels(target, "target", images)
    return np.full(images, checked_target(target), np.int64)


def triggers_given(poisoned: Any, target: Any, true_labels: Any) -> list[tuple[str, Any, Any, Any]]:
    """(name, pixels, target, true labels) of each trigger. Raises InputError where lists differ in length."""
    count = len(poisoned)
    for name, given in (("target", target), ("true_labels", true_labels)):
        if name == "true_labels" and given is None:
            continue
        if not isinstance(given, (list, tuple)) or len(given) != count:
            raise InputError(
                f"{name} is {type(given).__name__}; expected a list of {count}, one for each trigger"
            )
    truths = [None] * count if true_labels is None else true_labels
    return [(f"poisoned_x[{n}]", poisoned[n], target[n], truths[n]) for n in range(count)]


def as_array(given: Any, name: str, wanted: str) -> np.ndarray:
    """``given`` as an array of real numbers; a PyTorch tensor too, wherever it is. Raises InputError."""
    try:
        if hasattr(given, "detach") and hasattr(given, "cpu"):  # a tensor; torch need not be imported
            given = given.detach().cpu()
            given = given.float() if str(given.dtype) == "torch.bfloat16" else given
        array = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{name} cannot be taken as a NumPy array of {wanted}: {reason}") from None
    if array.dtype.kind not in "uifb":
        raise InputError(f"{name} has dtype {array.dtype}; expected real numbers, {wanted}")
    return array
