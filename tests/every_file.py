"""One network by one way in, through all that the product does with it."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from families import logits_of, with_channels_gone
from safetensors.torch import load_file
from torch import nn

from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import Written, measured_again, write_formats
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


def clear(logits: np.ndarray, blur: np.ndarray | float = 0.0) -> np.ndarray:
    """(n,) bool: the class is no near tie. ``blur``: see ``blur_of``."""
    top = np.sort(logits, axis=1)[:, -2:]
    found: np.ndarray = top[:, 1] - top[:, 0] > np.maximum(1e-3, 2 * np.ravel(blur))
    return found


def close(found: np.ndarray, wanted: np.ndarray, blur: Callable[[], np.ndarray]) -> None:
    """Logits (n, classes) are equal but for rounding. ``blur`` is asked where they are not at first sight."""
    apart = np.abs(found - wanted)
    bound: Any = 2e-4 * max(1.0, float(np.abs(wanted).max()))
    if not (apart <= bound).all():
        bound = np.maximum(bound, blur())
    assert (apart <= bound).all(), f"logits differ by {(apart - bound).max():.3g} more than rounding explains"


def blur_of(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """(n, 1) float64: how far rounding to float32 may move the logits of each image.

    Measured: each weight moves by up to half a unit in the last place of float32 (6e-8 of it), three times at
    random. Rounding what stands between layers, too, moved logits up to 10 times as far (EfficientNet
    v2-s), so it is 20 times the largest move.
    """
    wanted, moves = logits_of(net, images), []
    for seed in range(3):
        dice = torch.Generator().manual_seed(seed)
        moved = copy.deepcopy(net).double()
        for values in moved.state_dict().values():
            if values.is_floating_point():
                share = torch.rand(values.shape, generator=dice, dtype=torch.float64)
                values.mul_(1 + 6e-8 * (2 * share - 1))
        moves.append(np.abs(logits_of(moved, images) - wanted))
    found: np.ndarray = 20 * np.max(moves, axis=(0, 2))[:, None]
    return found


CHECKS = ("read", "classes", "counts", "pruned", "compaction", "files")


class Checks:
    """What a table of networks has a column for, in turn. Each raises AssertionError where anything
    differs, or what the product raises.

    Classes of ``split`` as the module has them. On ``counted``, fewer images: counts of both evaluators
    under three masks; the pruned network as the module with those channels zero; every file that is
    written, in ONNX Runtime.
    """

    model: PrunableModel
    plain: PlainEvaluator
    written: Written

    def __init__(
        self,
        net: nn.Module,
        side: int,
        given: Path | tuple[Path, dict[str, Any]],
        split: Split,
        counted: Split,
    ) -> None:
        """``given``: a file, or with what ``load_model`` has to be told beside it."""
        self.net, self.side, self.split, self.counted = net, side, split, counted
        self.path, self.told_of_it = given if isinstance(given, tuple) else (given, {})
        self.images = floats(counted)

    def __iter__(self) -> Iterator[tuple[str, Callable[[], None]]]:
        for name in CHECKS:
            yield name, getattr(self, name)

    def read(self) -> None:
        self.model = load_model(self.path, **self.told_of_it)
        self.masks = [random_mask(self.model, seed) for seed in range(3)]

    def classes(self) -> None:
        said = PlainEvaluator(self.model, self.split)
        parts = (self.split.clean, self.split.poisoned)
        self.found = np.concatenate([said.reply(part, ChannelMask()).classes for part in parts])
        wanted = logits_of(self.net, floats(self.split))
        np.testing.assert_array_equal(self.found, wanted.argmax(axis=1))

    def counts(self) -> None:
        self.plain = PlainEvaluator(self.model, self.counted)
        fast = IncrementalEvaluator(self.model, self.counted)
        for number, mask in enumerate(self.masks):
            one, other = fast.counts(mask), self.plain.counts(mask)
            off = abs(one.clean_correct - other.clean_correct) + abs(one.attacked - other.attacked)
            assert one == other, f"under mask {number} they differ by {off} of {len(self.images)} images"

    def pruned(self) -> None:
        place = {layer.name: number for number, layer in enumerate(self.model.layers)}
        for mask in self.masks:
            rows = {place[name]: rows for name, rows in mask.by_layer().items()}
            self.without = with_channels_gone(self.net, self.side, rows)
            self.gone = logits_of(self.without, self.images)
            exact = replace(self.model, graph=copy.deepcopy(self.model.graph).double())
            with exact.pruned(mask), torch.no_grad():
                close(exact.logits(torch.from_numpy(self.images).double()).numpy(), self.gone, self.blur)

    def blur(self) -> np.ndarray:
        """Of the network that was pruned last."""
        return blur_of(self.without, self.images)

    def compaction(self) -> None:
        image = (3, self.side, self.side)
        destination = self.path.parent / "good"
        self.written = write_formats(self.model, self.masks[-1], self.path, destination, image)
        close(by_runtime(self.written.models["small-onnx"], self.images), self.gone, self.blur)

    def files(self) -> None:
        expected = self.plain.counts(self.masks[-1])
        measured_again(self.written, self.plain, expected)
        close(by_runtime(self.written.models["onnx"], self.images), self.gone, self.blur)
        both = by_runtime(self.written.models["goodnet-onnx"], self.images).argmax(axis=1)
        if self.told_of_it:  # a state_dict: it goes back into the module
            twin = copy.deepcopy(self.net)
            state: Any = OrderedDict(load_file(self.written.models["safetensors"]))
            state._metadata = twin.state_dict()._metadata  # torchvision's MnasNet reads its version there
            twin.load_state_dict(state, strict=True)
            close(logits_of(twin, self.images), self.gone, self.blur)
        whole = logits_of(self.net, self.images)
        agreed = goodnet_classes(whole.argmax(axis=1), self.gone.argmax(axis=1), whole.shape[1])
        sure = clear(whole, blur_of(self.net, self.images)) & clear(self.gone, self.blur())
        assert sure.mean() > 0.5
        np.testing.assert_array_equal(both[sure], agreed[sure])

    def told(self) -> dict[str, int]:
        """What was looked at, when all have passed."""
        return {
            "convolutions": len(self.model.layers),
            "images": len(self.found),
            "counted": len(self.images),
            "classes": len(np.unique(self.found)),
            "pruned": len(self.masks[-1]),
            "removed": self.written.small.channels_removed,
        }


def check_network(
    net: nn.Module, side: int, given: Path | tuple[Path, dict[str, Any]], split: Split, counted: Split
) -> dict[str, int]:
    """All ``Checks``; what was looked at."""
    checks = Checks(net, side, given, split, counted)
    for _, check in checks:
        check()
    return checks.told()


def check_file(path: Path, images: np.ndarray, kind: str = "float32") -> PrunableModel:
    """A file of which ONNX Runtime alone says what is right: classes, counts of both evaluators under
    masks, every file that is written. ``kind``: of numbers, as the file wants them."""
    given = images.astype(kind)
    whole = by_runtime(path, given)
    half = len(images) // 2
    labels = whole.argmax(axis=1)
    target = int(np.bincount(labels[half:]).argmax())
    split = make_split(
        LabeledImages(images[:half], labels[:half], name="clean"),
        LabeledImages(images[half:], np.full(len(images) - half, target), name="poisoned"),
    )
    model = load_model(path)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    replies = [plain.reply(part, ChannelMask()).classes for part in (split.clean, split.poisoned)]
    np.testing.assert_array_equal(np.concatenate(replies), labels)
    for seed in range(2):
        mask = random_mask(model, seed)
        counts = plain.counts(mask)
        assert fast.counts(mask) == counts
    written = write_formats(model, mask, path, path.with_name("good"), tuple(images.shape[1:]))  # type: ignore[arg-type]
    measured_again(written, plain, counts)
    one, other = (by_runtime(written.models[k], given) for k in ("onnx", "small-onnx"))
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-3 if kind != "float16" else 1e-1)
    by_runtime(written.models["goodnet-onnx"], given)
    return model
