"""A mask on the caller's own PyTorch module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from prune_core.errors import InputError
from prune_core.export.state_dict import (
    PARAMETERS,
    NoStateDict,
    Rows,
    checked_rows,
    with_rows_zero,
    zeroed_rows,
)
from prune_core.masks import ChannelMask
from prune_core.model.from_module import from_module
from prune_core.model.model import PrunableModel

MAX_BYTES = 64 * 2**20


def apply_mask(module: nn.Module, mask: Any, example: Any = None) -> nn.Module:
    """A copy of your module with a mask's channels pruned, batch norm included: zero, as in the GoodNet.

    The module is left as it is; the copy has its device, precision and mode.

    Args:
        module: the BadNet, as the module that it was read from or that ``from_module`` got.
        mask: a ``NAME.mask.json`` file, what is in one, or a ``ChannelMask``.
        example: images as the module takes them, or their size, as of ``from_module``. Needed for a mask
            that does not say which tensors of the state_dict it sets to zero: a ``ChannelMask``, or the file
            of a network that came as ONNX. Layers are then found by their names, or where these differ by
            their order.

    Raises:
        InputError: no such file or not a mask, or a module that is not the mask's network.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"apply_mask got a {type(module).__name__}; expected a torch.nn.Module")
    if isinstance(mask, ChannelMask):
        return with_rows_zero(module, _found(module, mask, example, "the mask"), "the mask")
    name, value = _read(mask)
    checked = ChannelMask.from_json(value)
    if PARAMETERS in value:
        return with_rows_zero(module, checked_rows(value[PARAMETERS], name), name)
    return with_rows_zero(module, _found(module, checked, example, name), name)


def rows_in(model: PrunableModel, mask: ChannelMask) -> Rows:
    """``zeroed_rows``. Raises InputError where a state_dict cannot say it."""
    try:
        return zeroed_rows(model, mask)
    except NoStateDict as error:
        raise InputError(f"{model.name}: its state_dict cannot hold this mask: {error}") from None


def matched(model: PrunableModel, mask: ChannelMask, names: list[str]) -> ChannelMask:
    """``mask`` with the layers' names of ``model``: the same ones, or where these differ those at the same
    places of ``names``, all layers of the mask's network in order. Raises InputError."""
    if all(name in model.by_name for name in mask.by_layer()):
        return mask
    if len(names) != len(model.layers):
        lone = next(name for name in mask.by_layer() if name not in model.by_name)
        raise InputError(
            f"{model.name} has no convolution {lone!r}; it has {', '.join(list(model.by_name)[:8])}; "
            "expected the module that the mask's network is"
        )
    place = {name: layer.name for name, layer in zip(names, model.layers, strict=True)}
    return ChannelMask.of({place[n]: rows for n, rows in mask.by_layer().items()}, mask.keep_bias)


def _found(module: nn.Module, mask: ChannelMask, example: Any, name: str) -> Rows:
    if example is None:
        raise InputError(
            f"{name} does not say which tensors of the state_dict it sets to zero; give an example of the "
            "images as well: apply_mask(module, mask, images)"
        )
    model = from_module(module, example)
    return rows_in(model, matched(model, mask, []))


def _read(mask: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(mask, Mapping):
        return "the mask", dict(mask)
    if not isinstance(mask, (str, Path)):
        raise InputError(f"mask is a {type(mask).__name__}; expected a NAME.mask.json file or a ChannelMask")
    path = Path(mask)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: too large for a mask")
        value = json.loads(path.read_bytes())
    except OSError:
        raise InputError(f"{path}: no such file; expected a NAME.mask.json") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not JSON; expected a NAME.mask.json") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected a mask, as goodnet pick writes it")
    return path.name, value
