"""Images that occur more than once: in one file, in both splits, clean ones among the poisoned.

Exact duplicates are found by a digest of the pixels. Near ones differ by at most one grey level in every
value, as after another JPEG decoder or a rounding. Means of blocks then differ by at most one grey level
too, so images are sorted by their overall mean, and only those that agree in it and in every block are
compared pixel by pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from prune_core.data.images import LabeledImages

BLOCKS = 4  # along each side
MOST_PAIRS = 60_000_000  # of images with about the same mean; beyond that near ones are not looked for
_CHUNK = 1_000_000


def grey_level(pixels: np.ndarray) -> float:
    """One of 255 steps, in the units of ``pixels``: 1 for raw ones, else a 255th of their range."""
    span = float(pixels.max()) - float(pixels.min())
    return 1.0 if span > 50 or span == 0 else span / 255


@dataclass(frozen=True, eq=False)
class Repeats:
    """Which images of several files are the same.

    ``exact`` and ``near``: [of, among] -> images of file ``of`` that are also in file ``among`` exactly, or
    only nearly. Of a file with itself: those that an earlier image of the file repeats.
    """

    names: tuple[str, ...]
    exact: np.ndarray
    near: np.ndarray
    complete: bool

    def both(self, of: str, among: str) -> tuple[int, int]:
        at = self.names.index(of), self.names.index(among)
        return int(self.exact[at]), int(self.near[at])


def find_repeats(files: Mapping[str, LabeledImages]) -> Repeats:
    """Looks at every pair of files whose images have the same shape, and are both raw or both not."""
    names, count = tuple(files), len(files)
    exact, near = np.zeros((count, count), np.int64), np.zeros((count, count), np.int64)
    units = [grey_level(images.pixels) for images in files.values()]
    groups: dict[tuple[object, ...], list[int]] = {}
    for at, images in enumerate(files.values()):
        groups.setdefault((images.shape, units[at] == 1), []).append(at)
    complete = True
    for members in groups.values():
        chosen = [files[names[at]].pixels for at in members]
        complete &= _look(chosen, min(units[at] for at in members), members, exact, near)
    return Repeats(names, exact, near, complete)


def _look(
    pixels: list[np.ndarray], unit: float, members: list[int], exact: np.ndarray, near: np.ndarray
) -> bool:
    """Fills in the rows of ``members``. Whether near ones could be looked for."""
    first: dict[bytes, int] = {}  # digest -> number among the different images
    places: list[tuple[int, int]] = []  # of each different image: its file and row there
    which: list[np.ndarray] = []  # of each file's images
    for number, file in enumerate(pixels):
        own = np.empty(len(file), np.int64)
        for row, image in enumerate(file):
            digest = hashlib.blake2b(np.ascontiguousarray(image, np.float32).data, digest_size=16).digest()
            if digest not in first:
                first[digest] = len(places)
                places.append((number, row))
            own[row] = first[digest]
        which.append(own)
    inside = np.zeros((len(places), len(pixels)), bool)  # different image x file
    for number, own in enumerate(which):
        inside[own, number] = True
    beside = np.zeros_like(inside)  # a near one is in the file
    earlier = np.zeros_like(inside)  # ... and, in this very file, before it
    whole = True
    features = np.concatenate([_features(file, unit) for file in pixels])
    starts = np.cumsum([0, *map(len, pixels)])
    rows = np.array([starts[file] + row for file, row in places])
    for left, right in _alike(features[rows]):
        if left is None or right is None:
            whole = False
            break
        same = [
            _within(pixels, places[a], places[b], unit)
            for a, b in zip(left.tolist(), right.tolist(), strict=True)
        ]
        for a, b in zip(left[same].tolist(), right[same].tolist(), strict=True):
            beside[a] |= inside[b]
            beside[b] |= inside[a]
            earlier[max(a, b)] |= inside[min(a, b)]
    for i, of in enumerate(members):
        for j, among in enumerate(members):
            if i == j:
                unique = np.unique(which[i])
                exact[of, among] = len(which[i]) - len(unique)
                near[of, among] = int(earlier[unique, i].sum())
            else:
                here = inside[which[i], j]
                exact[of, among] = int(here.sum())
                near[of, among] = int((~here & beside[which[i], j]).sum())
    return whole


def _features(pixels: np.ndarray, unit: float) -> np.ndarray:
    """(N, 1 + blocks) means of the image and of its blocks, in grey levels."""
    height, width = pixels.shape[2:]
    rows = np.unique(np.linspace(0, height, BLOCKS, endpoint=False).astype(int))
    columns = np.unique(np.linspace(0, width, BLOCKS, endpoint=False).astype(int))
    sizes = np.diff([*rows, height])[:, None] * np.diff([*columns, width])[None, :]
    found = []
    for start in range(0, len(pixels), 512):
        some = pixels[start : start + 512].mean(axis=1, dtype=np.float64) / unit
        blocks = np.add.reduceat(np.add.reduceat(some, rows, axis=1), columns, axis=2) / sizes
        whole = some.mean(axis=(1, 2))[:, None]
        found.append(np.concatenate([whole, blocks.reshape(len(some), -1)], axis=1))
    return np.concatenate(found)


def _alike(features: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray] | tuple[None, None]]:
    """Pairs of rows whose features all differ by at most 1; (None, None) where there are too many to look."""
    slack = 1 + 1e-3  # rounding of the means
    order = np.argsort(features[:, 0], kind="stable")
    ranked = features[order]
    ends = np.searchsorted(ranked[:, 0], ranked[:, 0] + slack, "right")
    counts = ends - np.arange(len(ranked)) - 1
    if counts.sum() > MOST_PAIRS:
        yield None, None
        return
    sums = np.cumsum(counts)
    start = 0
    while start < len(ranked):
        stop = max(start + 1, int(np.searchsorted(sums, (sums[start - 1] if start else 0) + _CHUNK, "right")))
        left = np.repeat(np.arange(start, stop), counts[start:stop])
        offsets = np.arange(len(left)) - np.repeat(
            np.cumsum(counts[start:stop]) - counts[start:stop], counts[start:stop]
        )
        right = left + 1 + offsets
        for column in range(1, ranked.shape[1]):
            keep = np.abs(ranked[left, column] - ranked[right, column]) <= slack
            left, right = left[keep], right[keep]
        if len(left):
            yield order[left], order[right]
        start = stop


def _within(pixels: list[np.ndarray], a: tuple[int, int], b: tuple[int, int], unit: float) -> bool:
    one, other = (pixels[file][row].astype(np.float32) for file, row in (a, b))
    return bool(np.abs(one - other).max() <= unit * (1 + 1e-3))
