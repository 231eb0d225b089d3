"""Arrays out of ``.npy`` files: damaged ones end in one line, and nothing is believed."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest

from prune_core.errors import InputError
from prune_core.files.npy import read_npy


def made(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "u1", "<f2"])
def test_values_are_those_that_were_saved(tmp_path: Path, dtype: str, order: str) -> None:
    values = np.asarray(np.arange(24).reshape(2, 3, 4), dtype, order=order)  # type: ignore[call-overload]
    path = tmp_path / "a.npy"
    path.write_bytes(made(values))
    np.testing.assert_array_equal(read_npy(path), values.astype(np.float32))


def test_a_shape_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    whole = made(np.ones((2, 3)))
    for shape in ("(2, 9)", "(9999999999, 9)"):
        said = b"(2, 3), }" + b" " * (len(shape) - 6)
        assert said in whole
        path.write_bytes(whole.replace(said, f"{shape}, }}".encode()))
        with pytest.raises(InputError, match="a.npy"):
            read_npy(path)


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    dice = random.Random(0)
    whole = [made(np.ones((2, 3), np.float32)), made(np.arange(5)), made(np.array([{}], object))]
    path = tmp_path / "a.npy"
    refused = 0
    for _ in range(800):
        data = bytearray(dice.choice(whole))
        for _ in range(dice.randint(1, 6)):
            place = dice.randrange(len(data))
            if dice.random() < 0.7:
                data[place] = dice.randrange(256)
            else:
                del data[place : place + dice.randint(1, 9)]
            if not data:
                break
        path.write_bytes(data)
        try:
            assert read_npy(path).dtype == np.float32
        except InputError as error:
            assert "a.npy" in str(error) and "\n" not in str(error)
            refused += 1
    assert 100 < refused < 800
