"""The PyTorch module that a network came from: what its state_dict and its ONNX form have in common."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from prune_core.errors import InputError
from prune_core.files.onnx_read import first_line
from prune_core.reader import client as contained
from prune_core.torch_nets.architectures import BACKDOORBENCH, FORMS, parsed
from prune_core.torch_nets.onnx_export import to_onnx
from prune_core.torch_nets.weights import module_with

Logits = Callable[[torch.Tensor], torch.Tensor]  # (n, C, H, W) -> (n, classes)
Image = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class TorchSource:
    """A module with the BadNet's weights, float32, in evaluation mode, on the CPU, and its ONNX form.

    Attributes:
        module: never changed.
        image: (C, H, W) of the images that the ONNX form takes.
        proto: the BadNet's ONNX form.
        file_sha256: of the file that the weights came from; None of a module.
    """

    module: nn.Module
    image: Image
    proto: onnx.ModelProto
    file_sha256: str | None = None

    @classmethod
    def of(cls, module: nn.Module, image: Image, name: str, file_sha256: str | None = None) -> TorchSource:
        """Raises InputError where torch cannot export the module for such images."""
        return cls(module, image, to_onnx(module, image, name), file_sha256)

    def at(self, image: Image, name: str) -> TorchSource:
        """The same for images of another size. Raises InputError."""
        return self if image == self.image else TorchSource.of(self.module, image, name, self.file_sha256)

    @property
    def digest(self) -> str:
        """SHA-256 of what is computed: graph and weights. Whatever a user's function of the same name
        made before, it has another digest where it is another network."""
        data = self.proto.SerializeToString(deterministic=True)
        return hashlib.sha256(b"module " + data).hexdigest()

    @cached_property
    def constant_of(self) -> dict[str, str]:
        """Key of the state_dict -> ONNX constant that holds its values. Keys that share their memory have
        one constant; keys that the forward pass does not use have none."""
        held = {tensor.name for tensor in self.proto.graph.initializer}
        state = self.module.state_dict(keep_vars=True)
        by_place = {_place(state[name]): name for name in held if name in state}
        found = {}
        for key, tensor in state.items():
            name = key if key in held else by_place.get(_place(tensor))
            if name is not None:
                found[key] = name
        return found

    def check_same(self, logits: Logits, exact: Callable[[], Logits], name: str) -> None:
        """Raises InputError where ``logits``, of the ONNX form, are not those of the module: tracing
        records one way through a forward pass, whatever values would lead elsewhere.

        ``exact`` makes them in float64; it is asked where rounding could be the reason, in a network that
        makes much of little differences.
        """
        numbers = torch.Generator().manual_seed(1)
        light = torch.rand((3, *self.image), generator=numbers)
        grey = torch.randn((1, *self.image), generator=numbers)
        for images in (light, 255 * light, grey, -grey, torch.zeros_like(grey)):
            apart, size = _apart(_first(self.module, images), logits(images).cpu())
            if apart <= 1e-3 * size:
                continue
            with contextlib.suppress(RuntimeError):  # a forward pass that makes float32 of its own
                double, module = images.double(), copy.deepcopy(self.module).double()
                found = exact()(double).cpu()
                apart, size = _apart(_first(module, double), found)
                if not apart <= 1e-3 * size:
                    with _NumbersAsFloat32():
                        whole = _first(module, double)
                    apart, size = _apart(whole, found)
            if not apart <= 1e-3 * size:
                raise InputError(
                    f"{name}: traced by torch, it computes something else than its forward pass (logits "
                    f"differ by {apart:.3g}); does the forward pass branch on values of tensors, or on the "
                    "number of images?"
                )


class _NumbersAsFloat32(TorchFunctionMode):
    """Numbers in a forward pass, as a batch norm's epsilon, as float32 rounds them: ONNX holds them so."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = {name: _as_float32(given) for name, given in (kwargs or {}).items()}
        return func(*map(_as_float32, args), **named)


