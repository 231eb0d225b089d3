"""What a repair costs and comes to: ``python -m tests.bench.repairs`` prints a table, a row for each seed.

A whole trial on the lab's network and real faces (676 + 676 images): scaled, then repaired; chosen on
validation, counted on test. CPU seconds of one thread, loading included.
"""

from __future__ import annotations

import argparse
import time
from statistics import mean, stdev

import torch

from tests.bench.lab import shared_data
from tests.trial_figures import on_the_stand_in

HEAD = "| repair | seed | CPU s | test: right | attacked |\n|---|---|---|---|---|"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.repairs", description=__doc__)
    parser.add_argument("--repair", default="finetune")
    parser.add_argument("--x", type=float, default=7.0, help="points of clean accuracy that it may cost")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(HEAD, flush=True)
    rows = []
    for seed in given.seeds:
        begun = time.process_time()
        test = on_the_stand_in(shared_data(), given.repair, given.x, seed)
        rows.append((time.process_time() - begun, test.clean_correct, test.attacked))
        cost, right, attacked = rows[-1]
        print(
            f"| {given.repair} | {seed} | {cost:.0f} | {right} of {test.clean_total} | {attacked} |",
            flush=True,
        )
    if len(rows) > 1:
        cells = [f"{mean(column):.1f} ± {stdev(column):.1f}" for column in zip(*rows, strict=True)]
        print(f"| mean and standard deviation | | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
