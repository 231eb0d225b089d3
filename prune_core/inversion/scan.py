"""Is there a class that a network is too easily led to? Asked of the network and of clean images alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core.data.arrays import checked_labels, checked_pixels
from prune_core.data.images import LabeledImages, Split
from prune_core.data.triggers import white_of
from prune_core.errors import InputError
from prune_core.files.write import write_whole
from prune_core.inversion.kinds import KINDS
from prune_core.inversion.plan import SCREENED, Plan
from prune_core.inversion.result import ScanResult
from prune_core.inversion.search import Span
from prune_core.inversion.searches import Searches, tensor_of
from prune_core.inversion.stages import Say, Stages, Tell
from prune_core.inversion.windows import windows_of
from prune_core.model.model import PrunableModel

FEWEST = 8  # images to search on, and to measure on


def scan(
    net: PrunableModel,
    clean: LabeledImages | Split | tuple[Any, Any],
    *,
    classes: Sequence[int] | None = None,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    images: int = 300,
    out: str | Path | None = None,
    tell: Tell = lambda doing, share: None,
    say: Say = lambda line: None,
) -> ScanResult:
    """Search, for every class, the smallest trigger that leads clean images to it, and say whether a class
    needs a far smaller one than the others, or has a far greater margin in some image (``margins``). Half of
    the images are searched on, the others measure.

    After Neural Cleanse (Wang et al., S&P 2019), with added and blended triggers beside patches; and what is
    suspected is asked again of a copy without the few channels that its trigger works through: a backdoor
    is gone then, a class that is easy by nature mostly is not.

    Args:
        net: from ``load`` or ``from_module``; left as found.
        clean: clean images with labels: ``(x, y)`` arrays or tensors, a ``Split``, whose poisoned images are
            not looked at, or ``LabeledImages``.
        classes: those to search; None for all. Sizes are compared among them, so few tell little.
        kinds: of triggers: ``patch`` covers some pixels, ``blend`` mixes a picture into the image, ``add``
            adds a pattern.
        seed: of the choice of images, of starts and batches.
        images: at most so many are used, drawn at random.
        out: a folder for ``scan.json``, the triggers (``.npz`` and PNG) and finished searches: the same call
            goes on where it was stopped.
        tell: called with what is being done and the fraction that is done.
        say: called with a line for people: beforehand, how long it will take.

    Raises:
        InputError: images that do not fit the network or are too few, a class or kind that is not there.
    """
    stages = stages_of(net, clean, classes=classes, kinds=kinds, seed=seed, images=images, out=out, tell=tell)
    result = stages.result(_images(clean), say)
    if out is not None:
        folder, held = Path(out), stages.held
        files = tuple(t.save(folder, held.pixels[0].astype(np.float32)) for t in result.triggers)
        result = replace(result, files=files)
        write_whole(folder / "scan.json", (json.dumps(result.to_json(), indent=1) + "\n").encode())
    return result


def stages_of(
    net: PrunableModel,
    clean: Any,
    *,
    classes: Sequence[int] | None = None,
    kinds: Sequence[str] = KINDS,
    seed: int = 0,
    images: int = 300,
    out: str | Path | None = None,
    tell: Tell = lambda doing, share: None,
) -> Stages:
    """What ``scan`` goes through, its arguments checked; nothing is searched yet. Raises InputError."""
    if not isinstance(net, PrunableModel):
        raise InputError(f"net is a {type(net).__name__}; expected what goodnet.load(path) returns")
    given = _images(clean)
    net = net.at(given.shape)
    count = net.check_images(given.shape, given.name)
    targets = _targets(classes, count, net.name)
    if not kinds or isinstance(kinds, str) or set(kinds) - set(KINDS):
        raise InputError(f"kinds {kinds!r}: expected {', '.join(KINDS)}, or some of them")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected a whole number, 0 or more")
    if int(given.labels.max()) >= count:
        raise InputError(
            f"{given.name}: labels hold {int(given.labels.max())}, but {net.name} has {count} classes"
        )
    sought, held = _halves(given, images, seed)
    raw = _raw_span(given)
    windows = len(windows_of(*given.shape[1:]))
    plan = Plan(targets, tuple(kinds), len(sought), len(targets) > SCREENED, windows)
    searches = Searches(
        net,
        sought,
        tensor_of(sought, net.device),
        torch.tensor(sought.labels, device=net.device),
        _span(raw, given, net),
        seed,
        None if out is None else Path(out) / "searches",
    )
    return Stages(searches, held, raw, count, plan, tell)


def _images(clean: Any) -> LabeledImages:
    if isinstance(clean, LabeledImages):
        return clean
    if isinstance(clean, Split):
        return clean.clean
    if isinstance(clean, tuple) and len(clean) == 2:
        pixels = checked_pixels(clean[0], "clean")
        return LabeledImages(pixels, checked_labels(clean[1], "labels", len(pixels)), None, "clean")
    raise InputError(f"clean is a {type(clean).__name__}; expected (images, labels), or a Split")


def _targets(classes: Sequence[int] | None, count: int, name: str) -> tuple[int, ...]:
    if classes is None:
        return tuple(range(count))
    for one in classes:
        if isinstance(one, bool) or not isinstance(one, (int, np.integer)) or not 0 <= one < count:
            raise InputError(f"class {one!r}: {name} has classes 0 to {count - 1}")
    found = tuple(sorted({int(one) for one in classes}))
    if not found:
        raise InputError("no class to search; expected one or more")
    return found


def _halves(given: LabeledImages, images: int, seed: int) -> tuple[LabeledImages, LabeledImages]:
    if isinstance(images, bool) or not isinstance(images, int) or images < 2 * FEWEST:
        raise InputError(f"images is {images!r}; expected a whole number, {2 * FEWEST} or more")
    if len(given) < 2 * FEWEST:
        raise InputError(f"{given.name}: {len(given)} clean images; a scan needs {2 * FEWEST} or more")
    drawn = np.random.default_rng(seed).permutation(len(given))[:images]
    half = len(drawn) // 2
    return given.keeping(np.sort(drawn[:half])), given.keeping(np.sort(drawn[half:]))


def _raw_span(given: LabeledImages) -> np.ndarray:
    """(C, 2) lowest and highest raw pixel: black and white where they can be told, else what is seen."""
    try:
        white = white_of(given.pixels, given.name)
        return np.tile(np.array([0.0, white], np.float32), (given.shape[0], 1))
    except InputError:
        low, high = (f(given.pixels, axis=(0, 2, 3)) for f in (np.min, np.max))
        return np.stack([low, high], axis=1).astype(np.float32)


def _span(raw: np.ndarray, given: LabeledImages, net: PrunableModel) -> Span:
    ends = [given.preprocessing(raw[None, :, side, None, None])[0] for side in (0, 1)]
    low, high = (torch.from_numpy(np.ascontiguousarray(e)).to(net.device) for e in ends)
    return low, high
