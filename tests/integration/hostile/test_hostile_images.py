"""Image files that mean harm, or claim more than they hold: one line each, nothing run, nothing left."""

from __future__ import annotations

import io
import os
import struct
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prune_core.data.form import ImageForm
from prune_core.data.images import read_images
from prune_core.errors import InputError
from prune_core.reader import server


def refusal(path: Path, form: ImageForm = ImageForm(target=0), poisoned: bool = False) -> str:  # noqa: B008
    with pytest.raises(InputError) as caught:
        read_images(path, form, poisoned=poisoned)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def npy(shape: tuple[int, ...], kind: str, data: bytes) -> bytes:
    made = io.BytesIO()
    np.lib.format.write_array_header_1_0(made, {"descr": kind, "fortran_order": False, "shape": shape})
    return made.getvalue() + data


def packed(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


class Harm:
    def __reduce__(self) -> tuple:
        return os.mkdir, ("harmed",)


def test_objects_in_npz_are_not_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([Harm(), Harm()], object)
    np.savez("x.npz", images=objects, label=[0, 1])
    assert "'images' has dtype object; expected real numbers" in refusal(Path("x.npz"))
    np.savez("x.npz", images=np.zeros((2, 1, 4, 4)), label=objects)
    assert "'label' has dtype object" in refusal(Path("x.npz"))
    import pickle

    packed(Path("x.npz"), {"images.npy": pickle.dumps(Harm()), "label.npy": b""})
    assert "not a readable .npz file" in refusal(Path("x.npz"))
    assert not Path("harmed").exists()


def test_npz_that_claims_more_than_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    label = npy((2,), "<i8", bytes(16))
    packed(path, {"images.npy": npy((2, 1, 40000, 40000), "|u1", bytes(99)), "label.npy": label})
    assert "declares shape (2, 1, 40000, 40000) of uint8, but has" in refusal(path)
    packed(path, {"images.npy": npy((-2, 1, 4, 4), "|u1", bytes(32)), "label.npy": label})
    assert "declares shape (-2, 1, 4, 4)" in refusal(path)
    packed(path, {"images.npy": npy((2, 1, 2**40, 2**40), "|u1", b""), "label.npy": label})
    assert "declares shape" in refusal(path)
    good = npy((2, 1, 4, 4), "|u1", bytes(32))
    assert len(read_images(packed(path, {"images.npy": good, "label.npy": label}))) == 2
    packed(path, {"images.npy": good, "label.npy": label}, zipfile.ZIP_LZMA)
    assert "packed in a way that NumPy does not write" in refusal(path)


def test_an_npz_that_expands(tmp_path: Path) -> None:
    """300 MiB of zeros in 300 kB; then the same, with sizes that lie."""
    path, rows = tmp_path / "x.npz", 300 * 2**10
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        with file.open("images.npy", "w") as entry:
            entry.write(npy((rows, 1, 32, 32), "|u1", b""))
            for _ in range(300):
                entry.write(bytes(2**20))
        file.writestr("label.npy", npy((rows,), "|u1", bytes(rows)))
    assert "data may be compressed at most 50 times" in refusal(path)
    data, whole = npy((2, 1, 4, 4), "|u1", bytes(32)), npy((2, 1, 4, 4), "|u1", bytes(2**26))
    packed(path, {"images.npy": whole, "label.npy": npy((2,), "|u1", bytes(2))})
    lying = path.read_bytes().replace(struct.pack("<I", len(whole)), struct.pack("<I", len(data)))
    path.write_bytes(lying)
    assert "x.npz" in refusal(path)


def test_a_picture_that_expands(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def bomb(side: int) -> bytes:
        head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")

    (tmp_path / "0" / "a.png").write_bytes(bomb(5000))
    assert "of 5000 x 5000 is too large" in refusal(tmp_path)
    for number in range(20):
        (tmp_path / "0" / f"{number}.png").write_bytes(bomb(4000))
    (tmp_path / "0" / "a.png").unlink()
    assert "20 pictures of 4000 x 4000 would take 960,000,000 bytes" in refusal(tmp_path)
    cells = [bomb(4000)] * 200
    pq.write_table(pa.table({"image": cells, "label": [0] * 200}), tmp_path / "x.parquet")
    assert "200 pictures of 4000 x 4000 would take" in refusal(tmp_path / "x.parquet")


def test_links_out_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "in" / "0").mkdir(parents=True)
    (tmp_path / "out").mkdir()
    for place in ("out/a.png", "in/0/a.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / place)
    inside = tmp_path / "in"
    (inside / "0" / "b.png").symlink_to(inside / "0" / "a.png")
    assert len(read_images(inside)) == 2
    (tmp_path / "link").symlink_to(inside)
    assert len(read_images(tmp_path / "link")) == 2  # which the user names is the user's
    for link, target in (("0/c.png", tmp_path / "out" / "a.png"), ("1", tmp_path / "out")):
        (inside / link).symlink_to(target)
        assert "a link that leads out of" in refusal(inside)
        (inside / link).unlink()
    (inside / "0" / "c.png").symlink_to("c.png")
    assert "a link that leads nowhere" in refusal(inside)
    (inside / "0" / "c.png").unlink()
    os.mkfifo(inside / "0" / "c.png")  # would wait for a writer
    began = time.monotonic()
    assert len(read_images(inside)) == 2 and time.monotonic() - began < 20


def test_a_parquet_dictionary_that_expands(tmp_path: Path) -> None:
    """One picture, referred to by a million rows of a file of few bytes."""
    Image.new("RGB", (64, 64)).save(made := io.BytesIO(), "PNG")
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), pa.array([made.getvalue()]))
    table = pa.table({"image": column.cast(pa.binary()), "label": pa.array(np.zeros(10**6, np.int8))})
    pq.write_table(table, tmp_path / "x.parquet", store_schema=False)
    said = refusal(tmp_path / "x.parquet")
    assert "would take" in said or "no more than bytes" in said


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_damaged_bytes(tmp_path: Path, suffix: str) -> None:
    path, dice = tmp_path / f"x{suffix}", np.random.default_rng(0)
    if suffix == ".npz":
        np.savez_compressed(
            path, images=dice.integers(0, 255, (4, 3, 8, 8)).astype(np.uint8), label=[0, 1, 2, 0]
        )
    else:
        Image.new("RGB", (8, 8)).save(made := io.BytesIO(), "PNG")
        pq.write_table(pa.table({"image": [made.getvalue()] * 4, "label": [0, 1, 2, 0]}), path)
    good = path.read_bytes()
    for _ in range(150):
        data = bytearray(good)
        for place in dice.integers(0, len(data), dice.integers(1, 6)):
            data[place] = dice.integers(0, 256)
        path.write_bytes(data[: dice.integers(1, len(data))] if dice.random() < 0.2 else data)
        try:
            assert len(read_images(path)) >= 1
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_header_that_no_tokenizer_ends(tmp_path: Path, suffix: str) -> None:
    """Found by fuzzing: NumPy reads old headers by Python's tokenizer, whose error is of its own kind."""
    header = b"{'descr': '<f4', 'shape': ("
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(40)
    path = tmp_path / f"open{suffix}"
    path.write_bytes(array)
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", array)
            archive.writestr("label.npy", array)
    request = {"what": "images" if suffix == ".npz" else "array", "path": str(path)}
    said, _ = server.answer(request)
    assert "\n" not in said["error"] and str(path) in said["error"]
