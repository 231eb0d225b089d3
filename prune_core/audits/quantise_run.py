"""Run by ``quantised`` as a program of its own: an ONNX file to one of eight bits, by ONNX Runtime.

Arguments: the file, calibration images (``.npy``, as the net takes them), the file to write.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import version_converter
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static


class Images(CalibrationDataReader):
    """One image at a time, or as many as the file is made for."""

    def __init__(self, name: str, pixels: np.ndarray, batch: int) -> None:
        self.parts: Iterator[Any] = iter(
            {name: pixels[start : start + batch]} for start in range(0, len(pixels) - batch + 1, batch)
        )

    def get_next(self) -> Any:
        return next(self.parts, None)


def main(source: str, images: str, made: str) -> None:
    model = onnx.load(source)
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < 13:  # the first in which weights of each channel have a scale of their own
        onnx.save(version_converter.convert_version(model, 13), source)
    given = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).get_inputs()[0]
    batch = given.shape[0] if isinstance(given.shape[0], int) else 16
    reader = Images(given.name, np.load(images).astype(np.float32), batch)
    quantize_static(
        source,
        made,
        reader,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QInt8,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
