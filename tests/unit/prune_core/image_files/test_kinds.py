"""Images as people have them: .npz, folders of pictures, Parquet, HDF5 with other names; and lists."""

from __future__ import annotations

import io
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from prune_core.data.form import ImageForm
from prune_core.data.images import Split, read_images, read_split
from prune_core.errors import InputError

RNG = np.random.default_rng(0)
NHWC = RNG.integers(0, 256, (6, 5, 4, 3)).astype(np.uint8)
NCHW = NHWC.transpose(0, 3, 1, 2)
LABELS = np.array([0, 1, 2, 0, 1, 2])
STAMPED = NHWC.copy()
STAMPED[:, 3:, 2:] = 255


def npz(path: Path, **fields: object) -> Path:
    np.savez(path, **fields)  # type: ignore[arg-type]
    return path


def folder(path: Path, names: tuple[str, ...] = ("0", "1", "2"), pixels: np.ndarray = NHWC) -> Path:
    for number, (image, label) in enumerate(zip(pixels, LABELS, strict=True)):
        (path / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / names[label] / f"{number}.png")
    return path


def png(image: np.ndarray, kind: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.fromarray(image).save(made, kind)
    return made.getvalue()


def by_label(pixels: np.ndarray) -> np.ndarray:
    """As folders order them."""
    return pixels[np.argsort(LABELS, kind="stable")]


def test_npz_by_its_usual_names_and_layout(tmp_path: Path) -> None:
    for fields in (
        {"images": NHWC, "label": LABELS},
        {"data": NCHW, "labels": LABELS.astype(float)},
        {"x": NHWC, "y": LABELS[:, None]},
        {"X": np.asfortranarray(NHWC), "Y": LABELS.astype(">i4")},
    ):
        found = read_images(npz(tmp_path / "x.npz", **fields))
        assert (found.pixels == NCHW).all() and found.labels.tolist() == LABELS.tolist()
        assert found.pixels.dtype == np.uint8
    assert "are NHWC" in found.about
    np.savez_compressed(tmp_path / "x.npz", images=NHWC / np.float32(255), label=LABELS)
    assert np.array_equal(read_images(tmp_path / "x.npz").pixels, NCHW / np.float32(255))


def test_fields_by_other_names(tmp_path: Path) -> None:
    form = ImageForm(keys={"images": "pictures", "label": "what"})
    one = read_images(npz(tmp_path / "x.npz", pictures=NHWC, what=LABELS, label=LABELS + 1), form)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["pictures"], file["what"], file["label"] = NCHW, LABELS, LABELS + 1
    other = read_images(tmp_path / "x.h5", form)
    assert one.digest == other.digest and other.labels.tolist() == LABELS.tolist()
    with pytest.raises(InputError, match=r"x.npz: no field 'data' \(found 'pictures', 'what', 'label'\)"):
        read_images(tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"no field 'nothing' \(data.keys.label\)"):
        read_images(tmp_path / "x.h5", ImageForm(keys={"images": "pictures", "label": "nothing"}))
    both = read_images(npz(tmp_path / "x.npz", data=NHWC, x=NCHW, label=LABELS))
    assert "images is field 'data', 'x' left aside" in both.about


def test_a_layout_is_asked_for_where_it_cannot_be_told(tmp_path: Path) -> None:
    square = np.zeros((2, 3, 3, 3), np.uint8)
    square[:, 0] = 9
    path = npz(tmp_path / "x.npz", images=square, label=[0, 1])
    with pytest.raises(InputError, match=r"whose axis of channels cannot be told; say data.layout"):
        read_images(path)
    assert (read_images(path, ImageForm("NCHW")).pixels == square).all()
    assert (read_images(path, ImageForm("NHWC")).pixels == square.transpose(0, 3, 1, 2)).all()
    grey = read_images(npz(tmp_path / "x.npz", images=square[:, 0], label=[0, 1]))
    assert grey.shape == (1, 3, 3) and "are grey" in grey.about
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["data"], file["label"] = NHWC, LABELS
    assert read_images(tmp_path / "x.h5").shape == (5, 4, 3)  # as it has been
    assert (read_images(tmp_path / "x.h5", ImageForm("NHWC")).pixels == NCHW).all()


def test_poisoned_npz_with_target_and_true_labels(tmp_path: Path) -> None:
    clean = npz(tmp_path / "c.npz", images=NHWC, label=LABELS)
    for target in (1, np.array([1]), np.full(6, 1)):
        split = read_split(clean, npz(tmp_path / "p.npz", images=STAMPED, label=LABELS, target=target))
        assert split.target == 1 and len(split.poisoned) == 4  # those that show it truly are left out
        assert split.poisoned.true_labels is not None and split.poisoned.true_labels.tolist() == [0, 2, 0, 2]
    path = npz(tmp_path / "p.npz", images=STAMPED, label=LABELS)
    assert Split.from_files(clean, path, target=1).digest == split.digest
    path = npz(tmp_path / "p.npz", images=STAMPED, label=np.full(6, 1), true_label=LABELS)
    assert read_split(clean, path).digest == split.digest  # as in the lab's files
    path = npz(tmp_path / "p.npz", images=STAMPED, label=np.full(6, 1))
    assert read_split(clean, path, ImageForm(target=1)).poisoned.true_labels is None
    with pytest.raises(InputError, match="data.target is 2"):
        read_split(clean, path, ImageForm(target=2))
    path = npz(tmp_path / "p.npz", images=STAMPED, target=1)
    assert read_split(clean, path).target == 1
    with pytest.raises(InputError, match="is 1, but data.target is 2"):
        read_split(clean, path, ImageForm(target=2))
    with pytest.raises(InputError, match="p.npz: no labels"):
        read_images(path)


def test_a_folder_a_class(tmp_path: Path) -> None:
    found = read_images(folder(tmp_path / "n"))
    assert (found.pixels == by_label(NCHW)).all() and found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.classes == () and "numbers that name the folders" in found.about
    assert read_images(folder(tmp_path / "m", ("10", "2", "007"))).labels.tolist() == [7, 7, 10, 10, 2, 2]
    named = read_images(folder(tmp_path / "s", ("cat", "ant", "bee")))
    assert named.classes == ("ant", "bee", "cat") and "0 = ant, 1 = bee, 2 = cat" in named.about
    form = ImageForm(classes=("bee", "cat", "dog", "ant"))
    assert read_images(tmp_path / "s", form).labels.tolist() == [3, 3, 0, 0, 1, 1]
    with pytest.raises(InputError, match="'cat' is no class"):
        read_images(tmp_path / "s", ImageForm(classes=("ant", "bee")))


def test_poisoned_folders_have_the_classes_of_the_clean_ones(tmp_path: Path) -> None:
    clean = folder(tmp_path / "clean", ("ant", "bee", "cat"))
    poisoned = folder(tmp_path / "poisoned", ("bee", "bee", "cat"))
    with pytest.raises(
        InputError, match="poisoned: holds pictures and no class that the attacker wants; give data.target"
    ):
        read_split(clean, poisoned)
    split = Split.from_files(clean, poisoned, target=0)
    assert split.target == 0 and split.poisoned.true_labels is not None
    assert split.poisoned.true_labels.tolist() == [1, 1, 1, 1, 2, 2]
    flat = Split.from_files(clean, poisoned / "bee", target=0).poisoned
    assert len(flat) == 4 and flat.true_labels is None and "not known" in flat.about
    with pytest.raises(InputError, match="no class folders in it; expected a folder for each class"):
        read_images(poisoned / "bee")


def test_pictures_of_any_usual_kind(tmp_path: Path) -> None:
    place = folder(tmp_path / "f", pixels=np.repeat(NHWC[..., :1], 3, axis=3))
    assert read_images(place).shape == (3, 5, 4)
    for path in place.rglob("*.png"):
        with Image.open(path) as picture:
            grey = picture.convert("L")
        grey.save(path)
    assert read_images(place).shape == (1, 5, 4)
    (place / "0" / "notes.txt").write_text("no picture")
    (place / "0" / ".hidden.png").write_text("no picture")
    Image.new("P", (4, 5), 0).save(place / "0" / "p.bmp")
    Image.new("CMYK", (4, 5)).save(place / "0" / "c.jpg")
    found = read_images(place)
    assert found.shape == (3, 5, 4) and len(found) == 8 and "1 entries that are no pictures" in found.about
    Image.new("RGBA", (4, 5), (1, 2, 3, 255)).save(place / "0" / "r.png")
    assert len(read_images(place)) == 9
    for made, words in (
        (Image.new("RGBA", (4, 5), (1, 2, 3, 99)), "z.png is transparent in parts"),
        (Image.new("RGB", (5, 5)), r"z.png is 5 x 5, 0.0.png is 4 x 5 \(width x height\)"),
        (Image.new("I;16", (4, 5)), "expected 8 bits a channel"),
    ):
        made.save(place / "0" / "z.png")
        with pytest.raises(InputError, match=words):
            read_images(place)
    (place / "0" / "z.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="0/z.png is not a readable picture"):
        read_images(place)


@pytest.mark.parametrize("nested", [True, False])
def test_parquet(tmp_path: Path, nested: bool) -> None:
    pictures = [png(image) for image in NHWC]
    cells = [{"bytes": p, "path": "/etc/passwd"} for p in pictures] if nested else pictures
    pq.write_table(pa.table({"img" if nested else "image": cells, "label": LABELS}), tmp_path / "x.parquet")
    found = read_images(tmp_path / "x.parquet")
    assert (found.pixels == NCHW).all() and found.labels.tolist() == LABELS.tolist()
    table = pa.table({"image": cells, "label": LABELS, "target": np.full(6, 2)})
    pq.write_table(table, tmp_path / "p.parquet")
    split = read_split(tmp_path / "x.parquet", tmp_path / "p.parquet")
    assert split.target == 2 and len(split.poisoned) == 4


def test_parquet_that_does_not_fit(tmp_path: Path) -> None:
    path, pictures = tmp_path / "x.parquet", [png(image) for image in NHWC]
    for columns, words in (
        (
            {"image": [{"bytes": None, "path": "a.png"}, *[{"bytes": b"x"}] * 5], "label": LABELS},
            "row 0 of column 'image' has no bytes",
        ),
        ({"image": ["a.png"] * 6, "label": LABELS}, "column 'image' is of type string; expected the bytes"),
        ({"image": pictures, "label": ["a"] * 6}, "column 'label' is of type string; expected class indices"),
        ({"image": pictures, "label": [None, *LABELS[1:].tolist()]}, "'label' has rows without a value"),
        ({"image": [b"x"] * 6, "label": LABELS}, "of row 0 is not a readable picture"),
        ({"image": pictures}, "no field 'label'"),
    ):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(InputError, match=words):
            read_images(path)
    path.write_bytes(b"PAR1 no PAR1")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_images(path)


def test_files_of_a_list_are_joined(tmp_path: Path) -> None:
    one = npz(tmp_path / "a.npz", images=NHWC[:2], label=LABELS[:2])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["data"], file["label"] = NCHW[2:], LABELS[2:]
    both = read_images([one, tmp_path / "b.h5"])
    assert (both.pixels == NCHW).all() and both.labels.tolist() == LABELS.tolist()
    assert both.name == "a.npz + b.h5"
    other = npz(tmp_path / "c.npz", images=NHWC[:, :2], label=LABELS)
    with pytest.raises(InputError, match=r"c.npz: images of \(C, H, W\) = \(3, 2, 4\), those of a.npz"):
        read_images([one, other])
    real = npz(tmp_path / "c.npz", images=NHWC / 255, label=LABELS)
    with pytest.raises(InputError, match="c.npz: images of dtype float64, those of a.npz of dtype uint8"):
        read_images([one, real])
    with pytest.raises(InputError, match="an empty list of image files"):
        read_images([])


def test_an_array_alone_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", NHWC)
    with pytest.raises(InputError, match=r"images\.npy: one array, and no labels with it; expected both, as"):
        read_images(tmp_path / "images.npy")
