"""What was measured, as a page with a picture. What is written by hand goes to docs/performance-more.md."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from tests.bench.many import table

Found = dict[str, Any]
CANDIDATES = 180


def write_page(found: Found, out: Path) -> None:
    """``out`` and, beside it, ``<name>-scaling.png``."""
    picture = out.with_name(f"{out.stem}-scaling.png")
    out.parent.mkdir(parents=True, exist_ok=True)
    draw(found, picture)
    out.write_text("\n".join(lines(found, picture.name)) + "\n")


def lines(found: Found, picture: str) -> list[str]:
    n, plain, author = found["images"], found["plain"], found["author"]
    of_author = mean(author["seconds"]) * CANDIDATES
    source = (
        "the lab's own network and real faces, tiled and jittered to that number"
        if author["real"]
        else "a random DeepID and random pixels, since the real ones are not here"
    )
    text = [
        "# Performance",
        "",
        f"Written by `make bench` in one run on a machine with {os.cpu_count()} cores and no GPU in use, "
        f"at the lab's size: DeepID with 1283 classes, 180 channels to try, {n:,} clean and {n:,} "
        f"poisoned images ({source}). Wall-clock seconds; each row ran in its own process.",
        "",
        "What was measured by other commands, and notes on these figures: "
        "[more on performance](performance-more.md).",
        "",
        "## One trial: 180 candidates",
        "",
        "| | seconds | peak memory, GiB | times the incremental one |",
        "|---|---|---|---|",
    ]
    trial = found["trials"]["margin, X = 4"]["wall"]
    rows = [
        (
            f"(a) the author's procedure, in torch: a fresh copy and three predictions per candidate, "
            f"{len(author['seconds'])} candidates timed ({spread(author['seconds'])} s each) and scaled "
            "to 180",
            of_author,
            None,
        )
    ]
    if found["keras"]:
        seconds = found["keras"]["seconds"]
        rows.append(
            (
                f"(a) the same in Keras on TensorFlow, {len(seconds)} candidates timed "
                f"({spread(seconds)} s each) and scaled "
                "to 180",
                mean(seconds) * CANDIDATES,
                None,
            )
        )
    rows.append(
        (
            f"(b) the plain evaluator, 180 times one evaluation of {plain['wall']:.1f} s (best of 3)",
            plain["wall"] * CANDIDATES,
            plain["peak_gib"],
        )
    )
    for label, seconds, memory in rows:
        shown = "" if memory is None else f"{memory:.2f}"
        text.append(f"| {label} | {seconds:,.0f} | {shown} | {seconds / trial:.0f} |")
    for label, case in found["trials"].items():
        text.append(
            f"| (c) the incremental evaluator, whole trial, {label}: {case['steps']} tried, "
            f"{case['accepted']} pruned, {case['refused_early']} refused early, caches built in "
            f"{case['build']:.1f} s | {case['wall']:.1f} | {case['peak_gib']:.2f} | "
            f"{case['wall'] / trial:.2f} |"
        )
    half = found["half"]
    text += [
        f"| (c) margin, X = 4, with `resources.memory_gb: 2` | {half['wall']:.1f} | "
        f"{half['peak_gib']:.2f} | {half['wall'] / trial:.2f} |",
        "",
        "For each policy, (a) and (b) over (c), at the number of evaluations that its walk makes:",
        "",
        "| | evaluations | (a) torch / (c) | (b) / (c) | operations of (b) over those of (c) | "
        "share of the matrix rate in (c) |",
        "|---|---|---|---|---|---|",
    ]
    peak = found["rate"]["flops_per_second"]
    for label, case in found["trials"].items():
        ops = found["operations"][label]
        done = ops["trial_per_image"] * 2 * n
        whole = ops["plain_per_image"] * ops["evaluations"]
        torch_loop = mean(author["seconds"]) * case["steps"] / case["wall"]
        text.append(
            f"| {label} | {case['evaluations']} | {torch_loop:.0f} | "
            f"{plain['wall'] * case['evaluations'] / case['wall']:.0f} | "
            f"{whole / ops['trial_per_image']:.0f} | {done / case['wall'] / peak:.0%} |"
        )
    of_plain = next(iter(found["operations"].values()))["plain_per_image"]
    text += [
        "",
        "Operations are those of convolutions and matrix products, counted by torch on "
        f"{found['counted']:,} + {found['counted']:,} images: {of_plain / 1e6:.1f} million per image and "
        f"evaluation in (b). The matrix rate, {peak / 1e9:.0f} billion operations per second, is the best "
        "of several products of 2048 x 2048 float32 matrices; (b) reaches "
        f"{of_plain * 2 * n / plain['wall'] / peak:.0%} of it.",
        "",
        *of_grid(found["grid"]),
        "",
        "## A thousand small trials",
        "",
        *table(found["many"]),
        "",
        "## How cost grows",
        "",
        f"![cost by images, channels and depth]({picture})",
        "",
        "Left: the lab's network. Middle and right: synthetic chains of 3 x 3 convolutions on "
        "32 x 32 images, all channels of all layers but the first tried. Dots: a trial as measured; "
        "crosses: what the plain evaluator would take, scaled from one evaluation.",
    ]
    return text


def of_grid(grid: Found) -> list[str]:
    walls = [wall for wall, _ in grid["separate"]]
    return [
        "## A grid of trials",
        "",
        f"{grid['trials']} trials (3 orders x 3 nested layer sets x 3 X, policy margin), test counts "
        f"included, in one worker that shares evaluations: {grid['wall']:.0f} s. Of the same trials, "
        f"{len(walls)} were run as separate runs: {mean(walls):.1f} s each on average "
        f"({spread(walls)}). So the grid costs {grid['wall'] / mean(walls):.1f} separate trials instead of "
        f"{grid['trials']}. Records equal to those of the separate runs: {grid['equal']} of {len(walls)}. "
        f"Peak memory {grid['peak_gib']:.2f} GiB (validation and test).",
    ]


def spread(values: list[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def draw(found: Found, path: Path) -> None:
    full = {"images": found["images"], "plain": found["plain"], "trial": found["trials"]["margin, X = 4"]}
    panels = [
        ("clean images (and as many poisoned)",
         [(r["images"], r["trial"]["wall"], r["plain"]["wall"] * CANDIDATES)
          for r in [*found["by_images"], full]]),
        ("channels a layer (4 layers)",
         [(r["channels"], r["wall"], r["plain_wall"] * r["evaluations"]) for r in found["by_channels"]]),
        ("layers (16 channels each)",
         [(r["depth"], r["wall"], r["plain_wall"] * r["evaluations"]) for r in found["by_depth"]]),
    ]  # fmt: skip
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for axis, (label, points) in zip(axes, panels, strict=True):
        where, trial, plain = zip(*points, strict=True)
        axis.plot(where, plain, "x--", color="#888888", label="plain, scaled")
        axis.plot(where, trial, "o-", color="#0b6e99", label="incremental trial")
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.set_xticks(where, [f"{w:,}" for w in where])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("seconds")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)
