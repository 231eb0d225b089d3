"""Images as people have them beside HDF5: ``.npz``, Parquet, folders of pictures."""

from __future__ import annotations

import base64
import io
import json
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from fuzz.make_other import odd_picture
from fuzz.mutate import INTERESTING

FIELDS = ("images", "data", "x", "label", "labels", "y", "target", "true_label", "other", "\x1b[31m", "../x")
FOLDERS = ("0", "1", "cat", "dog", "10", "02", "..", "a/b", ".hidden", "", "\x1b[31m", "x" * 200)


def corpus_npz() -> list[bytes]:
    pixels, labels = np.zeros((4, 5, 6, 3), np.uint8), np.arange(4)
    packed = io.BytesIO()
    np.savez_compressed(packed, images=pixels.astype(np.float32), label=labels.reshape(4, 1))
    return [_npz(images=pixels, label=labels), _npz(x=pixels, y=labels, target=7), packed.getvalue()]


def corpus_parquet() -> list[bytes]:
    pictures = [_png(number) for number in range(4)]
    nested = [{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(pictures)]
    return [
        _parquet({"image": pictures, "label": [0, 1, 2, 0]}),
        _parquet({"image": nested, "label": [0, 1, 2, 0], "true_label": [1, 1, 1, 1]}),
    ]


def corpus_folder() -> list[bytes]:
    return [
        _tree({f"{kind}/{n}.png": _png(n) for kind in ("cat", "dog") for n in range(2)}),
        _tree({f"{kind}/{n}.jpg": _png(n, "JPEG") for kind in (0, 1, 2) for n in range(2)}),
    ]


def odd_npz(dice: random.Random) -> bytes:
    if dice.random() < 0.3:
        return _lying_npz(dice)
    rows = dice.choice((0, 1, 3, 4))
    fields: dict[str, Any] = {}
    for name in dice.sample(FIELDS, dice.randrange(1, 5)):
        shape = dice.choice(((rows, 3, 5, 6), (rows, 5, 6, 3), (rows,), (rows, 1), (), (rows, 5, 6), (0,)))
        kind = dice.choice(("u1", "f4", "f8", "i8", ">i4", "f2", "c8", "?", "U3", "O", "M8[s]"))
        fields[name] = np.ones(shape, kind) if kind not in ("M8[s]", "O") else np.zeros(shape, kind)
        if kind[-2:] in ("f4", "f8") and dice.random() < 0.2:
            fields[name] = fields[name] * dice.choice((float("nan"), float("inf"), -1.5, 1e30))
    out = io.BytesIO()
    (np.savez if dice.random() < 0.5 else np.savez_compressed)(out, **fields)
    return out.getvalue()


def odd_parquet(dice: random.Random) -> bytes:
    rows = dice.choice((0, 1, 3))
    values: tuple[Any, ...] = (
        [_png(n) for n in range(rows)],
        [odd_picture(dice) for _ in range(rows)],
        [{"bytes": _png(n), "path": "../../etc/passwd"} for n in range(rows)],
        [{"bytes": None, "path": "/etc/passwd"} for _ in range(rows)],
        list(range(rows)),
        [-1] * rows,
        [1.5] * rows,
        [None] * rows,
        ["text"] * rows,
        [[1, 2]] * rows,
    )
    names = ("image", "img", "images", "bytes", "label", "labels", "target", "true_label", "\x1b[31m")
    return _parquet({name: dice.choice(values) for name in dice.sample(names, dice.randrange(1, 4))})


def odd_folder(dice: random.Random) -> bytes:
    """``->`` in front of what stands for a link to another place."""
    tree: dict[str, bytes] = {}
    for _ in range(dice.randrange(6)):
        data = _png(dice) if dice.random() < 0.6 else odd_picture(dice)
        if dice.random() < 0.15:
            data = b"->" + dice.choice((b"/etc/passwd", b"..", b".", b"/nowhere", b"../../touched"))
        name = dice.choice(("a.png", "b.jpg", "c.txt", ".d.png", "Thumbs.db", "e.PNG", "\x1b[31m.png", ""))
        tree["/".join(filter(None, (dice.choice(FOLDERS), name)))] = data
    return _tree(tree)


def unpack(data: bytes, folder: Path) -> None:
    """Make the folder that ``_tree`` describes; of damaged bytes one with that file in it. Nothing is
    written outside: parts such as ``..`` are left out."""
    try:
        tree = {str(k): base64.b64decode(v) for k, v in json.loads(data).items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        tree = {"0/a.png": data}
    folder.mkdir()
    for name, content in tree.items():
        parts = [p for p in name.replace("\0", "").split("/") if p not in ("", ".", "..")]
        path = folder.joinpath(*parts) if parts else folder / "a.png"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(folder.resolve()):
                continue  # behind a link made before
            if content.startswith(b"->"):
                path.symlink_to(content[2:].decode())
            elif not path.is_symlink():
                path.write_bytes(content)
        except (OSError, ValueError):  # a name that the file system refuses, or a file in a folder's place
            continue


def _tree(files: dict[str, bytes]) -> bytes:
    return json.dumps({name: base64.b64encode(data).decode() for name, data in files.items()}).encode()


def _npz(**fields: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **fields)
    return out.getvalue()


def _lying_npz(dice: random.Random) -> bytes:
    """Headers of arrays that claim another shape or kind than there are bytes for."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in ("images", "label"):
            shape = tuple(dice.choice((1, 3, 4, 2**31, -1, 10**6)) for _ in range(dice.choice((1, 4))))
            kind = dice.choice(("|u1", "<f4", "|O", "<i8", "|V10", "<U9", "x"))
            head = f"{{'descr': '{kind}', 'fortran_order': {dice.choice((True, False))}, 'shape': {shape}, }}"
            if dice.random() < 0.1:
                head = dice.choice(("__import__('os').mkdir('touched')", "[" * 500, "{'shape': 1}", ""))
            version = dice.choice((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
            size = len(head) if dice.random() < 0.8 else dice.choice(INTERESTING) % 2**16
            length = struct.pack("<H" if version[0] == 1 else "<I", size)
            body = b"\0" * dice.choice((0, 12, 360, 100_000))
            archive.writestr(f"{name}.npy", b"\x93NUMPY" + version + length + head.encode() + body)
    return out.getvalue()


def _parquet(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue().to_pybytes())


def _png(number: int | random.Random, form: str = "PNG") -> bytes:
    grey = number if isinstance(number, int) else number.randrange(256)
    out = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), grey, np.uint8)).save(out, form)
    return out.getvalue()
