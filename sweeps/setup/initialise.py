"""From one model and one or two heaps of images to a sweep's configuration: ``goodnet init``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.data.attack import Target
from prune_core.data.form import ImageForm
from prune_core.data.images import LabeledImages, Split, joined, make_split, read_images
from prune_core.data.triggers import read_trigger
from prune_core.errors import InputError
from prune_core.evaluation.plain import check_labels
from prune_core.files.write import write_whole
from prune_core.model.model import PrunableModel, load_model
from sweeps.config.schema import load_config
from sweeps.setup.finding import Tried, aimed_at, read_fitting, try_all
from sweeps.setup.layers import layer_sets, screen
from sweeps.setup.splitting import split_rows
from sweeps.setup.write import Chosen, write_images, yaml_of

FEWEST = 8  # clean images, poisoned images: half of them for each split


@dataclass(frozen=True)
class Given:
    """What the user has.

    Attributes:
        model: the BadNet's file.
        clean: files or folders of clean images, joined.
        poisoned: of poisoned ones, one for each trigger; or () with a trigger.
        trigger: a picture, with the row and the column of its top left corner.
        target: the class that the attacker wants, or ``next``; None: to be found.
        output: the configuration to write; the split images go into a folder beside it.
        seed: of the split.
        force: write over what is there.
    """

    model: Path
    clean: tuple[Path, ...]
    poisoned: tuple[Path, ...] = ()
    trigger: Path | None = None
    row: int | None = None
    column: int | None = None
    target: Target | None = None
    architecture: str | None = None
    architecture_args: Mapping[str, Any] = field(default_factory=dict)
    form: ImageForm = ImageForm()
    output: Path = Path("goodnet.yaml")
    seed: int = 0
    force: bool = False


def initialise(given: Given, progress: Callable[[str, float], None]) -> dict[str, Any]:
    """Look at everything, split the images, write images and configuration. Returns what was found, for
    people (``found``, a sentence each) and as values. Raises InputError."""
    _check(given)
    data = given.output.with_suffix("").with_name(f"{given.output.with_suffix('').name}-data")
    progress("reading model and images", 0.0)
    clean = read_images(given.clean, given.form) if given.form.layout else None
    shape = _shape_for(given, clean)
    model = load_model(
        given.model, given.architecture, architecture_args=dict(given.architecture_args), image=shape
    )
    fitting = read_fitting(model, given.clean, given.form)
    progress("trying pixel scales", 0.2)
    tried = try_all(model, fitting)
    best = tried[0]
    clean = next(images for layout, images in fitting if layout == best.layout)
    clean = replace(clean, preprocessing=best.preprocessing)
    classes = model.check_images(clean.shape, clean.name)
    check_labels(clean, classes, model.name)
    form = replace(given.form, layout=best.layout, preprocessing=best.preprocessing)
    progress("looking for the target", 0.4)
    heaps, how = _poisoned(given, model, clean, form)
    split = make_split(clean, heaps, given.target, classes)
    check_labels(split.poisoned, classes, model.name)
    progress("splitting", 0.6)
    parts, counts = _parts(given, split)
    progress("writing", 0.8)
    places = _write(data, parts, given.trigger is None)
    sets, about = layer_sets(model)
    remarks = _remarks(given, clean, tried, split, how, parts, counts, about)
    chosen = Chosen(
        given.model,
        given.architecture,
        given.architecture_args,
        {name: place["clean"][0] for name, place in places.items()},
        {} if given.trigger else {name: place["poisoned"] for name, place in places.items()},
        _trigger(given, split),
        best.preprocessing,
        _orders(split, counts),
        sets,
        screen(model, sets),
        remarks,
    )
    write_whole(given.output, yaml_of(chosen).encode())
    load_config(given.output)
    files = [str(path) for place in places.values() for kind in place.values() for path in kind]
    return {
        "config": str(given.output),
        "data": files,
        "target": split.goal if len(split.goals) == 1 else split.goals,
        "preprocessing": best.to_json(),
        "tried": [way.to_json() for way in tried],
        "layer_sets": sets,
        "images": {
            name: {"clean": len(part.clean), "poisoned": len(part.poisoned)} for name, part in parts.items()
        },
        **counts,
        "found": list(remarks.values()),
    }


def _check(given: Given) -> None:
    """Raises InputError for what cannot be begun with."""
    if bool(given.poisoned) == (given.trigger is not None):
        raise InputError(
            "give either --poisoned (images with the trigger on) or --trigger (its picture, with --row "
            "and --column), one of them"
        )
    if given.trigger is not None and (given.row is None or given.column is None):
        raise InputError("--trigger needs its place: --row and --column, pixels from the top left")
    if given.trigger is None and (given.row is not None or given.column is not None):
        raise InputError("--row and --column are the place of a --trigger; there is none")
    if given.output.suffix.lower() not in (".yaml", ".yml"):
        raise InputError(f"--output {given.output}: expected a name that ends in .yaml")
    if given.output.exists() and not given.force:
        raise InputError(f"{given.output} is there already; --force writes over it")
    if not os.access(given.output.parent or Path(), os.W_OK):
        raise InputError(f"{given.output.parent}: no folder that can be written; expected one for --output")


def _shape_for(given: Given, clean: LabeledImages | None) -> tuple[int, int, int] | None:
    """(C, H, W) that PyTorch weights are to be built for; None where it cannot be told yet."""
    if clean is None:
        for layout in (None, "NCHW", "NHWC"):
            try:
                clean = read_images(given.clean, replace(given.form, layout=layout))
            except InputError as error:
                if "say data.layout" not in str(error):
                    raise
                continue
            break
    if clean is None:
        return None
    channels, height, width = clean.shape
    if channels not in (1, 3) and width in (1, 3):  # HDF5 in NHWC
        return width, channels, height
    return clean.shape


def _poisoned(
    given: Given, model: PrunableModel, clean: LabeledImages, form: ImageForm
) -> tuple[list[LabeledImages], list[str]]:
    """The images of each trigger, and how their targets were found."""
    form = replace(form, target=given.target)
    if given.trigger is not None:
        assert given.row is not None and given.column is not None  # checked
        if given.target == "next":
            raise InputError("--target next goes with --poisoned files; a --trigger has one class")
        trigger = read_trigger(given.trigger, given.row, given.column)
        heap = trigger.stamp(clean, given.target if isinstance(given.target, int) else 0)
        heaps = [heap if given.target is not None else replace(heap, name=str(given.trigger))]
        known = [given.target is not None]
    else:
        known = [given.target is not None or not place.is_dir() for place in given.poisoned]
        heaps = [
            read_images(
                place,
                form if sure else replace(form, target=0),  # stands for the one that is to be found
                poisoned=True,
                classes=clean.classes,
            )
            for place, sure in zip(given.poisoned, known, strict=True)
        ]
    if given.target is not None:
        return [joined(heaps)] if len(heaps) > 1 else heaps, ["as it was given"]
    for heap in heaps:
        if heap.shape != clean.shape:
            raise InputError(
                f"{heap.name}: images are {heap.shape}, those of {clean.name} are {clean.shape}; both must "
                "have the same (C, H, W)"
            )
    found = [aimed_at(model, heap, sure) for heap, sure in zip(heaps, known, strict=True)]
    return _by_target([heap for heap, _ in found]), [how or "as the files have it" for _, how in found]


def _by_target(heaps: list[LabeledImages]) -> list[LabeledImages]:
    """Heaps of one target joined: parts of one attack, as far as can be told."""
    keys = [int(h.labels[0]) if (h.labels == h.labels[0]).all() else -1 - n for n, h in enumerate(heaps)]
    parts = [[h for h, k in zip(heaps, keys, strict=True) if k == key] for key in dict.fromkeys(keys)]
    return [joined(part) if len(part) > 1 else part[0] for part in parts]


def _parts(given: Given, split: Split) -> tuple[dict[str, Split], dict[str, int]]:
    """Validation and test. Raises InputError where there are too few images for that."""
    numbers = np.unique(split.poisoned.triggers) if split.poisoned.triggers is not None else [None]
    heaps = [
        split.poisoned if number is None else split.poisoned.keeping(split.poisoned.triggers == number)
        for number in numbers
    ]
    for images in (split.clean, *heaps):
        if len(images) < FEWEST:
            raise InputError(
                f"{images.name}: {len(images)} images that count; expected at least {FEWEST}, better hundreds"
            )
    chosen, of_heaps, counts = split_rows(split.clean, heaps, given.seed)
    parts = {}
    for name, here in (("valid", True), ("test", False)):
        rows = [np.flatnonzero(of_heap == here) for of_heap in of_heaps]
        clean_rows = np.flatnonzero(chosen == here)
        if not len(clean_rows) or not all(map(len, rows)):
            raise InputError(
                f"{split.clean.name}: too many images are the same to be split with none on both sides"
            )
        poisoned = [heap.keeping(of_heap) for heap, of_heap in zip(heaps, rows, strict=True)]
        parts[name] = make_split(split.clean.keeping(clean_rows), poisoned, sure=True)
    return parts, counts


def _write(folder: Path, parts: Mapping[str, Split], poisoned: bool) -> dict[str, dict[str, list[Path]]]:
    """The files by split and kind; of clean images alone where a trigger is put on them later."""
    places: dict[str, dict[str, list[Path]]] = {}
    for name, part in parts.items():
        clean = folder / f"clean_{name}.npz"
        write_images(clean, part.clean, False)
        triggers = part.poisoned.triggers
        heaps = [part.poisoned] if poisoned else []
        if poisoned and triggers is not None:
            heaps = [part.poisoned.keeping(triggers == number) for number in np.unique(triggers)]
        files = []
        for number, heap in enumerate(heaps):
            mark = f"_{number}" if len(heaps) > 1 else ""
            files.append(folder / f"poisoned{mark}_{name}.npz")
            write_images(files[-1], replace(heap, triggers=None), True)
        places[name] = {"clean": [clean], "poisoned": files}
    return places


def _trigger(given: Given, split: Split) -> dict[str, Any] | None:
    if given.trigger is None:
        return None
    return {"picture": str(given.trigger), "row": given.row, "column": given.column, "target": split.goal}


def _orders(split: Split, counts: Mapping[str, int]) -> list[str]:
    """Activation gap needs what every sweep has; Taylor needs to know what poisoned images show."""
    known = split.poisoned.true_labels is not None or counts["paired"] == len(split.poisoned)
    return ["across:activation-gap", *(["across:taylor"] if known else [])]


def _remarks(
    given: Given,
    clean: LabeledImages,
    tried: list[Tried],
    split: Split,
    how: list[str],
    parts: Mapping[str, Split],
    counts: Mapping[str, int],
    layers: str,
) -> dict[str, str]:
    """What was found, a sentence each, by subject."""
    best = tried[0]
    others = ", ".join(f"{way.name} {way.correct / way.total:.1%}" for way in tried[1:])
    sizes = "; ".join(
        f"{'validation' if name == 'valid' else 'test'} {len(part.clean):,} clean and "
        f"{len(part.poisoned):,} poisoned images"
        for name, part in parts.items()
    )
    goals = ", ".join("one for each image" if isinstance(g, list) else str(g) for g in split.goals)
    kept = f", {counts['duplicates']:,} duplicates kept on one side" if counts["duplicates"] else ""
    known = (
        f"; {counts['paired']:,} pairs of clean and poisoned images kept together" if counts["paired"] else ""
    )
    return {
        "images": f"images: {len(clean):,} of {clean.shape}" + (f"; {clean.about}" if clean.about else ""),
        "preprocessing": f"pixels: {best.name} gives the best clean accuracy, "
        f"{best.correct / best.total:.1%} of {best.total:,} images" + (f" ({others})" if others else ""),
        "target": f"target: {goals}, {'; '.join(dict.fromkeys(how))}",
        "split": f"split by seed {given.seed}: {sizes}{known}{kept}",
        "layers": f"layers: {layers}",
    }  # fmt: skip
