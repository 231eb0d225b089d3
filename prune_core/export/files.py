"""A GoodNet in every format, each file read back and measured again."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from prune_core.compaction.compact import Compacted, compact
from prune_core.counts import Counts
from prune_core.data.form import Preprocessing
from prune_core.data.images import LabeledImages
from prune_core.errors import ExportMismatch
from prune_core.evaluation.numerics import ExactNet
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.cost import latencies, multiply_adds, parameters
from prune_core.export.n_plus_one import GoodNetCounts, goodnet_classes
from prune_core.export.n_plus_one_onnx import pair_onnx
from prune_core.export.narrowed import in_float32
from prune_core.export.outside import (
    Outside,
    ProgramMismatch,
    RuntimeLacks,
    loaded,
    measured_outside,
    onnx_runtime_version,
)
from prune_core.export.pt2 import NotExported, exported
from prune_core.export.safetensors import safetensors_bytes, state_bytes, with_safetensors
from prune_core.export.state_dict import NoStateDict, loaded_state, pruned_state
from prune_core.export.zeroed import verified, write_goodnet
from prune_core.files.onnx_read import read_onnx
from prune_core.files.write import write_whole
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, build_model, load_model, read_proto
from prune_core.torch_nets.source import TorchSource

_log = logging.getLogger(__name__)
# What the kinds of files are, for people; in the order in which they are listed.
FORMATS = {
    "onnx": "the pruned network, channels zeroed",
    "small-onnx": "the same function, pruned channels removed",
    "pt2": "the small network as a program that torch loads alone: images to logits",
    "goodnet-onnx": "BadNet and pruned network side by side: N + 1 classes, the last is 'backdoored'",
    "keras": "the pruned network, in the BadNet's own format",
    "safetensors": "its weights, by their names in the .onnx file",
}
STATE_DICT = "its state_dict: your module takes it by load_state_dict(..., strict=True)"


@dataclass(frozen=True)
class Written:
    """The files of one GoodNet.

    Attributes:
        models: kind (of ``FORMATS``) -> file.
        mask: JSON: pruned channels, what became of biases, digest of the BadNet.
        pruned: what the mask has to say.
        mask_alone: the GoodNet is the BadNet with the mask; no weights were changed beside.
        small: what compaction did.
        image: (C, H, W) for which the small net was made.
        source: the module whose state_dict the safetensors file is; None where it holds ONNX's names.
        left_out: kind -> why there is no such file, in words.
        unseen: kind -> why the library that others load it with cannot run such a network at all.
    """

    models: dict[str, Path]
    mask: Path
    pruned: ChannelMask
    mask_alone: bool
    small: Compacted
    image: tuple[int, int, int]
    source: TorchSource | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)

    def what(self, kind: str) -> str:
        """What a kind of file is, for people."""
        return STATE_DICT if kind == "safetensors" and self.source is not None else FORMATS[kind]

    def remove(self) -> None:
        """Take the models away: they are not what they should be."""
        for path in self.models.values():
            path.unlink(missing_ok=True)


def write_formats(
    model: PrunableModel,
    mask: ChannelMask,
    badnet_path: Path | None,
    destination: Path,
    image: tuple[int, int, int],
    architecture: str | None = None,
    preprocessing: Preprocessing | None = None,
) -> Written:
    """``export.write_goodnet``, and beside it ``<destination>-small.onnx``,
    ``<destination>-goodnet.onnx`` and ``<destination>.safetensors``, each whole or not at all.

    ``image`` is (C, H, W) of the images; ``badnet_path`` is None for a network without changed weights
    whose file is not at hand; ``preprocessing`` stands in the files' metadata. Raises InputError as
    ``write_goodnet`` does.
    """
    first, *others, mask_path = write_goodnet(
        model, mask, badnet_path, destination, architecture, preprocessing
    )
    pruned = read_onnx(first)
    badnet = model.proto
    if model.source is not None:
        badnet = model.source.proto
    elif model.weights and badnet_path is not None:
        badnet = read_proto(badnet_path, architecture)
    small = compact(pruned, as_input(model, image))
    pair = pair_onnx(in_float32(badnet), pruned)
    models = {"onnx": first}
    if others:
        (models["keras"],) = others
    source, weights = model.source, b""
    try:
        weights = state_bytes(pruned_state(model, mask), pruned)
    except NoStateDict as error:
        if source is not None:
            _log.warning("%s: not written under the module's own names: %s", destination.name, error)
        source, weights = None, safetensors_bytes(pruned)
    for kind, name, data in (
        ("small-onnx", f"{destination.name}-small.onnx", small.proto.SerializeToString()),
        ("goodnet-onnx", f"{destination.name}-goodnet.onnx", pair.SerializeToString()),
        ("safetensors", f"{destination.name}.safetensors", weights),
    ):
        models[kind] = destination.with_name(name)
        write_whole(models[kind], data)
    in_order = {k: models[k] for k in FORMATS if k in models}
    return Written(in_order, mask_path, mask, not model.weights, small, image, source)


def with_program(written: Written) -> Written:
    """Beside ``<destination>-small.onnx`` the same as ``<destination>-small.pt2``, where torch can export it;
    elsewhere ``left_out`` says why. Raises InputError when it cannot be written."""
    path = written.models["small-onnx"].with_suffix(".pt2")
    try:
        write_whole(path, exported(written.small.proto, written.image))
    except NotExported as why:
        return replace(written, left_out={**written.left_out, "pt2": str(why)})
    models = {**written.models, "pt2": path}
    return replace(written, models={k: models[k] for k in FORMATS if k in models})


def as_input(model: PrunableModel, image: tuple[int, int, int]) -> tuple[int, int, int]:
    """(C, H, W) in the order of axes that the network's input has."""
    channels, height, width = image
    return (height, width, channels) if model.channels_last else image


