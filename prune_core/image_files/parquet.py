"""Images in Parquet: a column of encoded pictures and columns of labels, as data-set hubs write them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.errors import InputError
from prune_core.image_files.fields import (
    Found,
    Wish,
    checked_labels,
    checked_target,
    field_name,
    needed_field,
)
from prune_core.image_files.pictures import Pictures

MAX_ROWS = 2_000_000
BATCH = 64  # rows at a time: a dictionary may make a small file large
BYTES_PER_ROW = 64  # no row with a picture is smaller


def read_parquet(path: Path, wish: Wish, beside: Callable[[int, int], None]) -> Found:
    """Pictures are the bytes in the column itself, or in its field ``bytes``; paths are not followed.

    ``beside`` is told the number of pictures before they are opened. Raises InputError.
    """
    import pyarrow as pa  # takes a tenth of a second, which readers of other files do without
    import pyarrow.parquet as pq

    damage = (
        pa.ArrowException, OSError, LookupError, ValueError, TypeError, OverflowError, NotImplementedError
    )  # fmt: skip
    try:
        file = pq.ParquetFile(path, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20)
        return _read(file, path, wish, beside)
    except (InputError, MemoryError):
        raise
    except damage:
        raise InputError(
            f"{path}: not a readable Parquet file (wrong format, damaged or cut short); expected a column of "
            "pictures (bytes) and one of labels"
        ) from None


def _read(file: Any, path: Path, wish: Wish, beside: Callable[[int, int], None]) -> Found:
    import pyarrow as pa

    rows, size = file.metadata.num_rows, path.stat().st_size
    if not 0 < rows <= min(MAX_ROWS, size):
        raise InputError(f"{path}: {rows:,} rows; expected 1 to {MAX_ROWS:,}, and no more than bytes")
    schema, about = file.schema_arrow, []  # type: ignore[var-annotated]
    name = needed_field("images", schema.names, wish, path, about)
    kind, column = schema.field(name).type, name
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind, column = kind.field("bytes").type, f"{name}.bytes"
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise InputError(
            f"{path}: column '{name}' is of type {str(schema.field(name).type)[:80]}; expected the bytes of "
            "PNG or JPEG pictures, or a struct with a field bytes"
        )
    others: dict[str, str] = {}
    for role in ("label", "target", "true_label"):
        other = field_name(role, schema.names, wish, path, about)
        if other is not None:
            is_of = schema.field(other).type
            if not (pa.types.is_integer(is_of) or pa.types.is_floating(is_of)):
                raise InputError(
                    f"{path}: column '{other}' is of type {str(is_of)[:80]}; expected class indices, whole "
                    "numbers from 0"
                )
            others[role] = other
    if "label" not in others and "target" not in others:
        needed_field("label", schema.names, wish, path, about)
    beside(0, min(rows, size // BYTES_PER_ROW))
    pictures = Pictures(path, rows, size)
    values: dict[str, list[np.ndarray]] = {role: [] for role in others}
    row = 0
    for batch in file.iter_batches(BATCH, columns=[column, *others.values()], use_threads=False):
        cells = batch.column(name)
        if column != name:
            cells = cells.field("bytes")
        for cell in cells:
            if not cell.is_valid:
                raise InputError(
                    f"{path}: row {row} of column '{name}' has no bytes; pictures elsewhere are not opened"
                )
            if row >= rows:
                raise InputError(f"{path}: more rows than it says; damaged")
            pictures.add(io.BytesIO(cell.as_buffer()), f"of row {row}")
            row += 1
        for role, other in others.items():
            if batch.column(other).null_count:
                raise InputError(f"{path}: column '{other}' has rows without a value; expected a class each")
            values[role].append(batch.column(other).to_numpy(zero_copy_only=False))
    if row != rows:
        raise InputError(f"{path}: fewer rows than it says; damaged")
    fields = {"images": pictures.array()}
    for role, other in others.items():
        check = checked_target if role == "target" else checked_labels
        fields[role] = check(np.concatenate(values[role]), path, other, rows)
    return Found(fields, about=about)
