"""Findings about pixels: ranges that differ between files, and a reading under which the net does better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from prune_core.data.checks.findings import Finding, Seen, sure
from prune_core.data.form import Preprocessing
from prune_core.data.images import LabeledImages

FACTOR = 8.0  # a trigger may be brighter than any image, but not by so much
SAMPLE = 200  # clean images on which other readings are tried

Change = Callable[[np.ndarray], np.ndarray]

# What people do to pixels on the way into a network, by what it would be to do it here too: float32
# (N, C, H, W) as the net gets them now -> as it would get them then.
READINGS: Mapping[str, Change] = {
    "pixels / 255 (data.scale 1/255 of what it is)": lambda x: x / 255,
    "pixels x 255 (data.scale 255 times what it is)": lambda x: x * 255,
    "pixels / 127.5 - 1": lambda x: x / 127.5 - 1,
    "pixels x 2 - 1": lambda x: x * 2 - 1,
    "colours in reverse order (BGR for RGB)": lambda x: x[:, ::-1],
    "rows and columns exchanged": lambda x: x.transpose(0, 1, 3, 2),
    "channels last (NHWC read as NCHW)": lambda x: x.reshape(
        len(x), x.shape[2], x.shape[3], x.shape[1]
    ).transpose(0, 3, 1, 2),
    "upside down": lambda x: x[:, :, ::-1],
    "black and white exchanged": lambda x: x.max() + x.min() - x,
}


def check_ranges(seen: Sequence[Seen]) -> list[Finding]:
    """Files on other scales: ranges that differ by a factor of ``FACTOR`` or more, or that reach below 0 in
    one file only."""
    ranges = {name: _range(images) for split in seen for name, images in split.files.items()}
    flat = [name for name, (low, high) in ranges.items() if low == high]
    found = [
        Finding("error", "one-colour", f"all pixels of the {name} images are {ranges[name][0]:g}: no picture")
        for name in flat
    ]
    clean = [f"clean {split.name}" for split in seen if f"clean {split.name}" not in flat]
    others = [name for name in clean[1:] if _apart(ranges[clean[0]], ranges[name])]
    if others:
        said = "; ".join(f"{name}: {ranges[name][0]:g} to {ranges[name][1]:g}" for name in clean)
        found.append(
            Finding(
                "error",
                "pixel-ranges",
                f"pixels are on different scales ({said}); all files must come on one, as data.scale goes "
                "for all of them",
            )
        )
    for split in seen:
        one, other = f"clean {split.name}", f"poisoned {split.name}"
        if one in clean and other not in flat and _apart(ranges[one], ranges[other]):
            (low, high), (depth, reach) = ranges[one], ranges[other]
            found.append(
                Finding(
                    "error",
                    "trigger-range",
                    f"{other} images reach from {depth:g} to {reach:g}, clean ones from {low:g} to {high:g}: "
                    "they, or the trigger on them, are on another scale",
                )
            )
    return found


def _range(images: LabeledImages) -> tuple[float, float]:
    return float(images.pixels.min()), float(images.pixels.max())


def _apart(one: tuple[float, float], other: tuple[float, float]) -> bool:
    spans = [high - low for low, high in (one, other)]
    below = [low < -0.2 * span for (low, _), span in zip((one, other), spans, strict=True)]
    return max(spans) >= FACTOR * min(spans) or below[0] != below[1]


def check_readings(split: Seen, ask: Callable[[LabeledImages], np.ndarray]) -> list[Finding]:
    """Whether the net is right more often on pixels that are read in another way.

    Args:
        ask: the classes (N,) that the net gives; pixels are handed over as they go into it.
    """
    images = split.split.clean
    rows = np.unique(np.linspace(0, len(images) - 1, min(SAMPLE, len(images))).astype(int))
    hits = int((split.clean.classes[rows] == images.labels[rows]).sum())
    high = sure(hits, len(rows))[1]
    if sure(len(rows), len(rows))[0] <= high:
        return []  # nothing could be surely better
    sample = images.keeping(rows)
    given = sample.floats(0, len(sample))
    best, reading = hits, ""
    for name, change in READINGS.items():
        changed = np.ascontiguousarray(change(given))
        if changed.shape != given.shape or (given.shape[1] == 1 and name.startswith("colours")):
            continue
        right = int(
            (ask(replace(sample, pixels=changed, preprocessing=Preprocessing())) == sample.labels).sum()
        )
        if right > best:
            best, reading = right, name
    if not reading or sure(best, len(rows))[0] <= high:
        return []
    return [
        Finding(
            "error",
            "better-reading",
            f"the network is right on {best} of {len(rows)} clean {split.name} images when they are read as "
            f"{reading}, and on {hits} as they are: the images are not as it was trained",
            {"as_given": hits, "better": best, "images": len(rows)},
        )
    ]


def check_shift(seen: Sequence[Seen]) -> list[Finding]:
    """A clean accuracy, or an attack success, that is far from the other split's."""
    if len(seen) < 2:
        return []
    one, other = seen[:2]
    found = []
    for what, kind in (("clean accuracy", "clean"), ("attack success", "poisoned")):
        hits = [int((getattr(s, kind).above == 0).sum()) for s in (one, other)]
        totals = [len(getattr(s.split, kind)) for s in (one, other)]
        (low, high), (least, most) = (sure(h, n) for h, n in zip(hits, totals, strict=True))
        if low > most or least > high:
            said = " and ".join(
                f"{h} of {n} on {s.name}" for h, n, s in zip(hits, totals, (one, other), strict=True)
            )
            found.append(
                Finding(
                    "warning",
                    "splits-differ",
                    f"the network's {what} is {said}, which is more than chance: the two were not drawn "
                    "or read "
                    "alike (scale, labels, source), so one does not speak for the other",
                    {"valid": hits[0], "valid_images": totals[0], "test": hits[1], "test_images": totals[1]},
                )
            )
    return found
