"""Orders that other people bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from prune_core.errors import InputError
from prune_core.orders.given import OrderInput, Scores
from prune_core.orders.known import KnownOrder
from prune_core.plugins import Plugins, check_function, check_needs

MOST_NEEDED = "poisoned images with true labels"  # what an order that declares nothing is taken to need
_SCALES = ("common", "layer", None)


def order_plugins(builtin: Iterable[str]) -> Plugins[KnownOrder]:
    """Those of this process and of the entry points ``goodnet.orders``."""
    return Plugins("order", "goodnet.orders", lambda: builtin, _made)


def check_known(what: str, known: KnownOrder) -> None:
    """Raises InputError where an order says of itself what makes no sense."""
    check_function(what, known.score, "OrderInput")
    check_needs(what, known.needs)
    if known.scale not in _SCALES:
        raise InputError(f"{what}: scale {known.scale!r} is unknown; expected 'common', 'layer' or None")


def checked_scores(name: str, scores: Any, given: OrderInput) -> Scores:
    """``scores`` as float64, where they are what an order must return. Raises InputError."""
    if not isinstance(scores, Mapping):
        raise InputError(
            f"order {name!r} returned a {type(scores).__name__}; expected {{layer: (channels,) scores}}"
        )
    found: Scores = {}
    for layer in given.layers:
        wanted = (given.model.layer(layer).channels,)
        if layer not in scores:
            raise InputError(f"order {name!r} returned no scores for layer {layer!r}")
        try:
            values = np.asarray(scores[layer], dtype=np.float64)
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"order {name!r}: its scores of {layer!r} are no numbers; expected a NumPy array {wanted}"
            ) from None
        if values.shape != wanted:
            raise InputError(
                f"order {name!r}: its scores of {layer!r} have shape {values.shape}; expected {wanted}, one "
                "for each channel of the layer"
            )
        if not np.isfinite(values).all():
            raise InputError(f"order {name!r}: its scores of {layer!r} are not all finite numbers")
        found[layer] = values
    return found


def _made(value: object) -> tuple[KnownOrder, str | None, Callable[..., Any]]:
    if not isinstance(value, KnownOrder):
        check_function("it", value, "OrderInput")
        value = KnownOrder(value, MOST_NEEDED)  # type: ignore[arg-type]
    check_known("it", value)
    return value, value.version, value.score
