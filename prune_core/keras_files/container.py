"""The container of a Keras `.h5` file: its attributes and where its weights lie.

Read with h5py alone. Nothing in the file is run, and nothing outside the file is opened: links and
raw data that live elsewhere are refused by name. The HDF5 library itself has faults that a file with
bytes changed on purpose can reach; it may then crash or never return. So this runs in the reader
process (``contained``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from prune_core.errors import InputError
from prune_core.files.hdf5 import link_kind, link_out, unfit

# All weights of a network have to fit one protobuf message, which is what an ONNX file is.
MAX_WEIGHT_BYTES = 2**31 - 2**20
MAX_CONFIG = 16 * 2**20  # letters; a network of a thousand layers has one million


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged or foreign file, which is nearly anything, into one."""
    try:
        yield
    except (InputError, FileNotFoundError):
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError, MemoryError, OverflowError) as error:
        raise InputError(
            f"{path}: cannot be read as an HDF5 file, it may be damaged or of another kind"
            f" ({type(error).__name__}: {one_line(error)})"
        ) from error


@dataclass(frozen=True)
class KerasFile:
    """An open Keras file; use `open_keras`.

    :ivar path: the file, for messages.
    :ivar model_config: the parsed root attribute, or None for a weights-only file.
    :ivar weights: `(layer, dataset paths)` of every layer that has weights, in the file's order.
        Keras matches layers and weights by this order, so it is what a reader has to follow. Not known
        of a `.keras` file, which names none.
    :ivar archive: it is a `.keras` file, and `handle` what it has for weights.
    :ivar keras_version: as the file says it, "" where it does not.
    """

    path: Path
    model_config: Any
    weights: list[tuple[str, list[str]]]
    handle: h5py.File
    archive: bool = False
    keras_version: str = ""

    def has(self, name: str) -> bool:
        """Whether there is a group at a path, by hard links only."""
        try:
            with damage_named(self.path):
                return isinstance(_inside(self.path, self.handle, name), h5py.Group)
        except InputError:
            return False

    def variables(self, name: str) -> tuple[list[str], str | None]:
        """The data sets `0`, `1`, .. in a group of a `.keras` file, and the layer's name where it says it."""
        if not self.has(name):
            return [], None
        with damage_named(self.path):
            group = _inside(self.path, self.handle, name)
            said = _text(group.attrs["name"]) if "name" in group.attrs else None
            return [f"{name}/{number}" for number in range(len(group))], said

    def dataset(self, name: str) -> h5py.Dataset:
        """The data set at a path from `weights`; checked to hold numbers, in this file."""
        with damage_named(self.path):
            node = _inside(self.path, self.handle, name)
            if not isinstance(node, h5py.Dataset):
                raise InputError(f"{self.path}: {name!r} should be a data set of weights")
            if (wrong := unfit(node, self.path.stat().st_size)) is not None:
                raise InputError(f"{self.path}: {name!r} {wrong}")
            if node.dtype.kind != "f" or node.shape is None:
                raise InputError(f"{self.path}: {name!r} should hold floats, not {node.dtype}")
            return node

    def check_apart(self, names: Iterable[str]) -> None:
        """Raises InputError when two weights are one data set, by hard links: no copy could change one
        of them alone."""
        seen: dict[int, str] = {}
        for name in names:
            with damage_named(self.path):
                address = int(h5py.h5o.get_info(self.dataset(name).id).addr)
            if address in seen:
                raise InputError(f"{self.path}: {seen[address]!r} and {name!r} are one data set; refused")
            seen[address] = name

    def read(self, name: str) -> np.ndarray:
        """The weights at a path from `weights`, float32 and finite."""
        with damage_named(self.path), np.errstate(over="ignore"):
            values: np.ndarray = self.dataset(name)[()].astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"{self.path}: {name!r} holds NaN or infinity; weights are finite")
        return values


@contextmanager
def open_keras(path: Path) -> Iterator[KerasFile]:
    """Open a Keras `.h5`, full model or weights only.

    :raises InputError: the file is missing, damaged, or no such Keras file.
    """
    try:
        with damage_named(path):
            handle = h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    with handle:
        with damage_named(path):
            full = "model_config" in handle.attrs
            config = (
                parsed_config(path, handle.attrs["model_config"], "attribute model_config") if full else None
            )
            root = _inside(path, handle, "model_weights") if full else handle
            weights = _weights(path, handle, root)
            if (wrong := link_out(handle)) is not None:  # a pruned copy would have it too
                raise InputError(f"{path}: {wrong}")
            said = handle.attrs.get("keras_version", root.attrs.get("keras_version", ""))
        yield KerasFile(path, config, weights, handle, keras_version=_text(said))


def parsed_config(path: Path, data: bytes | str, what: str) -> Any:
    """A configuration from its text; `what` names where it stands. Raises InputError."""
    try:
        text = _text(data)
        if len(text) > MAX_CONFIG:
            raise InputError(f"{path}: {what} has {len(text)} characters; too many")
        return json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {what} is not readable JSON ({one_line(error)})") from error


def _inside(path: Path, group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Walk `name` from `group` by hard links only, so that the walk cannot leave the file."""
    node: Any = group
    for part in name.split("/"):
        kind = link_kind(node, part) if isinstance(node, h5py.Group) else None
        if kind is None:
            raise InputError(f"{path}: {(group.name or '').rstrip('/')}/{name} is missing")
        if kind != "hard":
            article = "a" if kind == "soft" else "an"
            raise InputError(f"{path}: {name!r} goes through {article} {kind} link ({part!r}); refused")
        node = node[part]
    return node


def _names(group: h5py.Group, key: str) -> list[str] | None:
    """A list of names in an attribute, which Keras cuts into `key0`, `key1`, .. above 64 kB."""
    if key in group.attrs:
        parts = [group.attrs[key]]
    else:
        parts = []
        while f"{key}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{key}{len(parts)}"])
        if not parts:
            return None
    return [_text(name) for part in parts for name in np.ravel(part)]


def _weights(path: Path, handle: h5py.File, root: Any) -> list[tuple[str, list[str]]]:
    layers = _names(root, "layer_names") if isinstance(root, h5py.Group) else None
    if layers is None:
        if link_kind(handle, "layers") and link_kind(handle, "vars"):
            raise InputError(
                f"{path}: a Keras 3 .weights.h5 file, which names no layers;"
                " save the whole model instead: model.save('model.h5')"
            )
        raise InputError(f"{path}: holds no Keras model (no attribute layer_names)")
    found = []
    for layer in layers:
        group = _inside(path, root, layer)
        names = _names(group, "weight_names")
        if names is None:
            raise InputError(f"{path}: group {layer!r} has no attribute weight_names")
        if names:
            prefix = f"{group.name.lstrip('/')}/"
            found.append((layer, [prefix + name for name in names]))
    return found
