"""Import torchvision's networks, with a torchvision that was built for another torch too."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType

import torch

# Package indexes serve a CUDA build of torchvision beside a CPU build of torch. Its import then fails:
# "operator torchvision::nms does not exist". Classifiers need no such operator; it suffices to declare it.
_declared: list[torch.library.Library] = []  # a schema lives as long as its library object


@functools.cache
def torchvision_models() -> ModuleType:
    """The module ``torchvision.models``."""
    try:
        return importlib.import_module("torchvision.models")
    except RuntimeError as error:
        if "nms" not in str(error):
            raise
    for schema in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, schema):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{schema}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _declared.append(library)
    return importlib.import_module("torchvision.models")
