"""Resize, Upsample and GridSample, where torch interpolates as ONNX does; a refusal where it does not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from onnx2torch.utils.common import OperationConverterResult, onnx_mapping_from_node
from torch import nn

from prune_core.model.converters.registry import constant, converts, images, numbers, of_first_input


class Interpolate(nn.Module):
    """Images scaled or brought to a size."""

    def __init__(
        self,
        mode: str,
        scales: list[float] | None,
        sizes: list[int] | None,
        corners: bool | None,
        smooth: bool,
    ) -> None:
        super().__init__()
        self.mode, self.scales, self.sizes, self.corners, self.smooth = mode, scales, sizes, corners, smooth

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(
            x, self.sizes, self.scales, self.mode, align_corners=self.corners, antialias=self.smooth
        )


@converts("Resize", 11, 13, 18, 19)
def resize(node: Any, graph: Any) -> OperationConverterResult:
    images(node, graph)
    info = node.attributes
    scales, sizes = constant(node, graph, 2), constant(node, graph, 3)
    axes = info.get("axes") or [0, 1, 2, 3]
    if info.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotImplementedError(f"keep_aspect_ratio_policy={info['keep_aspect_ratio_policy']!r}")
    by = to = None
    if sizes is not None and sizes.numel():
        to = _of_images(numbers(sizes), axes, None)
    elif scales is not None and scales.numel():
        by = _of_images(scales.flatten().tolist(), axes, 1.0)
    else:
        raise NotImplementedError("neither sizes nor scales")
    smooth = bool(info.get("antialias", 0))
    mode, corners = _mode(info, by, smooth)
    if info.get("coordinate_transformation_mode") == "pytorch_half_pixel" and mode != "nearest":
        _no_single_pixels(graph.value_info[node.input_values[0]].type.tensor_type.shape, by, to)
    return of_first_input(Interpolate(mode, by, to, corners, smooth), node)


@converts("Upsample", 9)
def upsample(node: Any, graph: Any) -> OperationConverterResult:
    images(node, graph)
    scales = constant(node, graph, 1)
    return _nearest(node, [] if scales is None else scales.flatten().tolist())


@converts("Upsample", 7)
def upsample_by_attribute(node: Any, graph: Any) -> OperationConverterResult:
    images(node, graph)
    return _nearest(node, list(node.attributes.get("scales", ())))


def _nearest(node: Any, scales: list[float]) -> OperationConverterResult:
    if (mode := node.attributes.get("mode", "nearest")) != "nearest":
        raise NotImplementedError(f"mode={mode!r}, other than nearest")
    by = _of_images(scales, [0, 1, 2, 3], 1.0)
    return of_first_input(Interpolate("nearest", by, None, None, False), node)


def _of_images(values: list[Any], axes: list[int], untouched: float | None) -> list[Any]:
    """Those of height and width. ``untouched``: what the others have to be; None: what they are is the
    batch and the number of channels, which torch leaves as they are."""
    by_axis = dict(zip([a % 4 for a in axes], values, strict=False))
    others = [v for a, v in by_axis.items() if a < 2]
    if (
        2 not in by_axis
        or 3 not in by_axis
        or (untouched is not None and any(v != untouched for v in others))
    ):
        raise NotImplementedError("other axes than height and width")
    return [by_axis[2], by_axis[3]]


def _no_single_pixels(shape: Any, by: list[float] | None, to: list[int] | None) -> None:
    """Where an axis becomes 1 long, ``pytorch_half_pixel`` takes the first pixel, which torch does not."""
    for dim, scale, size in zip(shape.dim[2:], by or (None, None), to or (None, None), strict=True):
        if size == 1 or (scale is not None and scale < 1 and dim.dim_value * scale < 2):
            raise NotImplementedError("pytorch_half_pixel and an axis that becomes 1 long")


def _mode(info: Any, by: list[float] | None, smooth: bool) -> tuple[str, bool | None]:
    """torch's mode and align_corners. Raises NotImplementedError where torch computes something else."""
    mode = info.get("mode", "nearest")
    where = info.get("coordinate_transformation_mode", "half_pixel")
    rounding = info.get("nearest_mode", "round_prefer_floor")
    whole = by is not None and all(float(b).is_integer() for b in by)
    if mode == "nearest" and not smooth:
        if where == "asymmetric" and rounding == "floor":
            return "nearest", None
        if where in ("half_pixel", "pytorch_half_pixel") and whole and rounding.startswith("round"):
            # Of whole factors: no pixel lies halfway, unless the factor is odd and both agree anyway.
            return "nearest", None
        if where == "half_pixel" and rounding == "round_prefer_ceil":
            return "nearest-exact", None
    elif smooth and mode in ("linear", "cubic"):  # torch's kernel is cut off at the edge, and is Pillow's
        same = info.get("exclude_outside", 0) and (mode == "linear" or info.get("cubic_coeff_a") == -0.5)
        if same and where in ("half_pixel", "pytorch_half_pixel"):
            return f"bi{mode}", False
        raise NotImplementedError(f"antialias, mode {mode}, {where}, padded at the edge")
    elif mode in ("linear", "cubic"):
        plain = info.get("cubic_coeff_a", -0.75) == -0.75 and not info.get("exclude_outside", 0)
        if where in ("half_pixel", "pytorch_half_pixel") and plain:
            return f"bi{mode}", False
        if where == "align_corners" and plain:
            return f"bi{mode}", True
    raise NotImplementedError(f"mode {mode}, {where}, {rounding}")


class Sampled(nn.Module):
    """Images sampled at the places of a grid, (n, height, width, 2) in [-1, 1]."""

    def __init__(self, mode: str, beyond: str, corners: bool) -> None:
        super().__init__()
        self.mode, self.beyond, self.corners = mode, beyond, corners

    def forward(self, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        return F.grid_sample(x, grid, self.mode, self.beyond, self.corners)


@converts("GridSample", 16, 20, 22)
def grid_sample(node: Any, graph: Any) -> OperationConverterResult:
    images(node, graph)
    info = node.attributes
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(info.get("mode", "linear"), info.get("mode"))
    beyond, corners = info.get("padding_mode", "zeros"), bool(info.get("align_corners", 0))
    return OperationConverterResult(Sampled(mode, beyond, corners), onnx_mapping_from_node(node))


class Grid(nn.Module):
    """The grid of an affine map, (n, 2, 3), for images of a size (n, C, height, width)."""

    def __init__(self, corners: bool) -> None:
        super().__init__()
        self.corners = corners

    def forward(self, theta: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
        return F.affine_grid(theta, numbers(size), self.corners)


@converts("AffineGrid", 20)
def affine_grid(node: Any, graph: Any) -> OperationConverterResult:
    return OperationConverterResult(
        Grid(bool(node.attributes.get("align_corners", 0))), onnx_mapping_from_node(node)
    )
