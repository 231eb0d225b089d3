"""Findings about images that occur more than once."""

from __future__ import annotations

from collections.abc import Sequence

from prune_core.data.checks.findings import Finding, Level, Seen
from prune_core.data.checks.same_images import Repeats, find_repeats


def check_repeats(seen: Sequence[Seen]) -> list[Finding]:
    """Images shared by splits, images twice in a clean file, poisoned images without a trigger."""
    files = {name: images for split in seen for name, images in split.files.items()}
    repeats = find_repeats(files)
    found: list[Finding] = []
    for kind in ("clean", "poisoned"):
        names = [f"{kind} {split.name}" for split in seen]
        for at, name in enumerate(names):
            found += [_shared(repeats, name, before, len(files[name])) for before in names[:at]]
        if kind == "clean":
            found += [_twice(repeats, name, len(files[name])) for name in names]
    found += [_plain(repeats, split, seen, len(split.split.poisoned)) for split in seen]
    kept = [finding for finding in found if finding.detail]
    if not repeats.complete:
        kept.append(
            Finding(
                "note",
                "near-duplicates-not-looked-for",
                "too many images are about equally bright to compare them all: only exact duplicates were "
                "looked for",
            )
        )
    return kept


_NOTHING = Finding("note", "", "")


def _shared(repeats: Repeats, name: str, before: str, total: int) -> Finding:
    exact, near = repeats.both(name, before)
    both = exact + near
    if not both:
        return _NOTHING
    level: Level = "error" if 2 * both >= total else "warning"
    all_of = "the same file given twice? " if exact == total else ""
    return Finding(
        level,
        "shared-images",
        f"{all_of}{both} of {total} {name} images are also {before} images ({_how(exact, near)}): what is "
        f"chosen on one is not confirmed by the other, up to {100 * both / total:.1f} points of the {name} "
        "figures; give each image to one split only",
        {"exact": exact, "near": near, "images": total},
    )


def _twice(repeats: Repeats, name: str, total: int) -> Finding:
    exact, near = repeats.both(name, name)
    if not exact + near:
        return _NOTHING
    return Finding(
        "warning",
        "repeated-images",
        f"{exact + near} of {total} {name} images repeat another one of the file ({_how(exact, near)}): "
        "they count twice, and intervals are narrower than they should be",
        {"exact": exact, "near": near, "images": total},
    )


def _plain(repeats: Repeats, split: Seen, seen: Sequence[Seen], total: int) -> Finding:
    """Poisoned images that are clean ones, of whichever split has more of them."""
    name = f"poisoned {split.name}"
    exact, near = max((repeats.both(name, f"clean {s.name}") for s in seen), key=sum)
    both = exact + near
    if not both:
        return _NOTHING
    what = "are the clean images" if both == total else "are clean images, without a trigger"
    return Finding(
        "error" if 2 * both > total else "warning",
        "unpoisoned-images",
        f"{both} of {total} {name} images {what} ({_how(exact, near)}): attack success is counted on images "
        "that show no attack; give the images with the trigger on",
        {"exact": exact, "near": near, "images": total},
    )


def _how(exact: int, near: int) -> str:
    parts = [f"{exact} exactly"] * bool(exact) + [f"{near} within one grey level"] * bool(near)
    return ", ".join(parts)
