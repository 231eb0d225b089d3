"""What ranking on a part of the images changes: ``python -m tests.bench.choosing.ranked`` prints a table.

For each net of the shared data: best-first on all images, and ranked on parts of some sizes. CPU seconds of
one thread, so that other work on the machine falls into them least.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prune_core.api import prune
from prune_core.data.form import USUAL
from prune_core.data.images import Split, make_split, read_images, read_poisoned
from prune_core.frontier import hypervolume
from prune_core.model.model import PrunableModel, load_model
from tests.bench.lab import shared_data

X = 4.0
SIZES = (64, 256, 1024)
HEAD = " | ".join((
    "| net", "images", "ranked on", "CPU s", "times as fast", "steps", "pruned", "accepted, refused by all",
    "pruned in common", "clean accuracy", "attack success", "hypervolume |",
))  # fmt: skip


@dataclass(frozen=True)
class Net:
    model: Callable[[Path], PrunableModel]
    clean: str
    poisoned: tuple[str, ...]
    layers: str


NETS = {
    "csaw": Net(lambda at: load_model(at / "csaw/bd_weights.h5", "deepid"), "csaw/cl_valid.h5",
                ("csaw/bd_valid.h5",), "last:3"),
    "abl": Net(lambda at: load_model(at / "abl/net.onnx"), "abl/clean_valid.npz",
               ("abl/poisoned_valid.npz",), "last:2"),
    "gtsrb": Net(lambda at: load_model(at / "gtsrb/badnet_resnet20.onnx"), "gtsrb/cl_valid.h5",
                 ("gtsrb/bd_valid.h5",), "last:2"),
    **{f"zoo {kind}": Net(lambda at, kind=kind: load_model(at / f"zoo/{kind}/net.onnx"),  # type: ignore[misc]
                          "zoo/cl_valid.h5", files, "last:2")
       for kind, files in {
           "blended": ("zoo/blended/bd_valid.h5",), "sig": ("zoo/sig/bd_valid.h5",),
           "all2all": ("zoo/all2all/bd_valid.h5",),
           "multi": ("zoo/multi/bd_0_valid.h5", "zoo/multi/bd_1_valid.h5"),
       }.items()},
}  # fmt: skip


def split_of(net: Net, at: Path) -> Split:
    clean = read_images(at / net.clean)
    return make_split(clean, [i for file in net.poisoned for i in read_poisoned(at / file, USUAL)])


def rows(name: str, net: Net, sizes: tuple[int, ...], seed: int) -> list[str]:
    at = shared_data()
    model, split = net.model(at), split_of(net, at)
    fewer = [size for size in sizes if size < len(split.clean)]
    lines, whole, first = [], None, 0.0
    for size in [None, *fewer]:
        begun = time.process_time()
        found = prune(model, split, layers=net.layers, x=X, rank_images=size, seed=seed)
        spent = time.process_time() - begun
        accepted = [step for step in found.steps if step.accepted]
        states = [found.badnet, *(step.now for step in accepted)]
        volume = hypervolume(
            np.array([s.clean_accuracy for s in states]), np.array([s.attack_success for s in states])
        )
        asked = [s for s in found.steps if s.tried.clean_total == len(split.clean)]
        overruled = len(asked) - len(accepted) if size is not None else 0
        if whole is None:
            whole, first = found, spent
        both, either = found.mask.channels & whole.mask.channels, found.mask.channels | whole.mask.channels
        cells: list[Any] = [
            name, f"{len(split.clean):,} + {len(split.poisoned):,}", size or "all", f"{spent:.1f}",
            f"{first / spent:.1f}", len(found.steps), len(found.mask), f"{len(accepted)}, {overruled}",
            f"{len(both)} of {len(either)}", f"{found.counts.clean_accuracy:.2%}",
            f"{found.counts.attack_success:.2%}", f"{volume:.4f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.choosing.ranked", description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD + "\n|" + "---|" * HEAD.count(" | ") + "---|", flush=True)
    for name in given.nets:
        rows(name, NETS[name], tuple(given.sizes), given.seed)


if __name__ == "__main__":
    main()
