"""Findings about pixels: ranges that differ between files, and a reading under which the net does better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from prune_core.data.checks.findings import Finding, Seen, sure
from prune_core.data.form import Preprocessing
from prune_core.data.images import LabeledImages

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
    "black and white exchanged": lambda x: (255.0 if x.max() > 1.5 else 1.0) - x,
}


def check_ranges(files: Mapping[str, LabeledImages]) -> list[Finding]:
    """Files whose pixels are on other scales: some within 0..1 or around 0, some up to 255."""
    ranges = {name: (float(i.pixels.min()), float(i.pixels.max())) for name, i in files.items()}
    flat = [name for name, (low, high) in ranges.items() if low == high]
    found = [
        Finding("error", "one-colour", f"all pixels of the {name} images are {ranges[name][0]:g}: no picture")
        for name in flat
    ]
    kinds: dict[str, list[str]] = {}
    for name, (low, high) in ranges.items():
        if name not in flat:
            kinds.setdefault(_kind(low, high), []).append(name)
    if len(kinds) > 1:
        said = "; ".join(
            f"{name}: {ranges[name][0]:g} to {ranges[name][1]:g}"
            for names in kinds.values()
            for name in names
        )
        found.append(
            Finding(
                "error",
                "pixel-ranges",
                f"pixels are on different scales ({said}); all files must come on one, as data.scale goes "
                "for all of them",
            )
        )
    return found


def _kind(low: float, high: float) -> str:
    if low < 0:
        return "around 0"
    return "0 to 1" if high <= 1.5 else "0 to 255" if high <= 255.5 else "beyond 255"


def check_trigger_range(split: Seen) -> list[Finding]:
    """Poisoned images that reach far beyond the clean ones: a trigger in other units."""
    clean, poisoned = split.split.clean.pixels, split.split.poisoned.pixels
    high, reach = float(clean.max()), float(poisoned.max())
    low, depth = float(clean.min()), float(poisoned.min())
    spread = high - low
    if spread > 0 and (reach > high + 1.5 * spread or depth < low - 1.5 * spread):
        return [
            Finding(
                "error",
                "trigger-range",
                f"poisoned {split.name} images reach from {depth:g} to {reach:g}, clean ones from {low:g} to "
                f"{high:g}: the trigger is on another scale than the images",
            )
        ]
    return []


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