def measured_again(
    written: Written,
    badnet: PlainEvaluator,
    expected: Counts,
    architecture: str | None = None,
    outside: Outside | None = None,
) -> dict[str, dict[str, Any]]:
    """What each file does on ``badnet.split``, read from disk: kind -> counts and rates as JSON. The
    mask is read too, and where it alone makes the GoodNet, the BadNet is counted under it.

    With ``outside`` (see ``elsewhere``) what its files do in the libraries that others load them with is
    measured as well, and told under ``outside``; a ``.pt2`` is measured there alone.

    Raises ExportMismatch when a file does not do what it should: ``expected``, or for the N+1-class
    net the class where the nets of the other files agree and N where they do not.
    """
    found: dict[str, dict[str, Any]] = {}
    pruned = load_model(written.models["onnx"])
    for kind, path in written.models.items():
        if kind == "pt2":
            continue
        if kind == "goodnet-onnx":
            found[kind] = _verified_pair(path, badnet, PlainEvaluator(pruned, badnet.split))
            continue
        read = None
        if kind == "safetensors":
            if written.source is not None:
                read = loaded_state(written.source, path)
                found[kind] = verified(path, None, badnet, expected, read).to_json()
                continue
            proto = with_safetensors(pruned.proto, path)
            read = build_model(proto, pruned.digest, path.name)
        found[kind] = verified(path, architecture, badnet, expected, read).to_json()
    _verify_mask(written, badnet, expected)
    for kind, seen in measured_outside(outside, pruned, badnet, expected).items() if outside else ():
        counts = {} if seen.counts is None else seen.counts.to_json()
        found[kind] = {**found.get(kind, counts), "outside": seen.to_json()}
    for kind, why in written.unseen.items():
        found[kind]["outside"] = {"runtime": f"ONNX Runtime {onnx_runtime_version()}", "cannot": why}
    return {kind: found[kind] for kind in written.models if kind in found}


def measured_everywhere(
    written: Written,
    splits: Mapping[str, tuple[PlainEvaluator, Counts]],
    architecture: str | None = None,
) -> tuple[Written, dict[str, dict[str, dict[str, Any]]]]:
    """``measured_again`` on each split, here and ``elsewhere``: what counts as written, and split -> kind ->
    counts. A `.pt2` that torch alone does not load, or that does something else there, does not count: it is
    removed, and ``left_out`` says why.

    Args:
        splits: name -> evaluator of the BadNet, and what the pruned network does.

    Raises:
        ExportMismatch: another file does not do what it should; then no model file is left.
    """
    while True:
        try:
            with elsewhere(written) as outside:
                return written, {
                    name: measured_again(written, badnet, expected, architecture, outside)
                    for name, (badnet, expected) in splits.items()
                }
        except RuntimeLacks as why:
            written = replace(written, unseen={**written.unseen, why.kind: why.says})
        except ProgramMismatch as why:
            path = written.models["pt2"]
            path.unlink(missing_ok=True)
            models = {kind: file for kind, file in written.models.items() if kind != "pt2"}
            said = str(why).removeprefix(f"{path}: ")
            written = replace(written, models=models, left_out={**written.left_out, "pt2": said})
        except ExportMismatch:
            written.remove()
            raise


