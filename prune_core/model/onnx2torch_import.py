"""Import onnx2torch without torchvision, which takes seconds and may be of another torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

# onnx2torch imports torchvision for two operators of object detectors. Its import costs as much as torch's
# own, and fails where it was built for another torch (a CUDA build beside a CPU torch, as package indexes
# serve it: "operator torchvision::nms does not exist"). So it is imported when such an operator runs.
_OPERATORS = ("nms", "box_convert", "roi_align")


def load_onnx2torch() -> ModuleType:
    """The `onnx2torch` module; torchvision is not imported with it."""
    if "onnx2torch" in sys.modules or "torchvision" in sys.modules:
        return importlib.import_module("onnx2torch")
    stand_in, operators = ModuleType("torchvision"), ModuleType("torchvision.ops")
    for name in _OPERATORS:
        setattr(operators, name, _late(name))
    stand_in.ops = operators  # type: ignore[attr-defined]
    sys.modules |= {"torchvision": stand_in, "torchvision.ops": operators}
    try:
        return importlib.import_module("onnx2torch")
    finally:  # whoever else imports torchvision gets the real one
        for module in ("torchvision", "torchvision.ops"):
            del sys.modules[module]


def _late(name: str) -> Callable[..., Any]:
    def operator(*args: Any, **kwargs: Any) -> Any:
        return getattr(importlib.import_module("torchvision.ops"), name)(*args, **kwargs)

    operator.__name__ = name
    return operator