def _as_float32(given: Any) -> Any:
    return float(np.float32(given)) if isinstance(given, float) else given


def _first(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the module says, of several outputs the first."""
    with torch.no_grad():
        said = module(images)
    found: torch.Tensor = said[0] if isinstance(said, (tuple, list)) else said
    return found


def _apart(wanted: torch.Tensor, found: torch.Tensor) -> tuple[float, float]:
    """How far outputs are apart, and how large they are. A softmax at the end of the module is left off in
    the graph; then probabilities are compared, and of its logarithm the differences between classes."""
    numbers = torch.isfinite(wanted) & torch.isfinite(found)
    if not torch.equal(torch.isfinite(wanted), torch.isfinite(found)):
        return math.inf, 1.0
    wanted, found = (torch.where(numbers, x, 0) for x in (wanted, found))
    total = wanted.sum(1)
    shares = bool((wanted >= 0).all() and torch.allclose(total, torch.ones_like(total), atol=1e-3))
    if shares and not torch.allclose(wanted, found, atol=1e-3):
        return float((wanted - found.softmax(dim=1)).abs().max()), 1.0
    wanted, found = (x - x.mean(dim=1, keepdim=True) for x in (wanted, found))
    return float((wanted - found).abs().max()), max(1.0, float(found.abs().max()))


def _place(tensor: Any) -> tuple[Any, ...]:
    if not isinstance(tensor, torch.Tensor) or not tensor.numel():
        return (id(tensor),)
    return (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.dtype)


def source_of_file(
    path: Path,
    architecture: str | None,
    arguments: Mapping[str, Any] | None = None,
    image: Image | None = None,
) -> TorchSource:
    """The network of a file of weights in an architecture.

    Args:
        architecture: see ``architectures``; None of a file of BackdoorBench, which names its own.
        arguments: for the architecture.
        image: (C, H, W) of the images; None for the architecture's usual size.

    Raises:
        InputError: weights that cannot be read, or that do not fit.
    """
    said, arrays = contained.read("weights", path)
    state = dict(zip(said["names"], arrays, strict=True))
    own = said.get("model_name")
    if architecture is None:
        if own is None:
            raise InputError(
                f"{path}: these are weights alone; say by --architecture (in a configuration, architecture) "
                f"which network they belong to: {FORMS}"
            )
        if own not in BACKDOORBENCH:
            raise InputError(
                f"{path}: weights of {own!r}, which is not built in; say by architecture which network that "
                f"is: {FORMS}"
            )
        architecture = f"backdoorbench:{own}"
        arguments = {"num_classes": said["num_classes"], **(arguments or {})}
    asked = parsed(architecture, arguments)
    module = ready(module_with(asked, state, path.name), path.name)
    (file_sha256, _) = contained.read("digest", path)
    name, size = path.name, said.get("img_size")
    if image is None and size is not None:
        image = (size[2], size[0], size[1])
    if image is not None:
        return TorchSource.of(module, image, name, str(file_sha256))
    return usual(module, asked.sides, name, str(file_sha256))


def usual(module: nn.Module, sides: tuple[int, ...], name: str, file_sha256: str | None) -> TorchSource:
    """For images of the first of ``sides`` that the module takes; their channels are those that its first
    convolution takes. Raises InputError."""
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise InputError(f"{name}: no convolution layers, so there are no channels to prune")
    problem: InputError | None = None
    for side in sides:
        try:
            return TorchSource.of(module, (first.in_channels, side, side), name, file_sha256)
        except InputError as error:
            problem = problem or error
    assert problem is not None
    raise problem


def ready(module: nn.Module, name: str) -> nn.Module:
    """A copy of a module in float32 on the CPU, in evaluation mode; of one that torch.compile wraps, the
    module within. Raises InputError."""
    module = getattr(module, "_orig_mod", module)
    try:
        made = copy.deepcopy(module).cpu().float().eval()
    except Exception as error:
        raise InputError(f"{name}: the module cannot be copied: {first_line(error)}") from None
    return made.requires_grad_(False)
