"""Import onnx2torch where torchvision's compiled operators do not load."""

from __future__ import annotations

import importlib
from types import ModuleType

import torch

# onnx2torch imports torchvision, and a torchvision built for another torch (a CUDA build beside a
# CPU torch, as package indexes serve it) stops at "operator torchvision::nms does not exist". It
# only needs the schemas to be there at import; no model that we read runs the operators.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[torch.library.Library] = []  # a schema lives as long as its library object


def load_onnx2torch() -> ModuleType:
    """The `onnx2torch` module; operators that torchvision lacks are declared first, if need be."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in _SCHEMAS:
            name = schema.partition("(")[0]
            if not hasattr(torch.ops.torchvision, name):
                library.define(schema)
        _libraries.append(library)
    return importlib.import_module("onnx2torch")
