"""The net with weights and activations in eight bits, as it may be deployed: does the attack come back?

By ONNX Runtime's static quantisation, calibrated on clean validation images. Both quantising and running
are done by processes of their own: the file comes from a stranger.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core.audits.entries import Entry, Pair, Skipped
from prune_core.audits.subject import Asked, Heap
from prune_core.data.images import LabeledImages
from prune_core.errors import ExportMismatch
from prune_core.export.outside import Outside, loaded, onnx_runtime_version
from prune_core.export.zeroed import pruned_onnx
from prune_core.files.onnx_read import first_line

AUDIT = "int8"
CALIBRATED_ON = 128  # images
PROGRAM = Path(__file__).with_name("quantise_run.py")
SECONDS = 600


def int8_settings() -> dict[str, Any]:
    return {"weights": "int8, each channel", "activations": "int8", "calibrated_on": CALIBRATED_ON}


def quantised(asked: Asked, setting: dict[str, Any]) -> Entry | Skipped:
    """Skipped, with what is in the way, where it cannot be quantised or run."""
    if onnx_runtime_version() is None:
        return Skipped(AUDIT, "onnxruntime is not installed: pip install 'goodnet[tracking]'")
    with tempfile.TemporaryDirectory(prefix="goodnet-") as folder:
        try:
            return _counted(asked, setting, _written(asked, setting["calibrated_on"], Path(folder)))
        except ExportMismatch as error:
            return Skipped(AUDIT, first_line(error))


def _written(asked: Asked, images: int, folder: Path) -> Path:
    """The file of the net in eight bits. Raises ExportMismatch."""
    model = asked.subject.model
    plain, calibration, made = (folder / name for name in ("net.onnx", "images.npy", "int8.onnx"))
    plain.write_bytes(pruned_onnx(model, asked.subject.mask).SerializeToString())
    pixels = asked.exhibits.clean[0][:images].cpu().numpy()
    np.save(calibration, pixels.transpose(0, 2, 3, 1) if model.channels_last else pixels)
    command = [sys.executable, "-P", "-W", "ignore", str(PROGRAM), *map(str, (plain, calibration, made))]
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ExportMismatch(f"quantising took more than {SECONDS} s") from None
    if ended.returncode or not made.is_file():
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        raise ExportMismatch(f"ONNX Runtime cannot quantise it: {said[-1][:200] if said else 'no word'}")
    return made


def _counted(asked: Asked, setting: dict[str, Any], file: Path) -> Entry:
    shown = asked.exhibits
    with loaded({AUDIT: file}, [AUDIT] if asked.subject.model.channels_last else []) as outside:
        clean = _got(outside, *shown.clean_test)
        return Entry(
            AUDIT,
            setting,
            None,
            clean=clean,
            attacked=_worst(outside, shown.test),
            valid=_worst(outside, shown.valid),
            before=asked.clean,
            assumed="nothing: the owner deploys it in eight bits",
        )


def _worst(outside: Outside, heaps: tuple[Heap, ...]) -> Pair:
    each = [_got(outside, heap.pixels, heap.targets) for heap in heaps]
    return max(each, key=lambda pair: pair[0] / pair[1])


def _got(outside: Outside, pixels: torch.Tensor, labels: torch.Tensor) -> Pair:
    wanted = labels.cpu().numpy()
    classes = outside.classes(LabeledImages(pixels.cpu().numpy(), wanted))[AUDIT]
    return int((classes == wanted).sum()), len(wanted)
