"""What ``goodnet init`` leaves: the images of both splits, and a configuration with comments."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.data.form import Preprocessing
from prune_core.data.images import LabeledImages
from prune_core.errors import InputError
from prune_core.files.write import written_whole


@dataclass(frozen=True)
class Chosen:
    """What stands in the configuration. Places are paths or lists of them, as the configuration has them."""

    model: Path
    architecture: str | None
    architecture_args: Mapping[str, Any]
    clean: Mapping[str, Path]
    poisoned: Mapping[str, list[Path]]
    trigger: Mapping[str, Any] | None
    preprocessing: Preprocessing
    orders: list[str]
    layer_sets: list[str]
    screen: int | None
    remarks: Mapping[str, str]  # by the place where they stand


def write_images(path: Path, images: LabeledImages, poisoned: bool) -> None:
    """``.npz`` with ``images`` (N, C, H, W) and ``label``; ``true_label`` where it is known. Raises
    InputError when it cannot be written."""
    fields = {"images": images.pixels, "label": images.labels}
    if poisoned and images.true_labels is not None:
        fields["true_label"] = images.true_labels
    with written_whole(path) as file:
        np.savez(file, **fields)  # type: ignore[arg-type]


def yaml_of(chosen: Chosen) -> str:
    """The configuration, with comments that say where each value comes from."""
    say = {place: text.partition(": ")[2] for place, text in chosen.remarks.items()}
    lines = [
        "# Written by goodnet init. A sweep tries orders x layer sets x X x policies.",
        "# docs/configuration.md explains every key, docs/methods.md what can be chosen.",
        f"badnet: {_value(str(chosen.model))}",
    ]
    if chosen.architecture is not None:
        lines.append(f"architecture: {_value(chosen.architecture)}")
    if chosen.architecture_args:
        lines.append(f"architecture_args: {_value(dict(chosen.architecture_args))}")
    lines += ["data:", *_comment(chosen.remarks["split"], 2)]
    for split in ("valid", "test"):
        lines.append(f"  clean_{split}: {_value(str(chosen.clean[split]))}")
        if chosen.poisoned:
            places = [str(path) for path in chosen.poisoned[split]]
            lines.append(f"  poisoned_{split}: {_value(places[0] if len(places) == 1 else places)}")
    if chosen.trigger is not None:
        lines += [*_comment(chosen.remarks["target"], 2), f"  trigger: {_value(dict(chosen.trigger))}"]
    else:
        lines += _comment(chosen.remarks["target"], 2)
    done = chosen.preprocessing
    lines += [
        "  layout: NCHW",
        *_comment(f"the network gets (pixels x scale - mean) / std; {say['preprocessing']}", 2),
        f"  scale: {done.scale!r}",
    ]
    if done.normalizes:
        lines += [f"  mean: {_value(list(done.mean))}", f"  std: {_value(list(done.std))}"]
    lines += [
        "sweep:",
        f"  orders: {_value(chosen.orders)}  # how channels are ranked",
        f"  layer_sets: {_value(chosen.layer_sets)}  # {say['layers']}",
        "  x_thresholds: [2, 4, 10]  # points of clean accuracy that a trial may cost",
        "  policies: [margin, best-first]  # margin is quick, best-first looks further",
    ]
    if chosen.screen is not None:
        lines.append(f"  screen: {chosen.screen}  # asked about at a time; a gradient chooses them")
    lines.append("storage: runs")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: int) -> Iterable[str]:
    """Lines of at most about 110 letters."""
    words, line = text.split(), " " * indent + "#"
    for word in words:
        if len(line) + len(word) > 108 and not line.endswith("#"):
            yield line
            line = " " * indent + "#"
        line += f" {word}"
    yield line


def _value(value: Any) -> str:
    """JSON, which YAML reads as it is; plain words stand without quotes. ``${`` would be an interpolation."""
    if isinstance(value, str) and "${" in value:
        raise InputError(f"{value}: a path with ${{ in it cannot stand in a configuration; rename it")
    if isinstance(value, str) and value.replace("/", "a").replace(".", "a").replace("_", "a").isalpha():
        return value
    return json.dumps(value, ensure_ascii=False)
