"""Any file or folder of images -> checked arrays. Runs in the reader process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prune_core.errors import InputError
from prune_core.image_files.fields import Found, Wish
from prune_core.image_files.folder import read_folder
from prune_core.image_files.hdf5 import read_hdf5
from prune_core.image_files.npz import read_npz
from prune_core.image_files.parquet import read_parquet


def read_fields(path: Path, wish: Wish, beside: Callable[[int, int], None]) -> Found:
    """By what the path is: a folder, ``.npz``, ``.parquet``, and HDF5 whatever else its name is.

    ``beside`` is told of bytes in other files, and of pictures, before they are read. Raises InputError.
    """
    if path.is_dir():
        return read_folder(path, wish, beside)
    if path.suffix.lower() == ".npz":
        return read_npz(path, wish)
    if path.suffix.lower() == ".parquet":
        return read_parquet(path, wish, beside)
    if path.suffix.lower() == ".npy":
        raise InputError(
            f"{path}: one array, and no labels with it; expected both, as "
            "numpy.savez('images.npz', images=..., label=...) writes them"
        )
    return read_hdf5(path, wish)
