"""Text and tables from outside, read within bounds."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.parquet as pq

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  # of a sweep or trial: a part of paths
MAX_ROWS = 2_000_000
MAX_TABLE = 2**29  # bytes, unpacked

# What reading our own tables and JSON can raise when they are damaged.
DAMAGE = (
    pa.ArrowException,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
    MemoryError,
    UnicodeError,
)


def read_table(data: bytes, schema: pa.Schema | None = None, rows: int = MAX_ROWS) -> pa.Table:
    """A Parquet file that says of itself that it fits our bounds. Raises any of ``DAMAGE``."""
    file = pq.ParquetFile(pa.BufferReader(data))
    about = file.metadata
    size = sum(about.row_group(i).total_byte_size for i in range(min(about.num_row_groups, 10_000)))
    if not 0 <= about.num_rows <= rows or not 0 <= size <= MAX_TABLE or about.num_columns > 1000:
        raise ValueError("larger than any table of ours")
    if schema is None:  # tables of ours are small: handing them to threads takes longer than reading them
        return file.read(use_threads=False)
    # By hand: read_table with a schema imports pandas, where it is installed, which takes the longest of all.
    there = [name for name in schema.names if name in file.schema_arrow.names]
    table = file.read(columns=there, use_threads=False)
    columns = [
        table[field.name].cast(field.type) if field.name in there else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
