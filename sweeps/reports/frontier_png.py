"""The frontier as a PNG. The interactive twin is ``frontier_page``."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from sweeps.records.trial_record import TrialRecord
from sweeps.reports.frontier_scene import CAVEAT, MARKS, Scene, kind_of, kinds_of, make_scene
from sweeps.results import Frontier

INK, GREY, RED = "#16213A", "#6B7280", "#C1121F"
WIDTH, HEIGHT, DPI = 10, 7, 160  # inches; readable at 1000 x 700


def frontier_png(records: Sequence[TrialRecord], frontier: Frontier, name: str) -> bytes:
    """The frontier of sweep ``name`` over all accepted states of ``records``, as PNG.

    x: clean accuracy, right is better; y: attack success, down is better; both in per cent.
    """
    scene = make_scene(records, frontier, name)
    figure = draw(scene)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Title": scene.title})
    return out.getvalue()


def draw(scene: Scene) -> Figure:
    """The figure, without pyplot's global state, so that any thread may draw one."""
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.08, 0.19, 0.89, 0.675))
    _frame(axes, scene)
    _bounds(axes, scene)
    _trials(axes, scene)
    _frontier(axes, scene)
    _badnet(axes, scene)
    _legends(figure, scene)
    figure.text(0.08, 0.945, _plain(scene.title), size=15, weight="bold", color=INK)
    caption = textwrap.fill(_plain(scene.caption), 128)
    figure.text(0.08, 0.925, caption, size=9.2, color=GREY, va="top", linespacing=1.35)
    states = "1 state lies" if scene.outside == 1 else f"{scene.outside} states lie"
    beyond = f"  {states} left of the picture." if scene.outside else ""
    figure.text(0.08, 0.022, CAVEAT + beyond, size=9.5, color=INK, style="italic")
    return figure


def _frame(axes: Axes, scene: Scene) -> None:
    axes.set_xlim(*scene.accuracy)
    axes.set_ylim(-0.03, 1.06)
    axes.set_xlabel("Clean accuracy  (right is better)", color=INK, size=11, labelpad=8)
    axes.set_ylabel("Attack success  (down is better)", color=INK, size=11, labelpad=6)
    span = scene.accuracy[1] - scene.accuracy[0]
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if span > 0.08 else 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(color="#E8EAEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=GREY, length=0, labelsize=10)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _bounds(axes: Axes, scene: Scene) -> None:
    for x, accuracy in scene.bounds.items():
        if scene.accuracy[0] <= accuracy <= scene.accuracy[1]:
            axes.axvline(accuracy, color=GREY, linewidth=0.9, linestyle=(0, (4, 4)), alpha=0.6)
            axes.annotate(
                f"X = {x:g}",
                (accuracy, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, -2),
                textcoords="offset points",
                ha="center",
                va="top",
                size=8.5,
                color=GREY,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
            )


def _trials(axes: Axes, scene: Scene) -> None:
    for group, paths in scene.groups.items():
        colour = scene.colour(group)
        ways = [
            np.array([(d.valid.clean_accuracy, d.valid.attack_success) for d in path.dots]) for path in paths
        ]
        # One artist for all: of ten thousand trials one each would take a minute.
        axes.add_collection(LineCollection(ways, colors=colour, linewidths=0.9, alpha=0.28, zorder=2))
        states = np.concatenate([way[1:] for way in ways])
        axes.scatter(states[:, 0], states[:, 1], s=13, color=colour, alpha=0.38, linewidths=0, zorder=2.5)


def _frontier(axes: Axes, scene: Scene) -> None:
    points = scene.frontier.points
    if not points:
        nothing = "No trial has pruned a channel yet"
        if scene.frontier.no_attack is not None:
            nothing = "There was no attack to remove"
        axes.text(0.5, 0.5, nothing, transform=axes.transAxes, ha="center", color=GREY, size=13)
        return
    accuracy = [p.valid.clean_accuracy for p in points]
    attack = [p.valid.attack_success for p in points]
    test_accuracy = [p.test.clean_accuracy for p in points]
    test_attack = [p.test.attack_success for p in points]
    for pair in zip(accuracy, test_accuracy, attack, test_attack, strict=True):
        axes.plot(pair[:2], pair[2:], color=INK, linewidth=0.7, alpha=0.35, zorder=3)
    # Steps, not slopes: between two states nothing better than the more accurate one was found.
    axes.step(accuracy, attack, where="post", color=INK, linewidth=2.2, zorder=4)
    for kind in kinds_of(points):
        of_kind = [p for p in points if kind_of(p) == kind]
        look: dict[str, Any] = {"marker": MARKS[kind][0], "s": 40 if kind == "pruning" else 70}
        axes.scatter(
            [p.test.clean_accuracy for p in of_kind],
            [p.test.attack_success for p in of_kind],
            facecolor="white",
            edgecolor=INK,
            linewidth=1.3,
            zorder=5,
            **look,
        )
        axes.scatter(
            [p.valid.clean_accuracy for p in of_kind],
            [p.valid.attack_success for p in of_kind],
            color=INK,
            edgecolor="white",
            linewidth=0.8,
            zorder=6,
            **look,
        )


def _badnet(axes: Axes, scene: Scene) -> None:
    for counts, face in ((scene.badnet_test, "white"), (scene.badnet, RED)):
        if counts is not None:
            axes.scatter(
                [counts.clean_accuracy],
                [counts.attack_success],
                s=95,
                marker="D",
                facecolor=face,
                edgecolor=RED,
                linewidth=1.5,
                zorder=7,
                clip_on=False,
            )


def _legends(figure: Figure, scene: Scene) -> None:
    """Two rows under the axes: what the marks are, and whose the faint trials are. In smaller letters
    where a row would run out of the picture."""
    dot = {"marker": "o", "color": INK, "markersize": 6.5}
    marks = [
        _mark("frontier, validation", linewidth=2.2, **dot),
        _mark("the same states, test", linestyle="none", markerfacecolor="white", **dot),
        *(
            _mark(kind, linestyle="none", **{**dot, "marker": MARKS[kind][0]})
            for kind in kinds_of(scene.frontier.points)
            if kind != "pruning"
        ),
        _mark("BadNet (hollow: test)", marker="D", color=RED, linestyle="none", markersize=7.5),
    ]
    trials = [
        _mark(
            f"{scene.grouped_by} {group}",
            color=scene.colour(group),
            marker="o",
            markersize=4.5,
            linewidth=1.2,
            alpha=0.75,
        )
        for group in scene.groups
    ]
    for handles, height in ((marks, 0.098), (trials, 0.068)):
        size = 9.2
        for _ in range(2):
            legend = figure.legend(
                handles=handles,
                loc="center left",
                bbox_to_anchor=(0.066, height),
                frameon=False,
                ncols=max(len(handles), 1),
                fontsize=size,
                labelcolor=INK,
                handlelength=1.7,
                columnspacing=1.6,
            )
            beyond = legend.get_window_extent().x1 / figure.bbox.width
            if beyond <= 1:
                break
            legend.remove()
            size *= (0.98 - 0.066) / (beyond - 0.066)


def _mark(label: str, **style: Any) -> Line2D:
    return Line2D([], [], label=_plain(label), **style)


def _plain(text: str) -> str:
    """Names from files are text: matplotlib would read what stands between dollars as TeX."""
    return text.replace("$", r"\$")
