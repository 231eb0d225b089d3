"""One layer of a Keras configuration, with access to its fields that checks them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from prune_core.errors import InputError

_MAX_INT = 2**31 - 1


WAY_OUT = "a way out is ONNX: model.export('net.onnx', format='onnx') in Keras 3, tf2onnx before it"
MODELS = ("Sequential", "Functional", "Model")


@dataclass(frozen=True)
class Layer:
    """One layer as it is called.

    :ivar path: the file, for messages.
    :ivar name: its own; `outer/inner` within a model within the model, `name#2` where it is called again.
    :ivar sources: names of the layers whose results it takes.
    :ivar key: what its weights are found by: `name` without the calls.
    :ivar keras_3: the configuration is in the dialect of Keras 3.
    """

    path: Path
    name: str
    class_name: str
    config: Mapping[str, Any]
    sources: tuple[str, ...] = ()
    key: str = ""
    keras_3: bool = False

    def refuse(self, message: str) -> NoReturn:
        """Raise the InputError that names the file and this layer."""
        raise InputError(f"{self.path}: layer {self.name!r} ({self.class_name}): {message}")

    def flag(self, key: str, default: bool) -> bool:
        """A boolean field."""
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self.refuse(f"{key} should be true or false, not {value!r}")
        return value

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        value = self.config.get(key, default)
        if not is_count(value):
            self.refuse(f"{key} should be a whole number of at least 1, not {value!r}")
        return int(value)

    def number(self, key: str, default: float, low: float = -1e6, high: float = 1e6) -> float:
        """A number within `low` .. `high`; null counts as the default, as it does in Keras."""
        value = self.config.get(key)
        value = default if value is None else value
        known = isinstance(value, int | float) and not isinstance(value, bool)
        if not known or not low <= value <= high:
            self.refuse(f"{key} should be a number within {low:g} .. {high:g}, not {value!r}")
        return float(value)

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """One of a few words."""
        value = self.config.get(key)
        value = default if value is None else value
        if value not in choices:
            self.refuse(f"{key} should be one of {', '.join(choices)}, not {value!r}")
        return str(value)

    def pair(self, key: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """(height, width), both at least 1; one number stands for both."""
        value = self.config.get(key)
        if value is None and default is not None:
            return default
        pair = [value, value] if is_count(value) else value
        if not isinstance(pair, list) or len(pair) != 2 or not all(map(is_count, pair)):
            self.refuse(f"{key} should be two whole numbers of at least 1, not {value!r}")
        return pair[0], pair[1]

    def axis(self, rank: int, default: int = -1) -> int:
        """The field `axis`, counted from 0 (the batch) in a tensor of `rank` axes."""
        value = self.config.get("axis", default)
        if isinstance(value, list) and len(value) == 1:  # tf.keras wraps it
            value = value[0]
        if not isinstance(value, int) or isinstance(value, bool) or not -rank <= value < rank:
            self.refuse(f"axis {value!r} does not exist in its input of {rank} axes")
        return value % rank


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 1."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_INT
