"""Resize and Upsample, where torch interpolates as ONNX does; a refusal where it does not."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from onnx2torch.utils.common import OperationConverterResult
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
    mode, corners = _mode(info, by)
    smooth = bool(info.get("antialias", 0))
    if smooth and mode not in ("bilinear", "bicubic"):
        raise NotImplementedError(f"antialias with mode {mode}")
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


def _mode(info: Any, by: list[float] | None) -> tuple[str, bool | None]:
    """torch's mode and align_corners. Raises NotImplementedError where torch computes something else."""
    mode = info.get("mode", "nearest")
    where = info.get("coordinate_transformation_mode", "half_pixel")
    rounding = info.get("nearest_mode", "round_prefer_floor")
    whole = by is not None and all(float(b).is_integer() for b in by)
    if mode == "nearest":
        if where == "asymmetric" and rounding == "floor":
            return "nearest", None
        if where in ("half_pixel", "pytorch_half_pixel") and whole and rounding.startswith("round"):
            # Of whole factors: no pixel lies halfway, unless the factor is odd and both agree anyway.
            return "nearest", None
        if where == "half_pixel" and rounding == "round_prefer_ceil":
            return "nearest-exact", None
    elif mode in ("linear", "cubic"):
        plain = info.get("cubic_coeff_a", -0.75) == -0.75 and not info.get("exclude_outside", 0)
        if where in ("half_pixel", "pytorch_half_pixel") and plain:
            return f"bi{mode}", False
        if where == "align_corners" and plain:
            return f"bi{mode}", True
    raise NotImplementedError(f"mode {mode}, {where}, {rounding}")