@contextmanager
def elsewhere(written: Written) -> Iterator[Outside]:
    """The files as others load them, in a process of its own: `.onnx` in ONNX Runtime, where it is installed,
    and `.pt2` in torch. Raises ExportMismatch where one cannot be loaded."""
    kinds = ["onnx", "small-onnx", "goodnet-onnx"] if onnx_runtime_version() is not None else []
    models = {k: p for k, p in written.models.items() if k in (*kinds, "pt2") and k not in written.unseen}
    last = load_model(written.models["onnx"]).channels_last
    with loaded(models, kinds if last else ()) as outside:
        yield outside


def _verify_mask(written: Written, badnet: PlainEvaluator, expected: Counts) -> None:
    try:
        found = ChannelMask.from_json(json.loads(written.mask.read_bytes()))
    except ValueError as error:  # of JSON, or an InputError
        raise ExportMismatch(f"{written.mask}: read back, it is not a mask: {error}") from None
    if found != written.pruned:
        raise ExportMismatch(
            f"{written.mask}: read back, it names other channels than those that were pruned"
        )
    if written.mask_alone and badnet.counts(found).with_margins_of(expected) != expected:
        raise ExportMismatch(
            f"{written.mask}: the BadNet with this mask does not do what the pruned network did"
        )


def _verified_pair(path: Path, badnet: PlainEvaluator, pruned: PlainEvaluator) -> dict[str, Any]:
    net, split = load_model(path), badnet.split
    backdoored = net.check_images(split.clean.shape, split.clean.name) - 1
    said = {}
    for images in (split.clean, split.poisoned):
        one, other = (e.reply(images, ChannelMask()).classes for e in (badnet, pruned))
        wanted = goodnet_classes(one, other, backdoored)
        classes = _classes(net, images, badnet.batch)
        differ = classes != wanted
        if differ.any():  # a near tie between two logits within may be all: float64 decides those
            exact = ExactNet(net).reply(images.keeping(differ), ChannelMask())
            classes[differ] = exact.classes
        if wrong := int((classes != wanted).sum()):
            raise ExportMismatch(
                f"{path}: {wrong} of {len(images)} images of {images.name} get another class than "
                "BadNet and pruned net give them together"
            )
        said[images is split.clean] = classes
    counts = GoodNetCounts.of(split, said[True], said[False], backdoored)
    right, attacked, caught = counts.rates()
    return {
        "clean_correct": right.hits,
        "clean_total": right.total,
        "clean_accuracy": right.rate,
        "clean_accuracy_interval": right.interval,
        "attacked": attacked.hits,
        "poisoned_total": attacked.total,
        "attack_success": attacked.rate,
        "attack_success_interval": attacked.interval,
        "detected": caught.hits,
        "detected_poisoned": caught.rate,
        "detected_interval": caught.interval,
        **counts.triggers_json(),
    }


def _classes(net: PrunableModel, images: LabeledImages, batch: int) -> np.ndarray:
    """(N,) int64, in float32."""
    found = []
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images.floats(start, min(start + batch, len(images))))
        found.append(net.logits(pixels.to(net.device)).argmax(dim=1).cpu().numpy())
    return np.concatenate(found)


def costs(written: Written, seconds: float = 0.3) -> dict[str, Any]:
    """Before (channels zeroed, which costs what the BadNet costs) and after compaction: parameters,
    multiply-adds for one image, bytes of the file, milliseconds for 1 and for 64 images in torch on
    this machine; and which convolutions kept constants, and why."""
    kinds = {"pruned": "onnx", "small": "small-onnx"}
    nets = {name: load_model(written.models[kind]) for name, kind in kinds.items()}
    times = {n: latencies(list(nets.values()), written.image, n, seconds) for n in (1, 64)}
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "device": "cpu"}
    for place, (name, net) in enumerate(nets.items()):
        proto: onnx.ModelProto = net.proto
        found[name] = {
            "parameters": parameters(proto),
            "multiply_adds": multiply_adds(proto, as_input(net, written.image)),
            "bytes": written.models[kinds[name]].stat().st_size,
            "latency_ms": times[1][place],
            "latency_ms_64": times[64][place],
        }
    small = written.small
    found["channels_removed"] = small.removed
    found["held_back"] = {
        layer: {reason: sorted(c for c, r in why.items() if r == reason) for reason in why.values()}
        for layer, why in small.held_back.items()
    }
    return found
