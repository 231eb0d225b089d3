"""One network by one exporter, through all that the product does with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
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
    name = session.get_inputs()[0].name
    made: np.ndarray = session.run(None, {name: images})[0]
    return made


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4 * max(1.0, float(np.abs(wanted).max())))


def check_network(net: nn.Module, side: int, path: Path, split: Split) -> dict[str, int]:
    """Raises AssertionError where anything differs. Returns what was looked at.

    Classes as the module has them; counts of both evaluators under three masks; the pruned network as
    the module with those channels zero; every file that is written, in ONNX Runtime.
    """
    model = load_model(path)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    images = np.concatenate(
        [split.clean.floats(0, len(split.clean)), split.poisoned.floats(0, len(split.poisoned))]
    )
    empty = ChannelMask()
    found = np.concatenate([plain.reply(part, empty).classes for part in (split.clean, split.poisoned)])
    wanted = logits_of(net, images)
    np.testing.assert_array_equal(found, wanted.argmax(axis=1))
    masks = [random_mask(model, seed) for seed in range(3)]
    place = {layer.name: number for number, layer in enumerate(model.layers)}
    for mask in masks:
        assert fast.counts(mask) == plain.counts(mask)
        twin = with_channels_gone(net, side, {place[n]: rows for n, rows in mask.by_layer().items()})
        with model.pruned(mask), torch.no_grad():
            close(model.logits(torch.from_numpy(images)).numpy(), logits_of(twin, images))
    mask = masks[-1]
    written = write_formats(model, mask, path, path.parent / "good", (3, side, side))
    measured_again(written, plain, plain.counts(mask))
    gone = logits_of(twin, images)
    for kind in ("onnx", "small-onnx"):
        onnx.checker.check_model(str(written.models[kind]))
        close(by_runtime(written.models[kind], images), gone)
    both = by_runtime(written.models["goodnet-onnx"], images).argmax(axis=1)
    sure = np.array([np.ptp(np.sort(row)[-2:]) > 1e-3 for row in np.minimum(wanted, 1e9)]) & np.array(
        [np.ptp(np.sort(row)[-2:]) > 1e-3 for row in gone]
    )
    agreed = goodnet_classes(wanted.argmax(axis=1), gone.argmax(axis=1), wanted.shape[1])
    np.testing.assert_array_equal(both[sure], agreed[sure])
    return {
        "convolutions": len(model.layers),
        "images": len(images),
        "classes": len(np.unique(found)),
        "pruned": len(mask),
        "removed": written.small.channels_removed,
    }
