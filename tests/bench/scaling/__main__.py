"""``python -m tests.bench.scaling``: weak scaling, to standard output as tables and to a picture.

Real workers with trials that sleep (``--workers 1 2 4``), and the simulation to 1,024 workers from the costs
that are given: measure them with ``python -m tests.bench.many``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tests.bench.lab import ROOT
from tests.bench.scaling.simulate import Costs, simulate

MANY = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHOWN = (16, 64, 256, 1024)


def real(workers: list[int], seconds: float, rounds: int) -> list[str]:
    lines = [
        "| workers | trials counted | efficiency | driver, CPU ms a trial | started after, s |",
        "|---|---|---|---|---|",
    ]
    for count in workers:
        command = [sys.executable, "-m", "tests.bench.scaling.real", str(count), str(seconds), str(rounds)]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        lines.append(f"| {count} | {found['trials']} | {found['efficiency']:.1%} | "
                     f"{1000 * found['driver']:.1f} | {found['start']:.0f} |")  # fmt: skip
    return lines


def cases(costs: Costs, s3: float) -> dict[str, Costs]:
    """Of a storage on disk and on S3, with MLflow and without. ``s3``: seconds of a request."""
    return {
        "disk, no MLflow": replace(costs, latency=0.0, logging=0.0),
        "disk, MLflow": replace(costs, latency=0.0),
        "S3 30 ms, MLflow": replace(costs, latency=0.030),
        f"S3 {1000 * s3:.0f} ms, MLflow": replace(costs, latency=s3),
    }


def simulated(known: dict[str, Costs], seconds: tuple[float, ...]) -> list[str]:
    head = " | ".join(f"{count:,}" for count in SHOWN)
    lines = [f"| trials of | storage, log | {head} | driver at 64 | most workers | with the log at once |",
             "|---|---|" + "---|" * (len(SHOWN) + 3)]  # fmt: skip
    for length in seconds:
        for name, costs in known.items():
            found = {count: simulate(count, length, costs) for count in SHOWN}
            cells = " | ".join(f"{found[count].efficiency:.1%}" for count in SHOWN)
            limits = f"{costs.most * length:,.0f} | {min(costs.most, costs.logged) * length:,.0f}"
            lines.append(f"| {length:g} s | {name} | {cells} | {found[64].busy:.0%} busy | {limits} |")
    return lines


def draw(known: dict[str, Costs], seconds: tuple[float, ...], out: Path) -> None:
    figure, axes = plt.subplots(1, len(seconds), figsize=(11, 3.4), layout="constrained", sharey=True)
    for axis, length in zip(axes, seconds, strict=True):
        for (name, costs), mark in zip(known.items(), ("o-", "s--", "^-.", "d:"), strict=True):
            axis.plot(
                MANY, [100 * simulate(n, length, costs).efficiency for n in MANY], mark, label=name, ms=4
            )
        axis.axhline(95, color="#888888", linewidth=0.8)
        axis.set(xscale="log", xlabel=f"workers, trials of {length:g} s", ylim=(0, 102))
        axis.set_xticks((1, 4, 16, 64, 256, 1024), ("1", "4", "16", "64", "256", "1,024"))
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("efficiency, per cent (simulated)")
    axes[0].legend(fontsize=8)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.scaling", description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=5.0, help="that a real trial sleeps")
    parser.add_argument("--rounds", type=int, default=4, help="real trials of each worker")
    parser.add_argument("--driver-ms", type=float, default=15.0, help="CPU of a trial, without MLflow")
    parser.add_argument("--mlflow-ms", type=float, default=53.0, help="CPU of a trial's log")
    parser.add_argument("--worker-ms", type=float, default=35.0, help="CPU of a worker beside the work")
    parser.add_argument("--requests", type=int, nargs=2, default=[0, 10], metavar=("DRIVER", "WORKER"))
    parser.add_argument("--s3-ms", type=float, default=150.0, help="of one request, at the slow end")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "performance-workers.png")
    given = parser.parse_args()
    costs = Costs(
        given.driver_ms / 1000, given.mlflow_ms / 1000, given.worker_ms / 1000, 0.0, *given.requests
    )
    known, seconds = cases(costs, given.s3_ms / 1000), (10.0, 60.0)
    print("\n".join(simulated(known, seconds)))
    draw(known, seconds, given.out)
    if given.workers:
        print("\n" + "\n".join(real(given.workers, given.seconds, given.rounds)))


if __name__ == "__main__":
    main()
