"""Image files in HDF5, as the lab has them: checked and bounded."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from prune_core.errors import InputError
from prune_core.files.hdf5 import link_kind, link_out, unfit
from prune_core.image_files.fields import (
    MAX_BYTES,
    NAMES,
    Found,
    Wish,
    as_nchw,
    checked_labels,
    checked_target,
    field_name,
    needed_field,
)

DAMAGE = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    NotImplementedError,
)


def read_hdf5(path: Path, wish: Wish) -> Found:
    """Data sets at the file's root, by name. Pixels are NCHW where nothing else is said."""
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{path}: not a readable HDF5 file (wrong format or cut short); "
            "expected 'data' (N, C, H, W) and 'label' (N,), or .npz, .parquet or a folder of pictures"
        ) from None
    with file:
        try:
            found = _read(file, path, wish)
            if (wrong := link_out(file)) is not None:
                raise InputError(f"{path}: {wrong}")
        except InputError:
            raise
        except DAMAGE:
            raise InputError(f"{path}: damaged HDF5 file, a field cannot be read") from None
    return found


def _read(file: h5py.File, path: Path, wish: Wish) -> Found:
    about: list[str] = []
    there = [name for name in _asked(wish) if link_kind(file, name) is not None]
    if not {"images", "label"} <= {r for r in NAMES if field_name(r, there, wish, path, [], known=False)}:
        there = list(file)[:1000]  # for the message
    name = needed_field("images", there, wish, path, about)
    data = _dataset(file, path, name)
    if data.ndim != 4:
        raise InputError(f"{path}: field '{name}' has shape {data.shape}; expected rank 4: (N, C, H, W)")
    if data.size == 0:
        raise InputError(f"{path}: field '{name}' is empty; at least one image is needed")
    if data.size * data.dtype.itemsize > MAX_BYTES:
        raise InputError(f"{path}: field '{name}' claims {data.size} values; the limit is 16 GiB")
    rows, fields = data.shape[0], {}
    for role in ("label", "target", "true_label"):
        other = field_name(role, there, wish, path, about)
        if other is None:
            continue
        values = _dataset(file, path, other)
        shapes = [(rows,), (rows, 1), *([(), (1,)] if role == "target" else [])]
        if values.shape not in shapes:
            raise InputError(
                f"{path}: field '{other}' has shape {values.shape}; expected ({rows},), one for each image"
            )
        check = checked_target if role == "target" else checked_labels
        fields[role] = check(np.asarray(values[()]), path, other, rows)
    if "label" not in fields and "target" not in fields:
        needed_field("label", there, wish, path, about)
    pixels = as_nchw(data[()], path, name, wish.layout or "NCHW", about)
    return Found({"images": pixels, **fields}, about=about)


def _asked(wish: Wish) -> list[str]:
    """Every name that a field may have. Looked up one by one: a stranger's file may hold very many."""
    usual = [form for names in NAMES.values() for name in names for form in (name, name.upper())]
    return list(dict.fromkeys([*usual, *wish.keys.values()]))


def _dataset(file: h5py.File, path: Path, field: str) -> h5py.Dataset:
    kind = link_kind(file, field)
    if kind != "hard":
        raise InputError(f"{path}: field '{field}' is a link ({kind}); links are not followed")
    dataset = file[field]
    if not isinstance(dataset, h5py.Dataset):
        raise InputError(f"{path}: field '{field}' is a group; expected a data set")
    # First of all: the shape of virtual data may be asked of another file.
    if (wrong := unfit(dataset, path.stat().st_size)) is not None:
        raise InputError(f"{path}: field '{field}' {wrong}")
    if dataset.shape is None:
        raise InputError(f"{path}: field '{field}' is empty")
    if dataset.dtype.kind not in "uifb":
        raise InputError(f"{path}: field '{field}' has dtype {dataset.dtype}; expected real numbers")
    return dataset
