"""``python -m tests.bench.compaction``: what removing pruned channels saves, to docs/compaction.md."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from prune_core.data.images import read_images
from prune_core.export.files import Written, costs, write_formats
from prune_core.model.model import load_model
from tests.bench.lab import ROOT, shared_data
from tests.nets.networks import random_mask

NETS = {
    "DeepID, the stand-in of the lab (csaw)": "csaw/bd_weights.h5",
    "ResNet-20, traffic signs (gtsrb)": "gtsrb/badnet_resnet20.onnx",
}
SHARE = 0.4


def figures(path: Path, keep_bias: bool) -> dict[str, Any]:
    """Of a net with a random mask: costs before and after, and the channels pruned."""
    model = load_model(path)
    mask = random_mask(model, SHARE, keep_bias)
    image = read_images(path.parent / "cl_test.h5").shape
    with tempfile.TemporaryDirectory() as folder:
        written: Written = write_formats(model, mask, path, Path(folder) / "good", image)
        return {**costs(written, seconds=2.0), "channels_pruned": len(mask)}


COLUMNS = (
    ("parameters", "parameters, thousands", 1e3, ",.0f"),
    ("multiply_adds", "multiply-adds for an image, millions", 1e6, ".1f"),
    ("bytes", "file, kB", 1e3, ",.0f"),
    ("latency_ms", "1 image, ms", 1, ".2f"),
    ("latency_ms_64", "64 images, ms", 1, ".1f"),
)


def table(found: dict[str, dict[str, Any]]) -> str:
    """Markdown, a row for each network."""
    head = ["network", "channels removed", *(title for _, title, _, _ in COLUMNS)]
    lines = [head, ["---"] * len(head)]
    for name, figure in found.items():
        removed = sum(len(channels) for channels in figure["channels_removed"].values())
        cells = [name, f"{removed} of {figure['channels_pruned']}"]
        for key, _, unit, shown in COLUMNS:
            before, after = (figure[net][key] / unit for net in ("pruned", "small"))
            cells.append(f"{before:{shown}} → {after:{shown}} ({100 * (after / before - 1):+.0f} %)")
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


HEAD = """# What compaction saves

Written by `make bench`. In every convolution {share:.0%} of the channels, drawn at random, are pruned; then
the channels that can go without changing the function are removed from the network (`NAME-small.onnx`).
Classes are equal on every image of both data sets, and logits within 1e-4
(`tests/unit/prune_core/compaction/test_compact.py`). Times are medians in torch with
{threads} thread(s) on a CPU, both networks in turn, on black images.

{table}

Channels of a ResNet's residual stream stay unless every addend loses them; where a bias is kept, padding
makes a constant channel differ at the border, so such channels stay too. The model card of a GoodNet says
which channels stay and why. Fewer multiplications do not always take less time: convolutions whose width
is not a multiple of 8 run slower on a CPU, which can cost a ResNet that loses few channels more than it
saves.
"""


def main(out: Path) -> None:
    data = shared_data()
    if not data.is_dir():
        print("no GOODNET_SHARED: compaction is not measured", file=sys.stderr)
        return
    found = {
        f"{name}{', biases kept' if keep else ''}": figures(data / file, keep)
        for name, file in NETS.items()
        for keep in (False, True)
    }
    out.write_text(HEAD.format(share=SHARE, threads=torch.get_num_threads(), table=table(found)))
    print(out)


if __name__ == "__main__":
    main(ROOT / "docs" / "compaction.md")
