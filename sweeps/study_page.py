"""The study as a page: docs/study.md and a picture for each sweep."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prune_core.frontier import non_dominated
from prune_core.metrics import wilson_interval
from sweeps.frontier_scene import CAVEAT, COLOURS
from sweeps.study import POINTS, Way, means

SHOWN = 6  # ways in a picture: more lines cannot be told apart


def study_markdown(
    studies: Mapping[str, Sequence[Way]], pictures: Mapping[str, str], remarks: str = ""
) -> str:
    """``studies``: sweep -> its ways, best first; ``pictures``: sweep -> file name; ``remarks``: what
    a person has written about it, put in front of the tables."""
    parts = [
        "# Which orders and policies matter",
        "",
        "Made by `make study` from the configurations in `configs/study`; the same command goes on "
        "where it was. A row is a way of pruning (order, policy, layer set), all its X and seeds "
        "together. States are chosen on validation: within so many points of the BadNet's clean "
        "accuracy, the one with the lowest attack success. Of that one, clean accuracy / attack "
        "success **on test** are shown, with the 95 % Wilson interval of attack success. "
        "Hypervolume (validation) is bounded by the largest X of the sweep, so it compares ways of "
        "one sweep, not sweeps. Spread: standard deviation of the hypervolume over seeds. " + CAVEAT,
        "",
        *([remarks.strip(), ""] if remarks.strip() else []),
    ]
    for name, ways in studies.items():
        parts += _section(name, ways, pictures[name])
    return "\n".join(parts) + "\n"


def _section(name: str, ways: Sequence[Way], picture: str) -> list[str]:
    done = [w for w in ways if w.states]
    lines = [f"## {name}", "", f"![{name}: the best ways]({picture})", ""]
    if not done:
        return [*lines, "No trial is done yet.", ""]
    for of, word in (("policy", "policy"), ("order", "order"), ("layers", "layer set")):
        found = means(done, of)
        if len(found) > 1:
            told = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
            lines += [f"Mean hypervolume by {word}: {told}.", ""]
    head = " | ".join(f"within {p:g} points" for p in POINTS)
    lines += [
        f"| order | policy | layers | hypervolume | spread | {head} | channels tried | seconds |",
        "|---|---|---|---|---|" + "---|" * (len(POINTS) + 2),
    ]
    lines += [_row(way) for way in done]
    failed = [(w.order, reason) for w in ways for reason in w.failed]
    for order, reason in dict.fromkeys(failed):
        lines += ["", f"Not possible: {order}: {reason}"]
    return [*lines, ""]


def _row(way: Way) -> str:
    cells = []
    for points in POINTS:
        chosen = way.within.get(points)
        if chosen is None:
            cells.append("none")
            continue
        test = chosen.test
        low, high = wilson_interval(test.attacked, test.poisoned_total)
        cells.append(f"{100 * test.clean_accuracy:.1f} / {100 * test.attack_success:.1f} "
                     f"({100 * low:.1f} to {100 * high:.1f})")
    spread = f"{way.spread:.4f}" if len(way.by_seed) > 1 else "-"
    layers = way.layers if len(way.layers) <= 40 else f"{len(way.layers.split())} layers"
    return (f"| {way.order} | {way.policy} | {layers} | {way.hypervolume:.4f} | {spread} | "
            f"{' | '.join(cells)} | {way.candidates} | {way.seconds:.0f} |")


def study_png(name: str, ways: Sequence[Way]) -> bytes:
    """Validation frontiers of the best way of each policy, then of the next best ways, as PNG."""
    figure = Figure(figsize=(10, 6), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.08, 0.11, 0.89, 0.79))
    for colour, way in zip(COLOURS, _shown([w for w in ways if w.states]), strict=False):
        accuracy = np.array([s.counts.clean_accuracy for s in way.states])
        attack = np.array([s.counts.attack_success for s in way.states])
        front = non_dominated(accuracy, attack)
        axes.step(accuracy[front], attack[front], where="pre", color=colour, linewidth=1.8,
                  label=f"{way.policy}, {way.order} ({way.hypervolume:.3f})")
        axes.scatter(accuracy[front], attack[front], s=12, color=colour)
    axes.set_xlabel("Clean accuracy on validation  (right is better)")
    axes.set_ylabel("Attack success on validation  (down is better)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(color="#E8EAEE", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False, fontsize=9, loc="upper left", title="policy, order (hypervolume)")
    figure.text(0.08, 0.94, f"{name}: the best way of each policy, and the next best".replace("$", r"\$"),
                size=13, weight="bold")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


def _shown(ways: Sequence[Way]) -> list[Way]:
    leaders: dict[str, Way] = {}
    for way in ways:
        leaders.setdefault(way.policy, way)
    chosen = list(leaders.values())[:SHOWN]
    chosen += [w for w in ways if w not in chosen][: SHOWN - len(chosen)]
    return sorted(chosen, key=lambda w: -w.hypervolume)
