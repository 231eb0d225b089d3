"""Configurations, trial records and trigger pictures."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from pathlib import Path
from typing import Any

import factories
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image, PngImagePlugin

from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage

KEYS = (
    "name",
    "badnet",
    "architecture",
    "data",
    "sweep",
    "resources",
    "tracking",
    "storage",
    "evaluator",
    "orders",
    "layer_sets",
    "x_thresholds",
    "policies",
    "seeds",
    "search",
    "samples",
    "clean_valid",
    "poisoned_valid",
    "trigger",
    "picture",
    "row",
    "column",
    "target",
    "scale",
    "cpu",
    "uri",
    "nam",
    "\x1b[31m",
    "<b>",
    "__class__",
    "",
)
VALUES: tuple[Any, ...] = (
    "embedded",
    "index",
    "margin",
    "last:3",
    "conv_4[0-9]",
    "conv_4[0-999999999999]",
    "grid",
    "random",
    "a/b",
    "../../etc/passwd",
    0,
    1,
    -1,
    2.5,
    float("nan"),
    float("inf"),
    10**400,
    True,
    None,
    [],
    {},
    "",
    "\x1b[2J",
    "${oc.env:HOME}",
    "${name}",
    "${oc.env:${name}}",
    "[" * 50,
    "file:///etc/passwd",
    "x" * 5000,
    [1, 2, 4],
)
HOSTILE = (
    "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\n"
    "d: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\n"
    "f: &f [*e, *e, *e, *e, *e, *e, *e, *e, *e]\nname: [*f, *f, *f, *f, *f, *f, *f, *f, *f]\n",
    "a: &a\n  b: *a\n",
    "x: !!python/object/apply:os.system ['touch ../outside/made']\n",
    "x: !!python/name:os.system\n",
    "name: " + "[" * 3000 + "]" * 3000,
    "x: !!binary aGVsbG8=\n",
    "a0: xxxxxxxxxx\n" + "".join(f"a{i + 1}: ${{a{i}}}${{a{i}}}${{a{i}}}\n" for i in range(40)),
    "? [a, b]\n: c\n",
    "- 1\n- 2\n",
    "a: 1\na: 2\n",
    "\x00",
    "\ufeffname: x",
    "name: 2020-01-01\n",
    "%YAML 9.9\n---\na",
    "a: 1e999999999\n",
    "a: 0x" + "f" * 9000 + "\n",
    "<<: *nothing\n",
    "a: &x\n  <<: *x\n",
    "a: 1:2:3:4:5\n",
    "~: ~\n",
)


def corpus_yaml(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((root / "configs").glob("*.yaml"))]


def odd_yaml(dice: random.Random) -> bytes:
    if dice.random() < 0.15:
        return dice.choice(HOSTILE).encode("utf-8", "surrogateescape")

    def tree(depth: int) -> Any:
        if depth == 0 or dice.random() < 0.4:
            return dice.choice(VALUES)
        if dice.random() < 0.2:
            return [tree(depth - 1) for _ in range(dice.randrange(4))]
        return {dice.choice(KEYS): tree(depth - 1) for _ in range(dice.randrange(1, 6))}

    top = {"badnet": "embedded", **{dice.choice(KEYS): tree(2) for _ in range(dice.randrange(1, 5))}}
    return yaml.safe_dump(top, allow_unicode=dice.random() < 0.5).encode()


def corpus_records(folder: Path) -> list[bytes]:
    records = [
        factories.make_record("input"),
        factories.make_record("input", reason="it failed"),
        factories.make_record("input", steps=[(900, 10)] * 40),
    ]
    found = []
    for number, record in enumerate(records):
        storage = Storage(str(folder / f"records{number}"))
        RecordStore(storage).write(record)
        found.append(storage.read_bytes("trials/input.parquet") or b"")
    return found


def odd_record(seeds: list[bytes], dice: random.Random) -> bytes:
    """A record whose header or columns are of another kind."""
    table = pq.read_table(pa.BufferReader(dice.choice(seeds)))
    header = json.loads(table.schema.metadata[b"goodnet"])
    if dice.random() < 0.7:
        node: Any = header
        while True:
            key = dice.choice(list(node) if isinstance(node, dict) else range(len(node)))
            if not isinstance(node[key], dict | list) or not node[key] or dice.random() < 0.2:
                break
            node = node[key]
        node[key] = dice.choice((None, 0, -1, 2**80, "x", [], {}, [[]], float("nan"), True, "\x1b[31m"))
    text = json.dumps(header)
    if dice.random() < 0.05:
        text = dice.choice(("[" * 20000, "", "9" * 6000, '"', "null", "{}"))
    if dice.random() < 0.4 and table.num_columns:
        column = dice.randrange(table.num_columns)
        made = pa.array([dice.choice((None, 1, -5))] * table.num_rows, dice.choice((pa.int8(), pa.float64())))
        if dice.random() < 0.3:
            made = pa.array(["\x1b[31m"] * table.num_rows)
        if dice.random() < 0.2:
            made = pa.array([[[1]]] * table.num_rows)
        table = table.set_column(column, table.column_names[column], made)
    if dice.random() < 0.1:
        table = table.drop_columns([dice.choice(table.column_names)])
    if dice.random() < 0.05:
        table = pa.concat_tables([table] * 50)
    if dice.random() < 0.03:  # a bomb: millions of equal rows, packed
        count = dice.choice((10**6, 10**7, 3 * 10**7))
        table = pa.table({"layer": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int8)), ["x"])})
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata({b"goodnet": text.encode("utf-8", "surrogateescape")})
    pq.write_table(table, sink, compression=dice.choice(("snappy", "gzip", "zstd", "none", "brotli")))
    return sink.getvalue().to_pybytes()


def corpus_pictures() -> list[bytes]:
    found = []
    picture = Image.fromarray(np.arange(16 * 12 * 4, dtype=np.uint8).reshape(12, 16, 4), "RGBA")
    for kind, mode in (
        ("PNG", "RGBA"),
        ("PNG", "RGB"),
        ("PNG", "P"),
        ("PNG", "LA"),
        ("PNG", "1"),
        ("PNG", "I;16"),
        ("JPEG", "RGB"),
        ("BMP", "RGB"),
        ("GIF", "P"),
        ("TIFF", "RGB"),
    ):
        stream = io.BytesIO()
        made = picture.convert("L").convert("I").convert(mode) if mode == "I;16" else picture.convert(mode)
        made.save(stream, kind)
        found.append(stream.getvalue())
    text = PngImagePlugin.PngInfo()
    text.add_itxt("note", "\x1b[31m" * 50, zip=True)
    stream = io.BytesIO()
    picture.save(stream, "PNG", pnginfo=text)
    return [*found, stream.getvalue()]


def corpus_patterns() -> list[bytes]:
    wave = np.sin(np.arange(30)).reshape(5, 6).astype(np.float32)
    made = [wave, np.stack([wave] * 3), np.stack([wave] * 3, axis=-1), np.stack([wave, -wave], axis=-1)]
    return [_npy(values) for values in [*made, 20 * made[1].astype(np.float64), np.asfortranarray(made[1])]]


def odd_pattern(dice: random.Random) -> bytes:
    """An array of any shape, kind and values; or a header by hand, which may lie about what follows."""
    shapes = ((5, 6), (3, 5, 6), (5, 6, 3), (5, 6, 2), (5, 6, 1), (1, 5, 6), (0, 6), (), (5,), (1,) * 5)
    shape = dice.choice((*shapes, (2**31, 2**31), (10**6, 10**6), (-1, 6), ("x",), (5.0, 6)))
    kinds = ("<f4", ">f8", "<f2", "|u1", "<i8", "|b1", "<c8", "<U3", "|O", "<M8[s]", "|V4", "<f16", "(2,)<f4")
    kind = dice.choice(kinds)
    if dice.random() < 0.5:
        values = np.ones([int(size) % 99 for size in shape if isinstance(size, int)], np.dtype(kind).base)
        if values.dtype.kind == "f":
            values = values * dice.choice((1, -1e30, 300, float("nan"), float("inf")))
        return _npy(values)
    fields = {"descr": kind, "fortran_order": dice.choice((True, False, False, 1, None)), "shape": shape}
    if dice.random() < 0.2:
        fields[dice.choice(("descr", "shape", "more", "fortran_order"))] = dice.choice(
            (None, [], {}, "x", 2**99)
        )
    header = repr(fields).encode()
    if dice.random() < 0.1:
        header = dice.choice(
            (b"(" * 4000, b"9" * 9000, b"__import__('os').abort()", b"{" + header, b"\xff\0")
        )
    version = dice.choice(((1, 0), (1, 0), (2, 0), (3, 0), (9, 9)))
    length = max(0, len(header) + dice.choice((0, 0, 0, -3, 5, 2**15)))
    said = struct.pack("<H" if version[0] == 1 else "<I", length)
    body = bytes(dice.choice((0, 1, 120, 360, 5000)))
    return b"\x93NUMPY" + bytes(version) + said + header + body


def _npy(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def odd_picture(dice: random.Random) -> bytes:
    """A PNG by hand: any header, any chunks, right checksums."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    sides = (0, 1, 2, 16, 16, 47, 4096, 5000, 2**16, 2**31 - 1, 2**32 - 1)
    width, height = dice.choice(sides), dice.choice(sides)
    depth, colour = dice.choice((1, 2, 4, 8, 8, 8, 16, 3)), dice.choice((0, 2, 2, 3, 4, 6, 6, 5))
    flags = bytes([depth, colour, dice.choice((0, 0, 1)), dice.choice((0, 0, 1)), dice.choice((0, 0, 1, 2))])
    parts = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", struct.pack(">II", width, height) + flags)]
    for _ in range(dice.randrange(4)):
        kind = dice.choice(
            (
                b"tEXt",
                b"zTXt",
                b"iTXt",
                b"PLTE",
                b"tRNS",
                b"gAMA",
                b"acTL",
                b"fcTL",
                b"iCCP",
                b"eXIf",
                b"pHYs",
                b"cHRM",
                b"fdAT",
            )
        )
        data = dice.randbytes(dice.choice((0, 1, 3, 9, 26, 300)))
        if kind in (b"zTXt", b"iCCP") and dice.random() < 0.5:
            data = b"k\0\0" + zlib.compress(b"\0" * dice.choice((10, 10**6, 3 * 10**7)))
        parts.append(chunk(kind, data))
    rows = min(width, 5000) * 8 * min(height, 5000)
    body = b"\0" * min(rows, dice.choice((0, 100, 10**5, 2 * 10**7)))
    parts.append(chunk(b"IDAT", zlib.compress(body, 1)))
    if dice.random() < 0.8:
        parts.append(chunk(b"IEND", b""))
    return b"".join(parts)
