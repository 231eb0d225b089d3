"""Changed weights back into the layout of a Keras file."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
from onnx import numpy_helper

from prune_core.errors import InputError
from prune_core.files.constants import Weights, constants
from prune_core.keras_files.container import KerasFile
from prune_core.keras_files.translate import translate


class SharedWeights(InputError):
    """A Keras file has one set of weights for a layer, however often it is called."""


_BASE = 2**22  # float32 holds whole numbers exactly up to 2**24


@dataclass(frozen=True)
class _Numbered(KerasFile):
    """A Keras file in which every value reads as its own position in its data set: one digit of
    that number, in base ``_BASE``."""

    digit: int = 0

    def read(self, name: str) -> np.ndarray:
        shape = self.dataset(name).shape
        numbers = np.arange(math.prod(shape), dtype=np.int64) // _BASE**self.digit % _BASE
        return numbers.reshape(shape).astype(np.float32)


def in_file_layout(file: KerasFile, architecture: str | None, weights: Weights) -> dict[str, np.ndarray]:
    """``{path of a data set: values as that set stores them}`` for weights by ONNX constant name.

    A Keras file orders axes (and, after Flatten, rows) otherwise than ONNX. Which value goes where
    is found by translating the positions instead of the values, so there is no second description
    of the layouts that could disagree with the reader's.

    Raises InputError for a constant that the file does not hold as such.
    """
    translation = translate(file, architecture)
    given = {field.name: getattr(file, field.name) for field in fields(KerasFile)}
    digits = [
        constants(translate(_Numbered(**given, digit=digit), architecture).model.graph) for digit in (0, 1)
    ]
    paths = translation.weights
    held = constants(translation.model.graph)
    found: dict[str, np.ndarray] = {}
    for name, values in weights.items():
        if name not in paths or name not in held:
            raise InputError(
                f"{file.path}: holds no weights for {name!r}, so a Keras file cannot say that they "
                "changed; take the .onnx file"
            )
        low, high = (numpy_helper.to_array(digit[name]).astype(np.int64) for digit in digits)
        place = (low + _BASE * high).ravel()
        original = file.read(paths[name])
        flat = original.ravel()
        if values.shape != low.shape or not np.array_equal(
            flat[place], numpy_helper.to_array(held[name]).ravel()
        ):
            raise InputError(
                f"{file.path}: weights for {name!r} have shape {values.shape}; expected {low.shape}"
            )
        flat = flat.copy()
        flat[place] = values.ravel()
        new = flat.reshape(original.shape)
        if not np.array_equal(found.setdefault(paths[name], new), new):
            raise called_again(file, name)
    # A layer that is called twice has one data set; what changed must have changed in all its calls.
    for name, path in paths.items():
        if path in found and name not in weights and not np.array_equal(found[path], file.read(path)):
            raise called_again(file, name)
    return found


def called_again(file: KerasFile, name: str) -> SharedWeights:
    """What is to be raised for a constant of a layer that differs from that of another call."""
    layer = name.rpartition("/")[0].partition("#")[0]
    return SharedWeights(
        f"{file.path}: layer {layer!r} is called more than once and was changed in one of its calls alone, "
        "which a Keras file cannot say; take the .onnx file"
    )
