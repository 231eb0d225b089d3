"""A network from a PyTorch module in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import nn

from prune_core.errors import InputError
from prune_core.model.model import PrunableModel, from_source
from prune_core.torch_nets.source import TorchSource, ready


def from_module(module: nn.Module, example: Any) -> PrunableModel:
    """A BadNet that you have as a PyTorch module: a classifier of images.

    It is copied, in float32 and evaluation mode; the module is left as it is. Layers have the names of their
    modules, as ``layer4.1.conv2``. ``result.apply`` prunes your module, and ``result.save`` writes a
    ``.safetensors`` file that its ``load_state_dict`` takes.

    Args:
        module: (n, C, H, W) -> (n, classes) logits; of several outputs the first.
        example: images as it takes them, a tensor or array (n, C, H, W) or (C, H, W); only their size
            counts. Or that size, as ``(3, 32, 32)``.

    Raises:
        InputError: the module does not take such images, or torch cannot trace its forward pass to ONNX,
            with the place in your code; or it has no convolution.
    """
    if not isinstance(module, nn.Module):
        raise InputError(f"from_module got a {type(module).__name__}; expected a torch.nn.Module")
    name = type(module).__name__
    return from_source(TorchSource.of(ready(module, name), image_of(example), name), name)


def image_of(example: Any) -> tuple[int, int, int]:
    """(C, H, W) of an example. Raises InputError."""
    given = example if isinstance(example, (tuple, list)) and len(example) == 3 else np.shape(example)
    sizes = tuple(given)[-3:]
    if (
        len(tuple(given)) not in (3, 4)
        or not all(isinstance(size, (int, np.integer)) and not isinstance(size, bool) for size in sizes)
        or min(sizes) < 1
    ):
        raise InputError(
            f"the example has shape {tuple(given)}; expected images (n, C, H, W), one image (C, H, W), or "
            "that size, as (3, 32, 32)"
        )
    channels, height, width = (int(size) for size in sizes)
    return channels, height, width
