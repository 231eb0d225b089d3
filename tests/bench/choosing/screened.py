"""What asking only the promising changes: ``python -m tests.bench.choosing.screened`` prints two tables.

For each net of the shared data: best-first along the order, and with ``screen``; and at what place of the
estimates the channel stands that is truly worth most. CPU seconds of one thread, so that other work on the
machine falls into them least.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from prune_core.api import prune
from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.evaluators import make_evaluator
from prune_core.frontier import hypervolume
from prune_core.greedy import Walk
from prune_core.masks import Channel
from prune_core.model.model import PrunableModel
from prune_core.policies.screening import Screen
from tests.bench.choosing.ranked import NETS, X, split_of
from tests.bench.lab import shared_data

SCREENS = (8, 16, 32, 64)
ROUNDS = 8  # networks on the way, at most, in which estimates are compared with answers
HEAD = (
    "| net | channels | screen | CPU s | times as fast | steps | pruned | pruned in common | "
    "clean accuracy | attack success | hypervolume |"
)


def layers_of(name: str) -> str:
    return "last:3" if name == "csaw" else "last:4"


def trials(name: str, model: PrunableModel, split: Split, screens: tuple[int, ...]) -> None:
    """A row for each."""
    first, plain = 0.0, None
    for screen in (None, *screens):
        begun = time.process_time()
        found = prune(model, split, layers=layers_of(name), x=X, screen=screen)
        spent = time.process_time() - begun
        first, plain = first or spent, plain or found.mask.channels
        states = [found.badnet, *(step.now for step in found.steps if step.accepted)]
        volume = hypervolume(
            np.array([s.clean_accuracy for s in states]), np.array([s.attack_success for s in states])
        )
        both, either = found.mask.channels & plain, found.mask.channels | plain
        cells = [
            name, len(channels_of(name, model)), screen or "none", f"{spent:.1f}", f"{first / spent:.1f}",
            len(found.steps), len(found.mask), f"{len(both)} of {len(either)}",
            f"{found.counts.clean_accuracy:.2%}", f"{found.counts.attack_success:.2%}", f"{volume:.4f}",
        ]  # fmt: skip
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def channels_of(name: str, model: PrunableModel) -> list[Channel]:
    count = int(layers_of(name).removeprefix("last:"))
    return [Channel(la.name, c) for la in reversed(model.layers[-count:]) for c in range(la.channels)]


def places(name: str, model: PrunableModel, split: Split) -> None:
    """Of networks three accepted channels apart: where the best channel stands among the estimates."""
    order = channels_of(name, model)
    walk, screen = Walk.start(make_evaluator(model, split), X), Screen(model, split, 1, order)
    for _ in range(ROUNDS):
        ranked = screen.ranked(walk.mask)
        steps = {channel: walk.try_net(channel) for channel in ranked}
        worth = {c: w for c in ranked if (w := walk.worth(steps[c].tried)) is not None}
        if not worth or walk.over:
            return
        best = sorted(worth, key=worth.__getitem__, reverse=True)
        print(f"| {name} | {len(walk.mask)} | {len(worth)} of {len(ranked)} | {ranked.index(best[0]) + 1} | "
              f"{max(ranked.index(c) for c in best[:8]) + 1} |", flush=True)  # fmt: skip
        for channel in best[:3]:
            step = walk.try_net(channel)
            if walk.worth(step.tried) is not None:
                walk.accept(step)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.choosing.screened", description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--screens", nargs="+", type=int, default=SCREENS)
    parser.add_argument("--images", type=int, default=300, help="of each kind")
    parser.add_argument("--part", choices=("trials", "places"), nargs="+", default=("trials", "places"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    at = shared_data()
    for part in given.part:
        head = HEAD if part == "trials" else "| net | pruned | of use | place of the best | of the best 8 |"
        print(head + "\n|" + "---|" * (head.count("|") - 1), flush=True)
        for name in given.nets:
            model, split = NETS[name].model(at), split_of(NETS[name], at)
            split = subset(split, given.images, 0) or split
            if part == "trials":
                trials(name, model, split, tuple(given.screens))
            else:
                places(name, model, split)


if __name__ == "__main__":
    main()
