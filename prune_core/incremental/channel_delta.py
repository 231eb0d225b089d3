"""A change that touches few channels, and how operators hand it on.

A `Piece` holds the new values of some indices along one axis of a tensor; everywhere else the
tensor is what it was. Operators that treat channels apart keep a piece a piece (`through`), those
that only move numbers map its indices (`Moves`), and those that are linear in their input and mix
channels change by weight times difference (`linear_change`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

POINTWISE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish,
    nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardswish, nn.Hardsigmoid, nn.Softplus,
    nn.Softsign, nn.Threshold, nn.Identity, nn.Dropout, nn.Dropout2d,
)  # fmt: skip
# onnx2torch's own modules, by class name: importing their classes would import onnx2torch here.
POINTWISE_NAMES = frozenset(
    ("OnnxClip", "OnnxErf", "OnnxFunction", "OnnxHardSigmoid", "OnnxNeg", "OnnxCopyIdentity")
)
POOLS = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
GLOBAL_POOL_NAMES = frozenset(("OnnxGlobalAveragePool", "OnnxGlobalAveragePoolWithKnownInputShape"))
PADS = (nn.ConstantPad2d, nn.ZeroPad2d)
MOVE_NAMES = frozenset(
    ("Flatten", "OnnxFlatten", "OnnxReshape", "OnnxSqueezeStaticAxes", "OnnxSqueezeDynamicAxes",
     "OnnxUnsqueezeStaticAxes", "OnnxUnsqueezeDynamicAxes")
)  # fmt: skip


class Piece:
    """New values of ``index`` along ``axis`` (never 0, the images).

    Attributes:
        index: (k,) int64, without repeats.
        new: the values, shape of the whole tensor but k along ``axis``.
        old: what stood there, same shape; made when first wanted.
    """

    def __init__(
        self, axis: int, index: torch.Tensor, new: torch.Tensor, old: Callable[[], torch.Tensor]
    ) -> None:
        self.axis, self.index, self.new, self._old = axis, index, new, old

    @cached_property
    def old(self) -> torch.Tensor:
        return self._old()

    @cached_property
    def change(self) -> torch.Tensor:
        return self.new - self.old

    def mapped(self, act: Callable[[torch.Tensor], torch.Tensor], axis: int) -> Piece:
        """The piece behind an operator that treats channels apart."""
        return Piece(axis, self.index, act(self.new), lambda: act(self.old))

    def into(self, whole: torch.Tensor) -> torch.Tensor:
        """A copy of the old tensor with the new values in."""
        return whole.index_copy(self.axis, self.index, self.new)


def through(module: Any, ndim: int, axis: int) -> tuple[ChannelAct, int] | None:
    """How a module acts on part of the channels, when it treats them apart.

    Args:
        module: takes one tensor of ``ndim`` axes, whose channels lie along ``axis``.

    Returns:
        The act on (values, indices) and the axis on which channels lie afterwards; None when the
        module mixes channels or is not known.
    """
    name = type(module).__name__
    if isinstance(module, POINTWISE) or name in POINTWISE_NAMES:
        return (lambda values, index: module(values)), axis
    if name == "OnnxTranspose":
        order = module.perm or list(range(ndim))[::-1]
        if order[0] != 0:
            return None
        return (lambda values, index: values.permute(order)), list(order).index(axis)
    if name == "OnnxReduceStaticAxes" and module.axes:
        axes = [a % ndim for a in module.axes]
        if axis in axes or 0 in axes:
            return None
        behind = axis if module.keepdims else axis - sum(a < axis for a in axes)
        return (lambda values, index: module(values)), behind
    if axis != 1 or ndim != 4:
        return None
    if isinstance(module, (*POOLS, *PADS)) or name in GLOBAL_POOL_NAMES:
        return (lambda values, index: module(values)), 1
    if name == "OnnxPadStatic" and not any(module.pads[4:]):
        return (lambda values, index: module(values)), 1
    if isinstance(module, nn.BatchNorm2d) and not module.training:
        return (lambda values, index: _batch_norm(module, values, index)), 1
    return None


ChannelAct = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _batch_norm(norm: nn.BatchNorm2d, values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    def part(tensor: torch.Tensor | None) -> torch.Tensor | None:
        return None if tensor is None else tensor[index]

    mean, var = part(norm.running_mean), part(norm.running_var)
    return F.batch_norm(values, mean, var, part(norm.weight), part(norm.bias), eps=norm.eps)


@dataclass
class Moves:
    """An operator that only moves numbers (flatten, reshape, squeeze): where each one comes from.

    Found by sending the positions themselves through it, so no operator needs a rule of its own.
    """

    sources: torch.Tensor  # (1, *output shape): flat position in the input of one image
    shape: torch.Size  # of one input image, without the batch

    @classmethod
    def of(cls, act: Callable[[torch.Tensor], Any], shape: torch.Size) -> Moves | None:
        """None when the operator does more than move numbers, or moves them between images."""
        count = shape.numel()
        places = torch.arange(2 * count).reshape(2, *shape)
        try:
            moved = act(places)
        except (RuntimeError, TypeError, ValueError):
            return None
        if moved.shape[:1] != (2,) or moved.numel() != 2 * count or moved.ndim < 2:
            return None
        if not torch.equal(moved[1], moved[0] + count):
            return None
        return cls(moved[:1], shape)

    def piece(self, piece: Piece) -> Piece | None:
        """The piece behind the operator; None when it is not one along any axis."""
        plan = self._plan(piece.axis, piece.index.cpu())
        if plan is None:
            return None
        axis, index, gather, shape = plan
        index = index.to(piece.new.device)

        def act(values: torch.Tensor) -> torch.Tensor:
            flat = values.flatten(1)
            if gather is not None:
                flat = flat[:, gather.to(values.device)]
            return flat.reshape(len(values), *shape)

        return Piece(axis, index, act(piece.new), lambda: act(piece.old))

    def _plan(
        self, axis: int, index: torch.Tensor
    ) -> tuple[int, torch.Tensor, torch.Tensor | None, list[int]] | None:
        """(axis behind, indices behind, which number of the piece goes where or None for the same
        order, shape of one image of the piece behind)."""
        inside = torch.full((self.shape.numel(),), -1)
        places = torch.arange(self.shape.numel()).reshape(1, *self.shape).index_select(axis, index)
        inside[places.flatten()] = torch.arange(places.numel())
        behind = inside[self.sources]
        touched = behind >= 0
        for out in range(1, touched.ndim):
            others = [a for a in range(touched.ndim) if a != out]
            along = touched.sum(dim=others)
            if ((along == 0) | (along == touched.numel() // touched.shape[out])).all():
                kept = along.nonzero().flatten()
                part = behind.index_select(out, kept)
                gather = part.flatten()
                same = torch.equal(gather, torch.arange(len(gather)))
                return out, kept, None if same else gather, list(part.shape[1:])
        return None


def conv_of(module: nn.Module) -> nn.Conv2d | None:
    """The 2-d convolution in a module; onnx2torch puts one-sided zero padding in front of some."""
    if isinstance(module, nn.Sequential) and len(module) == 2:
        pad, conv = module
        if not (isinstance(pad, PADS) and pad.value == 0):
            return None
        module = conv
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        return module
    return None


def convolved(
    module: nn.Module,
    values: torch.Tensor,
    inputs: torch.Tensor | None,
    outputs: torch.Tensor | None,
    bias: bool,
) -> torch.Tensor:
    """What an ungrouped convolution makes of some of its input channels (None: all), in some of
    its output channels."""
    conv = conv_of(module)
    assert conv is not None and conv.groups == 1
    if isinstance(module, nn.Sequential):
        values = module[0](values)
    weight = conv.weight
    weight = weight if outputs is None else weight[outputs]
    weight = weight if inputs is None else weight[:, inputs]
    shift = conv.bias if bias else None
    if shift is not None and outputs is not None:
        shift = shift[outputs]
    return F.conv2d(values, weight, shift, conv.stride, conv.padding, conv.dilation)


def depthwise(module: nn.Module, piece: Piece) -> Piece:
    """A piece behind a depthwise convolution: it stays one, ``multiplier`` times as wide."""
    conv = conv_of(module)
    assert conv is not None and conv.groups == conv.in_channels
    times = conv.out_channels // conv.in_channels
    index = (piece.index[:, None] * times + torch.arange(times, device=piece.index.device)).flatten()
    shift = None if conv.bias is None else conv.bias[index]

    def act(values: torch.Tensor) -> torch.Tensor:
        if isinstance(module, nn.Sequential):
            values = module[0](values)
        groups = len(piece.index)
        return F.conv2d(values, conv.weight[index], shift, conv.stride, conv.padding, conv.dilation, groups)

    return Piece(1, index, act(piece.new), lambda: act(piece.old))
