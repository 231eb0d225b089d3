"""Files of a GoodNet, loaded as other people load them: in ONNX Runtime and in torch alone, by a process that
knows nothing of goodnet."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from prune_core.counts import Counts
from prune_core.data.images import LabeledImages
from prune_core.errors import ExportMismatch
from prune_core.evaluation.numerics import TIE, ExactNet, decided
from prune_core.evaluation.plain import PlainEvaluator, count
from prune_core.export.n_plus_one import goodnet_classes
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel

# Two logits so near each other, relative to the largest, may change places from one library to the next;
# a library that computes in float16 has three digits.
OTHER_TIE = 2e-4
HALF_TIE = 3e-2
WAIT_SECONDS = 600.0  # for one answer, on a busy machine
BATCH = 128
PROGRAM = Path(__file__).with_name("outside_run.py")


def onnx_runtime_version() -> str | None:
    """None where it is not installed; then `.onnx` files are measured in torch alone."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    from importlib.metadata import PackageNotFoundError, version

    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(PackageNotFoundError):
            return version(name)
    return "unknown"


class ProgramMismatch(ExportMismatch):
    """A `.pt2` is not what it should be."""


class RuntimeLacks(ExportMismatch):
    """ONNX Runtime has no implementation of what a network needs, whoever wrote the file."""

    def __init__(self, kind: str, says: str) -> None:
        super().__init__(says)
        self.kind, self.says = kind, says


def _mismatch(path: Path, says: str) -> ExportMismatch:
    return (ProgramMismatch if path.suffix == ".pt2" else ExportMismatch)(f"{path}: {says}")


class Outside:
    """A process in which models have been loaded."""

    def __init__(self, process: subprocess.Popen[bytes], models: Mapping[str, Path]) -> None:
        self._process = process
        self.models = models

    def classes(self, images: LabeledImages) -> dict[str, np.ndarray]:
        """Kind -> (N,) int64, the class of every image. Raises ExportMismatch where a model cannot be run."""
        found: dict[str, list[int]] = {kind: [] for kind in self.models}
        for start in range(0, len(images), BATCH):
            pixels = np.ascontiguousarray(images.floats(start, min(start + BATCH, len(images))), np.float32)
            said = self._ask(json.dumps({"shape": pixels.shape}).encode() + b"\n" + pixels.tobytes())
            for kind, classes in said.items():
                found[kind] += classes
        return {kind: np.array(classes, np.int64) for kind, classes in found.items()}

    def _ask(self, data: bytes) -> dict[str, Any]:
        stopped = threading.Timer(WAIT_SECONDS, self._process.kill)
        stopped.start()
        try:
            assert self._process.stdin is not None and self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(data)
                self._process.stdin.flush()
            line = self._process.stdout.readline()
        finally:
            stopped.cancel()
        if not line:
            status = self._process.wait()
            names = ", ".join(path.name for path in self.models.values())
            raise ExportMismatch(f"a process of its own that loads {names} ended with status {status}")
        said: dict[str, Any] = json.loads(line)
        if "error" in said:
            path = self.models[said["kind"]]
            if path.suffix == ".onnx" and said["error"].startswith("NotImplemented:"):
                raise RuntimeLacks(said["kind"], said["error"])
            where = "ONNX Runtime" if path.suffix == ".onnx" else "torch"
            raise _mismatch(path, f"{where} cannot run it: {said['error']}")
        return said


@contextlib.contextmanager
def loaded(models: Mapping[str, Path], channels_last: Collection[str] = ()) -> Iterator[Outside]:
    """A process with these models: `.onnx` in ONNX Runtime, `.pt2` in torch.

    Args:
        models: kind -> file.
        channels_last: kinds that take (n, H, W, C).

    Raises:
        ExportMismatch: one of them cannot be loaded.
    """
    asked = {
        "models": {kind: str(path.resolve()) for kind, path in models.items()},
        "channels_last": sorted(channels_last),
    }
    with (
        tempfile.TemporaryDirectory(prefix="goodnet-") as folder,
        subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            start_new_session=True,  # Ctrl-C is for this process
        ) as process,
    ):
        try:
            outside = Outside(process, models)
            outside._ask(json.dumps(asked).encode() + b"\n")
            yield outside
        finally:
            process.kill()


