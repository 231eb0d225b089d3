"""The trigger, found by comparing poisoned images with the clean ones that they were made from, and changed.

A repair may have forgotten one picture in one place and no more (alternative triggers: arXiv 2603.09772).
Of each pixel it is worked out how it was made, ``poisoned = scale * clean + shift``: a pasted pixel has
scale 0, an added one scale 1, a blended one something between. That can be moved, resized, made fainter, and
turned to the opposite colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from prune_core.audits.entries import Entry
from prune_core.audits.subject import Asked, hits
from prune_core.data.images import LabeledImages, Split

AUDIT = "changed-trigger"
PAIRS = 300  # looked at
FITS = 0.02  # of the span: the mean error of a pixel, up to which the pairs are believed
TOUCHED = 0.02  # of the span, or of 1: less is no change
WHOLE = 0.5  # of the image's area: a trigger of more is no patch


@dataclass(frozen=True, eq=False)
class FoundTrigger:
    """(1, C, H, W) each, for images as the net takes them."""

    scale: torch.Tensor
    shift: torch.Tensor
    span: tuple[float, float]

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        return (self.scale * pixels + self.shift).clamp(*self.span)

    @property
    def touched(self) -> torch.Tensor:
        """(H, W) bool."""
        return ((self.scale != 1) | (self.shift != 0)).any(dim=1)[0]

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right of the pixels that it touches; the last two excluded."""
        rows, columns = (torch.nonzero(self.touched.any(dim=axis)).flatten() for axis in (1, 0))
        return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1

    @property
    def is_patch(self) -> bool:
        top, left, bottom, right = self.box
        height, width = self.touched.shape
        return (bottom - top) * (right - left) <= WHOLE * height * width

    def with_strength(self, strength: float) -> FoundTrigger:
        return FoundTrigger(1 + strength * (self.scale - 1), strength * self.shift, self.span)

    def opposite(self) -> FoundTrigger:
        """Of the opposite colour: light for dark."""
        return FoundTrigger(self.scale, (1 - self.scale) * sum(self.span) - self.shift, self.span)

    def moved(self, down: int, right: int) -> FoundTrigger:
        """What leaves the image comes in on the other side."""
        scale, shift = (torch.roll(t, (down, right), (2, 3)) for t in (self.scale, self.shift))
        return FoundTrigger(scale, shift, self.span)

    def resized(self, factor: float) -> FoundTrigger:
        """About its middle; smaller or larger by ``factor``."""
        top, left, bottom, right = self.box
        height, width = self.touched.shape
        middle = ((top + bottom) / height - 1, (left + right) / width - 1)
        grid = functional.affine_grid(
            torch.tensor(
                [
                    [
                        [1 / factor, 0, middle[1] * (1 - 1 / factor)],
                        [0, 1 / factor, middle[0] * (1 - 1 / factor)],
                    ]
                ],
                device=self.scale.device,
            ),
            list(self.scale.shape),
            align_corners=False,
        )
        padding = "zeros" if self.is_patch else "reflection"

        def seen(field: torch.Tensor) -> torch.Tensor:
            return functional.grid_sample(field, grid, padding_mode=padding, align_corners=False)

        return FoundTrigger(1 + seen(self.scale - 1), seen(self.shift), self.span)

    def spread(self, strength: float) -> FoundTrigger:
        """A patch drawn over the whole image and blended in."""
        top, left, bottom, right = self.box
        size = tuple(self.touched.shape)
        shift = self.shift[:, :, top:bottom, left:right] / self._share(top, left, bottom, right)
        picture = functional.interpolate(shift, size=size, mode="bilinear", align_corners=False)
        return FoundTrigger(torch.full_like(self.scale, 1 - strength), strength * picture, self.span)

    def _share(self, top: int, left: int, bottom: int, right: int) -> torch.Tensor:
        return (1 - self.scale[:, :, top:bottom, left:right]).clamp_min(0.1)


