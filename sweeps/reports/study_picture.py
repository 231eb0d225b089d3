"""The picture of a study's sweep: the best frontiers, and how far every order gets."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prune_core.frontier import non_dominated
from sweeps.records.settings import NO_ORDER
from sweeps.reports.frontier_scene import COLOURS
from sweeps.reports.study import Way

SHOWN = 6  # frontiers in a picture: more lines cannot be told apart
MARKERS = "osD^vPX"


def study_png(name: str, ways: Sequence[Way]) -> bytes:
    """Left: validation frontiers of the best way of each policy, then of the next best. Right: the
    hypervolume of every order, a mark for each policy at its best layer set."""
    done = [w for w in ways if w.done]
    orders = list(dict.fromkeys(w.order for w in done))  # best first, as the ways are
    figure = Figure(figsize=(13, max(6.0, 1.6 + 0.27 * len(orders))), facecolor="white")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _frontiers(left, [w for w in done if w.states])
    _orders(right, done, orders)
    for axes in (left, right):
        axes.grid(color="#E8EAEE", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(name.replace("$", r"\$"), size=14, weight="bold", x=0.02, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.97), w_pad=2.5)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100, bbox_inches="tight", pad_inches=0.2)  # legends, too
    return out.getvalue()


def _frontiers(axes: Axes, ways: Sequence[Way]) -> None:
    for colour, way in zip(COLOURS, _shown(ways), strict=False):
        accuracy = np.array([s.counts.clean_accuracy for s in way.states])
        attack = np.array([s.counts.attack_success for s in way.states])
        front = non_dominated(accuracy, attack)
        # Points go left; until the next one is reached, the attack is that of the one before.
        axes.step(
            accuracy[front],
            attack[front],
            where="post",
            color=colour,
            linewidth=1.8,
            label=f"{way.label} ({way.hypervolume:.3f})",
        )
        axes.scatter(accuracy[front], attack[front], s=14, color=colour)
    axes.set_title("The best way of each policy, and the next best (hypervolume)", size=10, loc="left")
    axes.set_xlabel("Clean accuracy on validation  (right is better)")
    axes.set_ylabel("Attack success on validation  (down is better)")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))  # as many decimals as the ticks need
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if axes.lines:
        _legend(axes, columns=1)


def _orders(axes: Axes, ways: Sequence[Way], orders: Sequence[str]) -> None:
    policies = list(dict.fromkeys(w.policy for w in ways))
    for i, policy in enumerate(policies):
        best: dict[str, float] = {}
        for way in ways:
            if way.policy == policy:
                best[way.order] = max(best.get(way.order, 0.0), way.hypervolume)
        # A little apart, so that marks at one place are all seen.
        offset = 0.12 * (i - (len(policies) - 1) / 2)
        axes.scatter(
            list(best.values()),
            [orders.index(o) + offset for o in best],
            s=34,
            marker=MARKERS[i % len(MARKERS)],
            color=COLOURS[i % len(COLOURS)],
            label=policy,
            alpha=0.85,
        )
    axes.set_yticks(range(len(orders)), ["no order" if o == NO_ORDER else o for o in orders], fontsize=9)
    axes.invert_yaxis()
    axes.set_title("Every order, at its best layer set", size=10, loc="left")
    axes.set_xlabel("Hypervolume on validation  (right is better)")
    if policies:
        _legend(axes, columns=2)


def _legend(axes: Axes, columns: int) -> None:
    """Below the axes, where no line can run under it."""
    axes.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=columns)


def _shown(ways: Sequence[Way]) -> list[Way]:
    leaders: dict[str, Way] = {}
    for way in ways:
        leaders.setdefault(way.policy, way)
    chosen = list(leaders.values())[:SHOWN]
    chosen += [w for w in ways if w not in chosen][: SHOWN - len(chosen)]
    return sorted(chosen, key=lambda w: -w.hypervolume)