@dataclass(frozen=True)
class Seen:
    """What a file was seen to do in the library that loads it.

    Attributes:
        runtime: the library and its version.
        images: how many were shown to it.
        near_ties: of these, the ones that got another class than here, since two classes are nearly equal.
        counts: on the split; those of near ties are decided as everywhere, in float64.
    """

    runtime: str
    images: int
    near_ties: int
    counts: Counts | None

    def to_json(self) -> dict[str, Any]:
        """Without the counts, which are those of the file."""
        return {"runtime": self.runtime, "images": self.images, "near_ties": self.near_ties}


def measured_outside(
    outside: Outside, pruned: PrunableModel, badnet: PlainEvaluator, expected: Counts
) -> dict[str, Seen]:
    """What the files do on ``badnet.split`` where others load them. Each image has to get the class that
    ``pruned`` gives it here (of the N+1-class net: N where BadNet and pruned net differ), unless two classes
    are nearly equal.

    Raises ExportMismatch where it does not, or the counts are not as ``expected``.
    """
    classes_of = pruned.check_images(badnet.split.clean.shape, badnet.split.clean.name)
    split, differing = badnet.split, dict.fromkeys(outside.models, 0)
    found: dict[str, list[np.ndarray]] = {kind: [] for kind in outside.models}
    for images in (split.clean, split.poisoned):
        ours, unsure = _decided(pruned, images, badnet.batch)
        theirs, unsure_too = _decided(badnet.model, images, badnet.batch)
        for kind, classes in outside.classes(images).items():
            wanted, excused = ours, unsure
            if kind == "goodnet-onnx":
                wanted, excused = goodnet_classes(theirs, ours, classes_of), unsure | unsure_too
            differ = classes != wanted
            if wrong := int((differ & ~excused).sum()):
                path = outside.models[kind]
                raise _mismatch(
                    path,
                    f"in {_runtime(path)}, {wrong} of {len(images)} images of {images.name} get another "
                    "class than here",
                )
            differing[kind] += int(differ.sum())
            found[kind].append(np.where(differ, wanted, classes))
    return {
        kind: Seen(
            _runtime(outside.models[kind]),
            len(split.clean) + len(split.poisoned),
            differing[kind],
            None
            if kind == "goodnet-onnx"
            else _counted(outside.models[kind], badnet, clean, poisoned, expected),
        )
        for kind, (clean, poisoned) in found.items()
    }


def _counted(
    path: Path, badnet: PlainEvaluator, clean: np.ndarray, poisoned: np.ndarray, expected: Counts
) -> Counts:
    counts = count(badnet.split, clean, poisoned, badnet.badnet_classes, None)
    if counts.with_margins_of(expected) != expected:
        raise _mismatch(
            path,
            f"in {_runtime(path)} it gets {counts.clean_correct} of {counts.clean_total} clean images right "
            f"and {counts.attacked} of {counts.poisoned_total} attacked; the pruned network got "
            f"{expected.clean_correct} and {expected.attacked}",
        )
    return counts


def _decided(model: PrunableModel, images: LabeledImages, batch: int) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64, the class that counts, and (N,) bool, whether another library may give another one."""
    classes: list[np.ndarray] = []
    unsure: list[np.ndarray] = []
    doubtful: list[np.ndarray] = []
    kinds = {t.data_type for t in model.proto.graph.initializer}
    tie = HALF_TIE if TensorProto.FLOAT16 in kinds or TensorProto.BFLOAT16 in kinds else OTHER_TIE
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(images.floats(start, min(start + batch, len(images))))
        logits = model.logits(pixels.to(model.device))
        for kept, parts in ((TIE, doubtful), (tie, unsure)):
            most, near = decided(logits, kept)
            parts.append(near)
        classes.append(most)
    found, near = np.concatenate(classes), np.concatenate(doubtful)
    if near.any():
        found[near] = ExactNet(model).reply(images.keeping(near), ChannelMask()).classes
    return found, np.concatenate(unsure)


def _runtime(path: Path) -> str:
    if path.suffix == ".onnx":
        return f"ONNX Runtime {onnx_runtime_version()}"
    return f"torch {torch.__version__.partition('+')[0]}"
