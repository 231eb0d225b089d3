"""One network by one exporter, through all that the product does with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from families import logits_of, with_channels_gone
from torch import nn

from prune_core.data.images import Split
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import measured_again, write_formats
from prune_core.export.n_plus_one import goodnet_classes
from prune_core.incremental.evaluator import IncrementalEvaluator
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, load_model


def random_mask(model: PrunableModel, seed: int, layers: int = 3, share: float = 0.2) -> ChannelMask:
    """A share of the channels of some layers."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(model.layers), min(layers, len(model.layers)), replace=False)
    return ChannelMask.of(
        {
            model.layers[i].name: rng.choice(
                model.layers[i].channels, max(1, int(share * model.layers[i].channels)), replace=False
            ).tolist()
            for i in chosen
        }
    )


def by_runtime(path: Path, images: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(path)
    given = session.get_inputs()[0]
    at_once = given.shape[0] if isinstance(given.shape[0], int) else len(images)
    parts = [images[i : i + at_once] for i in range(0, len(images), at_once)]
    made: np.ndarray = np.concatenate([session.run(None, {given.name: part})[0] for part in parts])
    return made


def floats(split: Split) -> np.ndarray:
    """(n, C, H, W): clean images, then poisoned ones."""
    return np.concatenate([part.floats(0, len(part)) for part in (split.clean, split.poisoned)])


def clear(logits: np.ndarray) -> np.ndarray:
    """(n,) bool: the class is no near tie."""
    top = np.sort(logits, axis=1)[:, -2:]
    found: np.ndarray = top[:, 1] - top[:, 0] > 1e-3
    return found


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4 * max(1.0, float(np.abs(wanted).max())))


def check_network(net: nn.Module, side: int, path: Path, split: Split, counted: Split) -> dict[str, int]:
    """Raises AssertionError where anything differs. Returns what was looked at.

    Classes of ``split`` as the module has them. On ``counted``, fewer images: counts of both evaluators
    under three masks; the pruned network as the module with those channels zero; every file that is
    written, in ONNX Runtime.
    """
    model = load_model(path)
    said = PlainEvaluator(model, split)
    found = np.concatenate(
        [said.reply(part, ChannelMask()).classes for part in (split.clean, split.poisoned)]
    )
    np.testing.assert_array_equal(found, logits_of(net, floats(split)).argmax(axis=1))
    plain, fast = PlainEvaluator(model, counted), IncrementalEvaluator(model, counted)
    images = floats(counted)
    masks = [random_mask(model, seed) for seed in range(3)]
    place = {layer.name: number for number, layer in enumerate(model.layers)}
    for mask in masks:
        assert fast.counts(mask) == plain.counts(mask)
        twin = with_channels_gone(net, side, {place[n]: rows for n, rows in mask.by_layer().items()})
        gone = logits_of(twin, images)
        with model.pruned(mask), torch.no_grad():
            close(model.logits(torch.from_numpy(images)).numpy(), gone)
    mask = masks[-1]
    written = write_formats(model, mask, path, path.parent / "good", (3, side, side))
    measured_again(written, plain, plain.counts(mask))
    for kind in ("onnx", "small-onnx"):
        close(by_runtime(written.models[kind], images), gone)
    both = by_runtime(written.models["goodnet-onnx"], images).argmax(axis=1)
    whole = logits_of(net, images)
    agreed = goodnet_classes(whole.argmax(axis=1), gone.argmax(axis=1), whole.shape[1])
    sure = clear(whole) & clear(gone)
    np.testing.assert_array_equal(both[sure], agreed[sure])
    return {
        "convolutions": len(model.layers),
        "images": len(found),
        "counted": len(images),
        "classes": len(np.unique(found)),
        "pruned": len(mask),
        "removed": written.small.channels_removed,
    }
