"""A folder of pictures, a folder a class."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np

from prune_core.errors import InputError
from prune_core.image_files.fields import Found, Wish, listed
from prune_core.image_files.pictures import Pictures

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp")
MAX_FILES = 200_000
MAX_FILE = 2**28  # bytes of one picture


def read_folder(path: Path, wish: Wish, beside: Callable[[int, int], None]) -> Found:
    """Every picture of every class folder, classes in order and pictures by name.

    The name of a class folder is its index where all names are whole numbers; else names are looked up
    in ``wish.classes``, or sorted. Raises InputError; links that lead out of the folder are refused.
    ``beside`` is told the bytes and the number of pictures before they are opened.
    """
    walk = _Walk(path)
    folders = {name: entry for name, entry in walk.entries(path) if stat.S_ISDIR(entry)}
    if not folders:
        return _flat(path, walk, wish, beside)
    labels, classes, about = _indices(path, list(folders), wish)
    pictures: list[Path] = []
    sizes: list[int] = []
    for name in folders:
        sizes.append(len(pictures))
        pictures += walk.pictures(path / name)
    ends = [*sizes[1:], len(pictures)]
    if not pictures:
        raise InputError(f"{path}: no picture in its {len(folders)} folders; expected {', '.join(SUFFIXES)}")
    empty = [name for name, start, end in zip(folders, sizes, ends, strict=True) if start == end]
    if empty:
        about.append(f"no picture in {listed(empty)}")
    truth = np.repeat([labels[name] for name in folders], np.subtract(ends, sizes)).astype(np.int64)
    about += walk.about()
    return Found({"images": _read(path, pictures, walk, beside), "label": truth}, classes, True, about)


def _flat(path: Path, walk: _Walk, wish: Wish, beside: Callable[[int, int], None]) -> Found:
    pictures = walk.pictures(path) if wish.flat else []
    if not pictures:
        raise InputError(
            f"{path}: no class folders in it; expected a folder for each class, with its pictures, as "
            f"{path.name}/0/a.png"
        )
    about = [*walk.about(), "what the pictures really show is not known: there are no class folders"]
    return Found({"images": _read(path, pictures, walk, beside)}, about=about)


def _indices(path: Path, names: list[str], wish: Wish) -> tuple[dict[str, int], tuple[str, ...], list[str]]:
    if wish.classes:
        known = {name: index for index, name in enumerate(wish.classes)}
        if unknown := [name for name in names if name not in known]:
            raise InputError(
                f"{path}: {listed(unknown)} is no class; expected {listed(wish.classes)} (from data.classes "
                "or the clean images)"
            )
        return known, wish.classes, []
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in names):
        indices = {name: int(name) for name in names}
        if len(set(indices.values())) < len(names):
            raise InputError(f"{path}: two folders name one class, as '1' and '01' do")
        return indices, (), ["classes are the numbers that name the folders"]
    some = ", ".join(f"{index} = {name[:40]}" for index, name in enumerate(names[:12]))
    more = ", ..." if len(names) > 12 else ""
    about = f"classes by sorted names of folders: {some}{more}"
    return {name: index for index, name in enumerate(names)}, tuple(names), [about]


def _read(path: Path, pictures: list[Path], walk: _Walk, beside: Callable[[int, int], None]) -> np.ndarray:
    beside(walk.bytes, len(pictures))
    made = Pictures(path, len(pictures), walk.bytes)
    for picture in pictures:
        with picture.open("rb") as source:
            made.add(source, str(picture.relative_to(path)))
    return made.array()


class _Walk:
    """Looks at entries, counting them, and follows no link out of the root."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.within = root.resolve()
        self.seen = self.bytes = self.others = 0

    def entries(self, folder: Path) -> list[tuple[str, int]]:
        """Names and modes (links followed), sorted; hidden ones left out. Raises InputError."""
        found = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self.seen += 1
                    if self.seen > MAX_FILES:
                        raise InputError(f"{self.root}: more than {MAX_FILES:,} files; refused")
                    if entry.name.startswith("."):
                        continue
                    if entry.is_symlink():
                        self._check_link(Path(entry.path))
                    found.append((entry.name, entry.stat().st_mode))
        except OSError as error:
            raise InputError(f"{folder}: cannot be read: {error.strerror or 'no reason given'}") from None
        return sorted(found)

    def pictures(self, folder: Path) -> list[Path]:
        found = []
        for name, mode in self.entries(folder):
            path = folder / name
            if not stat.S_ISREG(mode) or not name.lower().endswith(SUFFIXES):
                self.others += 1
                continue
            size = path.stat().st_size
            if size > MAX_FILE:
                raise InputError(f"{path}: a picture of {size:,} bytes is too large")
            self.bytes += size
            found.append(path)
        return found

    def about(self) -> list[str]:
        return [f"{self.others:,} entries that are no pictures left out"] if self.others else []

    def _check_link(self, link: Path) -> None:
        try:
            inside = link.resolve(strict=True).is_relative_to(self.within)
        except (OSError, RuntimeError):
            raise InputError(f"{link}: a link that leads nowhere; refused") from None
        if not inside:
            raise InputError(f"{link}: a link that leads out of {self.root}; refused")