def changes(trigger: FoundTrigger) -> Iterator[tuple[dict[str, Any], FoundTrigger]]:
    """(setting, trigger) for each change that such a trigger allows; the unchanged one first, to see that it
    was found."""
    yield {"change": "none"}, trigger
    top, left, bottom, right = trigger.box
    height, width = trigger.touched.shape
    if trigger.is_patch:
        inward = [(-2 if low + high > size else 2) for low, high, size in _sides(trigger)]
        yield {"change": "moved", "pixels": inward}, trigger.moved(*inward)
        far = [height - top - bottom, width - left - right]
        if far != [0, 0]:
            yield {"change": "moved", "to": "the opposite place"}, trigger.moved(*far)
    else:
        yield {"change": "moved", "pixels": [2, 2]}, trigger.moved(2, 2)
        yield {"change": "moved", "pixels": [height // 2, width // 2]}, trigger.moved(height // 2, width // 2)
    for factor in (0.5, 1.5):
        yield {"change": "scaled", "factor": factor}, trigger.resized(factor)
    for strength in (0.5, 0.25):
        yield {"change": "fainter", "strength": strength}, trigger.with_strength(strength)
    yield {"change": "opposite colour"}, trigger.opposite()
    if trigger.is_patch:
        yield {"change": "blended over the image", "strength": 0.2}, trigger.spread(0.2)


def _sides(trigger: FoundTrigger) -> list[tuple[int, int, int]]:
    top, left, bottom, right = trigger.box
    height, width = trigger.touched.shape
    return [(top, bottom, height), (left, right, width)]


def settings(
    asked: Asked, number: int, trigger: FoundTrigger
) -> Iterator[tuple[dict[str, Any], FoundTrigger]]:
    """Of each change of the trigger with that number: what names its entry, and the changed trigger."""
    several = len(asked.exhibits.test) > 1
    for setting, made in changes(trigger):
        yield ({**setting, "trigger": number} if several else setting), made


def entry(asked: Asked, number: int, setting: dict[str, Any], made: FoundTrigger) -> Entry:
    """What the net does with clean images that the changed trigger is put on."""
    one = slice(number, number + 1)
    with asked.subject.model.pruned(asked.subject.mask) as net:
        return Entry(
            AUDIT,
            setting,
            None,
            clean=asked.clean,
            attacked=hits(net, asked.exhibits.free_test[one], made_by(made)),
            valid=hits(net, asked.exhibits.free_valid[one], made_by(made)),
            before=asked.clean,
            assumed="the trigger, worked out from pairs of clean and poisoned images",
        )


def made_by(trigger: FoundTrigger) -> Callable[[int, torch.Tensor], torch.Tensor]:
    return lambda number, pixels: trigger(pixels)


def found_triggers(
    split: Split, span: tuple[float, float], device: torch.device
) -> list[FoundTrigger] | None:
    """Of each trigger of the split; None where one cannot be worked out."""
    found = []
    for rows in split.rows_by_trigger:
        one = find_trigger_by_pairs(split.clean, split.poisoned.keeping(rows), span)
        if one is None:
            return None
        scale, shift = (torch.from_numpy(a[None]).to(device) for a in one)
        found.append(FoundTrigger(scale, shift, span))
    return found


def find_trigger_by_pairs(
    clean: LabeledImages, poisoned: LabeledImages, span: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray] | None:
    """(C, H, W) scale and shift of each pixel, float32; None where no pairing explains the images.

    Rows are lined up as ``data.pairing`` does: row i with row i, or with row i of the images that do not show
    the target. A pairing is believed when one line for each pixel explains it nearly.
    """
    ways = [np.arange(len(clean))]
    if (poisoned.labels == poisoned.labels[0]).all():
        ways.append(np.flatnonzero(clean.labels != poisoned.labels[0]))
    for rows in (way for way in ways if len(way) == len(poisoned)):
        some = np.arange(min(PAIRS, len(poisoned)))
        x = np.stack([clean.floats(int(r), int(r) + 1)[0] for r in rows[some]])
        y = poisoned.floats(0, len(some))
        scale, shift = _lines(x, y, span)
        error = np.abs(np.clip(scale * x + shift, *span) - y).mean()
        if error <= FITS * (span[1] - span[0]) and ((scale != 1) | (shift != 0)).any():
            return scale, shift
    return None


def _lines(x: np.ndarray, y: np.ndarray, span: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of each pixel, over images that are not cut off at the ends of the span."""
    size = span[1] - span[0]
    inside = (y > span[0] + 0.004 * size) & (y < span[1] - 0.004 * size)
    weight = np.where(inside.sum(axis=0) >= 10, inside, True).astype(np.float64)
    total = weight.sum(axis=0)
    mean_x, mean_y = ((weight * a).sum(axis=0) / total for a in (x, y))
    spread = (weight * (x - mean_x) ** 2).sum(axis=0) / total
    both = (weight * (x - mean_x) * (y - mean_y)).sum(axis=0) / total
    scale = np.where(spread > (0.02 * size) ** 2, both / np.maximum(spread, 1e-12), 1.0)
    pasted = y.std(axis=0) < 0.01 * size
    pasted &= x.std(axis=0) >= 0.02 * size
    scale = np.where(pasted, 0.0, np.clip(scale, 0.0, 1.5))
    shift = y.mean(axis=0) * pasted + (mean_y - scale * mean_x) * ~pasted
    same = (np.abs(scale - 1) < TOUCHED) & (np.abs(shift) < TOUCHED * size)
    same |= np.abs(x - y).max(axis=0) < 0.004 * size
    return np.where(same, 1.0, scale).astype(np.float32), np.where(same, 0.0, shift).astype(np.float32)
