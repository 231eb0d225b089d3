"""Image files as arrays: HDF5 in the lab's form, checked and bounded."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from prune_core.errors import InputError
from prune_core.files.hdf5 import link_kind, link_out, unfit

MAX_BYTES = 16 * 2**30


def read_fields(path: Path) -> dict[str, np.ndarray]:
    """``read_images`` in this process: ``data``, ``label`` and ``true_label`` if there is one."""
    try:
        file = h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError, TypeError, KeyError):
        raise InputError(
            f"{path}: not a readable HDF5 file (wrong format or cut short); "
            "expected 'data' (N, C, H, W) and 'label' (N,)"
        ) from None
    with file:
        try:
            data = _dataset(file, path, "data")
            if data.ndim != 4:
                raise InputError(
                    f"{path}: field 'data' has shape {data.shape}; expected rank 4: (N, C, H, W)"
                )
            if data.size == 0:
                raise InputError(f"{path}: field 'data' is empty; at least one image is needed")
            if data.size * data.dtype.itemsize > MAX_BYTES:
                raise InputError(f"{path}: field 'data' claims {data.size} values; the limit is 16 GiB")
            fields = {"label": _labels(file, path, "label", data.shape[0])}
            if link_kind(file, "true_label") is not None:
                fields["true_label"] = _labels(file, path, "true_label", data.shape[0])
            if (wrong := link_out(file)) is not None:
                raise InputError(f"{path}: {wrong}")
            pixels = data[()]
        except InputError:
            raise
        except (
            OSError,
            RuntimeError,
            LookupError,
            ValueError,
            TypeError,
            AttributeError,
            OverflowError,
            NotImplementedError,
        ):
            raise InputError(f"{path}: damaged HDF5 file, a field cannot be read") from None
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise InputError(f"{path}: field 'data' holds NaN or infinite pixels; expected finite numbers")
    return {"data": pixels, **fields}


def _dataset(file: h5py.File, path: Path, field: str) -> h5py.Dataset:
    kind = link_kind(file, field)
    if kind is None:
        found = ", ".join(repr(k) for k in list(file)[:8]) or "nothing"
        raise InputError(f"{path}: no field '{field}' (found {found}); expected 'data' and 'label'")
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


def _labels(file: h5py.File, path: Path, field: str, rows: int) -> np.ndarray:
    dataset = _dataset(file, path, field)
    if dataset.shape not in ((rows,), (rows, 1)):
        raise InputError(
            f"{path}: field '{field}' has shape {dataset.shape}; expected ({rows},), one for each image"
        )
    values = dataset[()].reshape(rows)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values % 1 == 0).all()):
        raise InputError(f"{path}: field '{field}' must hold whole numbers (class indices)")
    labels = values.astype(np.int64)
    if (labels < 0).any():
        raise InputError(f"{path}: field '{field}' holds negative labels; classes count from 0")
    return labels
