"""``python -m tests.bench.nets``: what a count costs on ResNet-18, VGG-16-BN and MobileNetV2, to a page and a
picture. 32 x 32 images, 10 classes; each network in a process of its own."""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tests.bench.lab import ROOT
from tests.bench.nets.measure import FEW, NETS

Found = dict[str, Any]
USUAL = [name for name in NETS if name != "small"]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.nets", description=__doc__)
    parser.add_argument("--images", type=int, default=2000, help="clean images, and about as many poisoned")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=USUAL)
    parser.add_argument("--memory-gb", type=float, default=4.0)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance-nets.md")
    given = parser.parse_args(arguments)
    found = []
    for name in given.nets:
        print(f"{time.strftime('%H:%M:%S')} {name}", file=sys.stderr, flush=True)
        command = [sys.executable, "-W", "ignore", "-m", "tests.bench.nets.measure", name]
        command += [str(given.images), str(given.memory_gb)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        write_page(found, given.out)  # each time: a long run that is cut off has not been for nothing
    print(given.out)


def write_page(found: list[Found], out: Path) -> None:
    picture = out.with_suffix(".png")
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(found, picture)
    out.write_text("\n".join(lines(found, picture.name)) + "\n")


def lines(found: list[Found], picture: str) -> list[str]:
    clean, poisoned = found[0]["images"]
    best = max(f["rate"] for f in found) / 1e9
    text = [
        "# Performance on the nets of today",
        "",
        f"Written by `python -m tests.bench.nets` on {time.strftime('%Y-%m-%d')}: {platform.machine()}, no "
        f"GPU, {clean:,} clean and {poisoned:,} poisoned images of 32 x 32, 10 classes, random weights.",
        "",
        "**CPU seconds of one thread.** The machine may have done other work meanwhile: wall-clock time "
        "would say nothing, and a tenth more or less says nothing either. What took less than a second was "
        "done up to five times: median (least to most).",
        "",
        "## A whole evaluation",
        "",
        row("network", "convolutions", "channels", "plain evaluator", "a PyTorch loop with a hook",
            "share of the matrix rate", "caches", "`memory_gb`", "peak memory, GiB", "of which before"),
        "|" + "---|" * 10,
    ]  # fmt: skip
    text += [
        row(f["name"], f["convolutions"], f"{f['channels']:,}", spread(f["plain"]), spread(f["hooks"]),
            f"{f['share']:.0%}", f"{f['caches']:.1f}", f"{f['memory_gb']:g}", f"{f['peak_gib']:.2f}",
            f"{f['before_gib']:.2f}")
        for f in found
    ]  # fmt: skip
    text += [
        "",
        "Operations are those of convolutions and matrix products, as torch counts them; the matrix rate is "
        f"that of products of 2048 x 2048 float32 matrices, {best:.0f} billion a second at best. "
        "Rate and evaluation are of two moments, so on a machine that does other work a share can come out "
        "above 100%. *Before*: the process with network and images, nothing kept.",
        "",
        "## One question, by depth",
        "",
        f"![cost of a question by depth of its layer]({picture})",
        "",
        "What one channel more costs the incremental evaluator. *Operations*: the plain evaluator's over its "
        f"own. *Count equal*: to the plain evaluator's, on {FEW} + {FEW} images.",
        "",
        row("network", "convolution", "channels", "CPU seconds", "times as fast as plain", "operations",
            "count equal"),
        "|" + "---|" * 7,
    ]  # fmt: skip
    for f in found:
        for at in f["layers"]:
            fewer, faster = f["operations"] / max(1, at["operations"]), f["plain"][0] / at["question"][0]
            text.append(
                row(f["name"], f"{at['depth']} of {f['convolutions']}", at["channels"],
                    spread(at["question"]), f"{faster:.1f}", f"{fewer:,.1f}",
                    "yes" if at["equal"] else "**no**")
            )  # fmt: skip
    return [
        *text,
        "",
        "Not measured: Torch-Pruning's masking, which is no dependency of ours, and the way of published "
        "defences to a mask. Whole trials, and what else costs what: [performance](performance.md).",
    ]


def row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def spread(values: list[float]) -> str:
    middle, least, most = values
    return f"{middle:.2g}" if least == most else f"{middle:.2g} ({least:.2g} to {most:.2g})"


def draw(found: list[Found], path: Path) -> None:
    figure, axis = plt.subplots(figsize=(7, 3.4), layout="constrained")
    for f in found:
        where = [row["depth"] / f["convolutions"] for row in f["layers"]]
        axis.plot(where, [row["question"][0] / f["plain"][0] for row in f["layers"]], "o-", label=f["name"])
    axis.axhline(1, color="#888888", linestyle="--")
    axis.set(yscale="log", xlabel="depth of the layer (1: the last)", ylabel="of a whole evaluation")
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
