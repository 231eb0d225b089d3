"""The drawings of a report, as SVG that stands in the page: always dark on white, so that they print."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sweeps.reports.frontier_scene import COLOURS

GREY, RED, INK = "#B8C0CC", "#C0392B", "#1F2933"
MARKERS = "osD^v"
STYLE: Any = {"svg.hashsalt": "goodnet", "svg.fonttype": "path", "font.size": 9}

Json = Mapping[str, Any]


def ladder_svg(rungs: Sequence[Json], badnet: Json, chosen: Json | None) -> bytes:
    """A frontier for each rung that has one, on validation; the BadNet, the chosen state."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.6), facecolor="white")
        axes = figure.subplots()
        for number, rung in enumerate(rungs):
            if not rung["frontier"]:
                continue
            x = np.array([p["clean_accuracy"] for p in rung["frontier"]])
            y = np.array([p["attack_success"] for p in rung["frontier"]])
            colour = COLOURS[number % len(COLOURS)]
            axes.step(x, y, where="post", color=colour, linewidth=1.6, label=plain(rung["words"]))
            axes.scatter(x, y, s=16, color=colour, marker=MARKERS[number % len(MARKERS)])
        axes.scatter(
            [badnet["clean_accuracy"]], [badnet["attack_success"]], s=70, marker="X", color=INK,
            label="as handed in", zorder=4,
        )  # fmt: skip
        if chosen is not None:
            axes.scatter(
                [chosen["clean_accuracy"]], [chosen["attack_success"]], s=150, facecolors="none",
                edgecolors=RED, linewidths=2, label="proposed on this page", zorder=5,
            )  # fmt: skip
        axes.set_xlabel("ordinary pictures named rightly, validation (right is better)")
        axes.set_ylabel("attack success (down is better)")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(-0.03, 1.05)
        axes.grid(color="#E8EAEE", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
        return _svg(figure)


def channels_svg(layers: Sequence[Json]) -> bytes:
    """A row for each layer: a bar for each channel, as high as the trigger moves its activation; pruned ones
    in red. Without gaps the bars are equal."""
    with matplotlib.rc_context(STYLE):
        height = 0.6 + 1.05 * len(layers)
        figure = Figure(figsize=(7.2, height), facecolor="white")
        rows = figure.subplots(len(layers), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(0.06, 0.45 / height, 0.99, 1 - 0.25 / height, hspace=0.75)
        for axes, layer in zip(rows, layers, strict=True):
            count = layer["channels"]
            gaps = np.ones(count) if layer["gaps"] is None else np.array(layer["gaps"])
            pruned = np.zeros(count, bool)
            pruned[layer["pruned"]] = True
            edges = np.arange(count + 1) - 0.5
            for some, colour in ((~pruned, GREY), (pruned, RED)):
                axes.stairs(np.where(some, gaps, 0.0), edges, fill=True, color=colour)
            # Below: the mask alone, so that a pruned channel without a gap is seen.
            axes.plot(np.flatnonzero(pruned), np.full(int(pruned.sum()), -0.08), "|", color=RED,
                      markersize=5, transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip
            axes.axhline(0, color=INK, linewidth=0.6)
            axes.set_xlim(-1, count)
            axes.set_title(plain(layer["name"]), size=8, loc="left", pad=2)
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            axes.tick_params(labelsize=7)
            axes.yaxis.set_major_locator(MaxNLocator(3))
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            if layer["gaps"] is None:
                axes.set_yticks([])
        rows[-1].set_xlabel("number of the channel in its layer", size=8)
        return _svg(figure)


def plain(text: str) -> str:
    """A name for matplotlib: no mathematics in it, and not too long."""
    short = text if len(text) <= 60 else text[:57] + "..."
    return "".join(c if c.isprintable() else " " for c in short).replace("$", r"\$")


def _svg(figure: Figure) -> bytes:
    out = io.BytesIO()
    FigureCanvasSVG(figure)
    figure.savefig(out, format="svg", bbox_inches="tight", pad_inches=0.1, metadata={"Date": None})
    return out.getvalue()
