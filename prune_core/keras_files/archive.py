"""The `.keras` file of Keras 3: a zip archive with `config.json`, `metadata.json` and `model.weights.h5`.

Read in memory, by these three names alone: nothing is unpacked to disk, and a Lambda or a class of its own
is refused by name in `network`, never made.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from prune_core.errors import InputError
from prune_core.files.hdf5 import FREE_BYTES, MOST_PACKED, link_out
from prune_core.keras_files.container import MAX_CONFIG, KerasFile, damage_named, one_line, parsed_config

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
MAX_ENTRIES = 1000
MAX_BYTES = 4 * 2**30
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@contextmanager
def open_archive(path: Path) -> Iterator[KerasFile]:
    """Open a `.keras` file.

    :raises InputError: the file is missing, damaged, or no such archive; it would become too large.
    """
    entries = read_entries(path)
    config = parsed_config(path, entries[CONFIG], CONFIG)
    with damage_named(path):
        handle = h5py.File(io.BytesIO(entries[WEIGHTS]), "r")
    with handle:
        with damage_named(path):
            if (wrong := link_out(handle)) is not None:  # a pruned copy would have it too
                raise InputError(f"{path}: {wrong}")
        yield KerasFile(
            path, config, [], handle, archive=True, keras_version=_version(path, entries[METADATA])
        )


def read_entries(path: Path) -> dict[str, bytes]:
    """The bytes of the three entries that count. Raises InputError."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            _check(path, infos)
            return {
                info.filename: archive.read(info)
                for info in infos
                if info.filename in (CONFIG, METADATA, WEIGHTS)
            }
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError,
        LookupError, OverflowError,
    ) as error:  # fmt: skip
        raise InputError(
            f"{path}: cannot be read as a .keras file of Keras 3, a zip archive; it may be damaged or of "
            f"another kind ({type(error).__name__}: {one_line(error)})"
        ) from None


def written_archive(path: Path, weights: bytes) -> bytes:
    """The bytes of a copy of a `.keras` file with other weights. Of other entries it keeps none."""
    entries = {**read_entries(path), WEIGHTS: weights}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in (METADATA, CONFIG, WEIGHTS):
            archive.writestr(zipfile.ZipInfo(name), entries[name])
    return stream.getvalue()


def _check(path: Path, infos: list[zipfile.ZipInfo]) -> None:
    """Before anything is read: which entries there are, and how large each says that it is. Python reads no
    more of an entry than it says."""
    if len(infos) > MAX_ENTRIES:
        raise InputError(f"{path}: {len(infos)} entries; a .keras file has three")
    packed = path.stat().st_size
    for info in infos:
        name = info.filename
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise InputError(f"{path}: its entry {name[:80]!r} leads out of the archive; refused")
        size = info.file_size
        if size > MAX_BYTES or (size > FREE_BYTES and size > MOST_PACKED * packed):
            raise InputError(
                f"{path}: its entry {name[:80]!r} claims {size:,} bytes in a file of {packed:,}; data may be "
                f"compressed at most {MOST_PACKED} times"
            )
        if name == CONFIG and size > MAX_CONFIG:
            raise InputError(f"{path}: {CONFIG} has {size:,} bytes; too many")
        if name == METADATA and size > MAX_CONFIG:
            raise InputError(f"{path}: {METADATA} has {size:,} bytes; too many")
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            raise InputError(
                f"{path}: its entry {name[:80]!r} is encrypted, or packed in an unusual way; refused"
            )
    names = [info.filename for info in infos]
    for name in (CONFIG, METADATA, WEIGHTS):
        if names.count(name) == 1:
            continue
        if name == WEIGHTS and "model.weights.json" in names:
            raise InputError(f"{path}: its weights are cut into several files; save it with model.save(path)")
        raise InputError(
            f"{path}: holds {names.count(name)} entries {name}; a .keras file of Keras 3 has one"
        )


def _version(path: Path, data: bytes) -> str:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {METADATA} is not readable JSON ({one_line(error)})") from None
    version: Any = said.get("keras_version") if isinstance(said, Mapping) else None
    return version if isinstance(version, str) else ""
