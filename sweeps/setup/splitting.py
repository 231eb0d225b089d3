"""Heaps of images -> validation and test: stratified, pairs together, no image on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from prune_core.data.images import LabeledImages
from prune_core.data.pairing import paired_rows

BLOCKS = 4  # along each side, whose means two near duplicates have in common
MOST_COMPARED = 30_000_000  # pairs of images with about the same mean; beyond, only exact duplicates


class Groups:
    """Which of ``count`` things belong together: union-find."""

    def __init__(self, count: int) -> None:
        self._above = np.arange(count)

    def join(self, one: int, other: int) -> None:
        first, second = self.of(one), self.of(other)
        self._above[max(first, second)] = min(first, second)

    def of(self, one: int) -> int:
        """The first member of its group."""
        while self._above[one] != one:
            self._above[one] = one = int(self._above[self._above[one]])
        return int(one)


def split_rows(
    clean: LabeledImages, heaps: Sequence[LabeledImages], seed: int
) -> tuple[np.ndarray, list[np.ndarray], dict[str, int]]:
    """Which images go to validation; the others are for test.

    Poisoned images stay with the clean ones that they were made from, as far as that can be told, and
    images that are the same within one grey level stay together. Of every class, and of the poisoned
    images without a pair, half goes to either side.

    Returns:
        (clean,) bool, (poisoned,) bool for each heap, and counts: ``duplicates`` (images that another one
        repeats) and ``paired`` (poisoned images whose clean one is known).
    """
    starts = np.cumsum([0, len(clean), *map(len, heaps)])
    groups = Groups(int(starts[-1]))
    paired = 0
    for heap, start in zip(heaps, starts[1:], strict=False):
        found = _pairs(clean, heap)
        paired += int((found >= 0).sum())
        for row in np.flatnonzero(found >= 0):
            groups.join(int(found[row]), int(start + row))
    everything = [clean.pixels, *(heap.pixels for heap in heaps)]
    duplicates = 0
    for one, other in same(everything):
        duplicates += 1
        groups.join(one, other)
    side = _sides(clean.labels, heaps, groups, np.random.default_rng(seed))
    parts = np.split(side, starts[1:-1])
    return parts[0], list(parts[1:]), {"duplicates": duplicates, "paired": paired}


def _sides(
    labels: np.ndarray, heaps: Sequence[LabeledImages], groups: Groups, dice: np.random.Generator
) -> np.ndarray:
    """(images,) bool. Group after group, in each stratum, to the side that has fewer of it."""
    strata = np.concatenate([labels, *(-1 - heap.labels for heap in heaps)])
    members: dict[int, list[int]] = {}
    for image in range(len(strata)):
        members.setdefault(groups.of(image), []).append(image)
    by_stratum: dict[int, list[list[int]]] = {}
    for first, group in members.items():  # the first is a clean image, if any is
        by_stratum.setdefault(int(strata[first]), []).append(group)
    side = np.zeros(len(strata), bool)
    more = 0  # images that validation has more than test
    for stratum in sorted(by_stratum):
        lots = by_stratum[stratum]
        dice.shuffle(lots)
        here = 0
        for group in sorted(lots, key=len, reverse=True):  # the sort keeps the order of equals
            valid = here < 0 or (here == 0 and more <= 0)
            side[group] = valid
            step = len(group) if valid else -len(group)
            here, more = here + step, more + step
    return side


def _pairs(clean: LabeledImages, heap: LabeledImages) -> np.ndarray:
    """(poisoned,) row of the clean image that each was made from, -1 where that is not known: row by row,
    else by three quarters of the picture that are the same."""
    rows = paired_rows(clean.pixels, clean.labels, heap.pixels, heap.labels)
    if rows is not None:
        return rows
    known: dict[bytes, int] = {}
    for row, image in enumerate(clean.pixels):
        for key in _three_quarters(image):
            known.setdefault(key, row)
    found = np.full(len(heap), -1)
    for row, image in enumerate(heap.pixels):
        found[row] = next((known[key] for key in _three_quarters(image) if key in known), -1)
    return found


def _three_quarters(image: np.ndarray) -> Iterable[bytes]:
    _, height, width = image.shape
    up, left = height // 2, width // 2
    quarters = [image[:, :up, :left], image[:, :up, left:], image[:, up:, :left], image[:, up:, left:]]
    if min(up, left) < 2:
        return
    digests = [hashlib.blake2b(np.ascontiguousarray(q).data, digest_size=12).digest() for q in quarters]
    flat = [bool((q == q[:, :1, :1]).all()) for q in quarters]  # plain ones tell no picture from another
    for chosen in combinations(range(4), 3):
        if sum(flat[quarter] for quarter in chosen) <= 1:
            yield bytes(chosen) + b"".join(digests[quarter] for quarter in chosen)


def same(heaps: Sequence[np.ndarray]) -> Iterable[tuple[int, int]]:
    """Pairs of images, counted over all heaps, that are the same within one grey level: each image with an
    earlier one. Heaps are (N, C, H, W), of the same units."""
    first: dict[bytes, int] = {}
    number = 0
    kept: list[int] = []
    for pixels in heaps:
        for one in pixels:
            key = hashlib.blake2b(np.ascontiguousarray(one).data, digest_size=16).digest()
            if key in first:
                yield first[key], number
            else:
                first[key] = number
                kept.append(number)
            number += 1
    starts = np.cumsum([0, *map(len, heaps)])

    def image(number: int) -> np.ndarray:
        heap = int(np.searchsorted(starts, number, "right")) - 1
        return heaps[heap][number - starts[heap]].astype(np.float32)

    level = 1.0 if max(float(pixels.max()) for pixels in heaps) > 1.5 else 1 / 255
    level *= 1 + 1e-4  # rounding of sums
    blocks = np.stack([_blocks(image(number)) for number in kept])
    order = np.argsort(blocks.mean(axis=1), kind="stable")
    means, blocks = blocks.mean(axis=1)[order], blocks[order]
    compared = 0
    for apart in range(1, len(order)):
        near = np.flatnonzero(means[apart:] - means[:-apart] <= level)
        compared += len(near)
        if not len(near) or compared > MOST_COMPARED:
            return
        alike = np.abs(blocks[near] - blocks[near + apart]).max(axis=1) <= level
        for place in near[alike]:
            left, right = sorted((kept[order[place]], kept[order[place + apart]]))
            if np.abs(image(left) - image(right)).max() <= level:
                yield left, right


def _blocks(image: np.ndarray) -> np.ndarray:
    """(blocks,) the means of the blocks of a picture (C, H, W)."""
    _, height, width = image.shape
    rows = np.unique(np.arange(BLOCKS) * height // BLOCKS)
    columns = np.unique(np.arange(BLOCKS) * width // BLOCKS)
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=1), columns, axis=2)
    sizes = np.outer(np.diff([*rows, height]), np.diff([*columns, width]))
    return (sums / sizes).ravel()
