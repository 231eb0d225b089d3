"""The frontier as one interactive HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs_version

from prune_core.counts import Counts, Rate
from sweeps.records.settings import TrialSettings
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.frontier_scene import CAVEAT, MARKS, Path, Scene, kind_of, make_scene
from sweeps.reports.price import price
from sweeps.results import Frontier, FrontierPoint

INK, GREY, RED = "#16213A", "#6B7280", "#C1121F"

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="goodnet, plotly.js {plotlyjs}">
<title>{title}</title>
<style>
body {{ margin: 24px auto; max-width: 1080px; padding: 0 20px; color: #16213A; background: #fff;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }}
h1 {{ font-size: 21px; margin: 0 0 4px; }}
h2 {{ font-size: 16px; margin: 28px 0 6px; }}
p {{ margin: 4px 0; color: #4B5563; max-width: 920px; }}
p.caveat {{ color: #16213A; font-style: italic; }}
div.table {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }}
th, td {{ padding: 5px 12px 5px 0; text-align: right; border-bottom: 1px solid #E8EAEE;
         vertical-align: top; }}
th {{ color: #6B7280; font-weight: 600; }}
th.text, td.text {{ text-align: left; }}
small {{ color: #6B7280; display: block; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{caption}</p>
<p class="caveat">{caveat}</p>
{chart}
<h2>Frontier states</h2>
<div class="table"><table>
<thead><tr><th class="text">Trial</th><th class="text">What was done,<br>what it takes</th><th>Step</th>
<th>Channels<br>pruned</th>
<th>Clean accuracy<br>validation</th><th>Attack success<br>validation</th>
<th>Clean accuracy<br>test</th><th>Attack success<br>test</th>
<th>Points lost<br>on test</th></tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p>Marks on the frontier: circle pruning, triangle scaling, square fine-tuning, cross fine-tuning with
the margin held, star unlearning, x a published baseline. Kinds rest on different assumptions.</p>
<p>Small print: 95&nbsp;% Wilson intervals. Hover over a point for its trial; drag to zoom,
double-click to zoom out, click on the legend to hide.</p>
</body>
</html>
"""


def frontier_page(records: Sequence[TrialRecord], frontier: Frontier, name: str) -> str:
    """The page of sweep ``name``: the chart with a hover text for every accepted state, and the
    frontier as a table. Self-contained (about 5 MB, of which nearly all is plotly.js)."""
    scene = make_scene(records, frontier, name)
    settings = {r.key: r.settings for r in records}
    chart = figure(scene, settings).to_html(
        full_html=False,
        include_plotlyjs=True,
        div_id="frontier",
        config={
            "displaylogo": False,
            "responsive": True,
            # No button that would send a lab's results to Plotly's servers.
            "modeBarButtonsToRemove": ["sendChartToCloud", "select2d", "lasso2d"],
        },
    )
    return _PAGE.format(
        plotlyjs=get_plotlyjs_version(),
        title=escape(scene.title),
        caption=escape(scene.caption),
        caveat=escape(CAVEAT),
        chart=chart,
        rows="\n".join(
            [_badnet_row(scene), *(_table_row(p, settings, scene.badnet_test) for p in frontier.points)]
        ),
    )


def figure(scene: Scene, settings: Mapping[str, TrialSettings]) -> go.Figure:
    """The chart; axes are fractions, shown in per cent."""
    chart = go.Figure()
    for group, paths in scene.groups.items():
        chart.add_trace(_trials(scene, group, paths))
    points = scene.frontier.points
    if points:
        _add_frontier(chart, points, settings)
    if scene.badnet is not None and scene.badnet_test is not None:
        for split, counts, symbol in (
            ("validation", scene.badnet, "diamond"),
            ("test", scene.badnet_test, "diamond-open"),
        ):
            chart.add_trace(
                go.Scatter(
                    x=[counts.clean_accuracy],
                    y=[counts.attack_success],
                    mode="markers",
                    name=f"BadNet, {split}",
                    cliponaxis=False,
                    marker={"symbol": symbol, "size": 13, "color": RED, "line": {"width": 2}},
                    text=[f"<b>BadNet</b>, {split}<br>{_rates(counts)}"],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    for x, accuracy in scene.bounds.items():
        chart.add_vline(
            accuracy,
            line={"color": GREY, "width": 1, "dash": "dash"},
            opacity=0.55,
            annotation={
                "text": f"X = {x:g}",
                "font": {"size": 11, "color": GREY},
                "yref": "paper",
                "y": 1.0,
                "yanchor": "bottom",
                "xanchor": "center",
            },
        )
    _lay_out(chart, scene)
    return chart


def _trials(scene: Scene, group: str, paths: Sequence[Path]) -> go.Scatter:
    """All trials of a group as one trace, with gaps between them."""
    tested = {(p.trial_key, p.step): p.test for p in scene.frontier.points}
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    for path in paths:
        for dot in path.dots:
            x.append(dot.valid.clean_accuracy)
            y.append(dot.valid.attack_success)
            test = scene.badnet_test if dot.step == 0 else tested.get((path.key, dot.step))
            text.append(_hover(path.settings, path.key, dot.step, dot.pruned, dot.valid, test))
        x.append(None)
        y.append(None)
        text.append("")
    return go.Scatter(
        x=x,
        y=y,
        text=text,
        mode="lines+markers",
        name=f"{scene.grouped_by} {escape(group)}",
        line={"width": 1, "color": scene.colour(group)},
        marker={"size": 5},
        opacity=0.38,
        hovertemplate="%{text}<extra></extra>",
        connectgaps=False,
    )


def _add_frontier(
    chart: go.Figure, points: Sequence[FrontierPoint], settings: Mapping[str, TrialSettings]
) -> None:
    text = [
        _hover(settings.get(p.trial_key), p.trial_key, p.step, p.channels_pruned, p.valid, p.test)
        for p in points
    ]
    joined_x: list[float | None] = []
    joined_y: list[float | None] = []
    for p in points:
        joined_x += [p.valid.clean_accuracy, p.test.clean_accuracy, None]
        joined_y += [p.valid.attack_success, p.test.attack_success, None]
    chart.add_trace(
        go.Scatter(
            x=joined_x,
            y=joined_y,
            mode="lines",
            hoverinfo="skip",
            opacity=0.35,
            showlegend=False,
            line={"width": 1, "color": INK},
            legendgroup="test",
        )
    )
    symbols = [MARKS[kind_of(p)][1] for p in points]
    common = {"text": text, "hovertemplate": "%{text}<extra></extra>"}
    # Steps, not slopes: between two states nothing better than the more accurate one was found.
    chart.add_trace(
        go.Scatter(
            x=[p.valid.clean_accuracy for p in points],
            y=[p.valid.attack_success for p in points],
            mode="lines+markers",
            name="frontier, validation",
            line={"width": 3, "color": INK, "shape": "hv"},
            marker={
                "size": [9 if s == "circle" else 12 for s in symbols],
                "symbol": symbols,
                "color": INK,
                "line": {"width": 1, "color": "white"},
            },
            **common,
        )
    )
    chart.add_trace(
        go.Scatter(
            x=[p.test.clean_accuracy for p in points],
            y=[p.test.attack_success for p in points],
            mode="markers",
            name="the same states, test",
            legendgroup="test",
            marker={"size": 9, "symbol": symbols, "color": "white", "line": {"width": 1.6, "color": INK}},
            **common,
        )
    )


def _lay_out(chart: go.Figure, scene: Scene) -> None:
    axis = {"gridcolor": "#E8EAEE", "zeroline": False, "linecolor": "#E8EAEE"}
    span = scene.accuracy[1] - scene.accuracy[0]
    chart.update_layout(
        template="plotly_white",
        height=620,
        hovermode="closest",
        font={"family": "system-ui, -apple-system, Segoe UI, Roboto, sans-serif", "color": INK},
        margin={"l": 70, "r": 20, "t": 40, "b": 60},
        legend={"orientation": "h", "y": -0.14, "x": 0.5, "xanchor": "center"},
        hoverlabel={"bgcolor": "white", "align": "left", "font": {"size": 13, "color": INK}},
        xaxis={
            **axis,
            "title": {"text": "Clean accuracy (right is better)"},
            "range": list(scene.accuracy),
            "tickformat": ".0%" if span > 0.08 else ".1%",
        },
        yaxis={
            **axis,
            "title": {"text": "Attack success (down is better)"},
            "range": [-0.03, 1.05],
            "tickformat": ".0%",
        },
    )


def _hover(
    settings: TrialSettings | None,
    key: str,
    step: int,
    pruned: int,
    valid: Counts,
    test: Counts | None,
) -> str:
    """Plotly reads a little HTML in hover texts, so names from files are escaped."""
    lines = [
        f"<b>{escape(str(settings or 'unknown trial'))}</b>",
        f"trial {escape(key)}, " + ("the BadNet" if step == 0 else f"step {step}"),
        f"channels pruned: {pruned}",
        *([] if settings is None else [f"{settings.method.kind}; takes {settings.method.assumption}"]),
        f"<i>validation</i><br>{_rates(valid)}",
        f"<i>test</i><br>{'measured for frontier states only' if test is None else _rates(test)}",
    ]
    return "<br>".join(lines)


def _rates(counts: Counts) -> str:
    clean, attack, *_ = counts.rates()
    return (
        f"clean accuracy {_with_interval(clean)}<br>attack success {_with_interval(attack)}"
        f"{counts.trigger_words()}"
    )


def _with_interval(rate: Rate) -> str:
    return f"{rate.rate:.2%} {_interval(rate)}"


def _interval(rate: Rate) -> str:
    return f"[{100 * rate.low:.2f}–{100 * rate.high:.2f}]"


def _each(counts: Counts, rate: Rate) -> str:
    """The attack's counts of each trigger, where there are several."""
    if rate.name != "attack_success" or not counts.triggers:
        return ""
    return f"<small>{', '.join(f'{t.attacked}/{t.poisoned_total}' for t in counts.triggers)}</small>"


def _taken(point: FrontierPoint) -> str:
    return "" if point.settings is None else escape(point.settings.method.assumption)


def _badnet_row(scene: Scene) -> str:
    """The BadNet above the states that are to replace it."""
    if scene.badnet is None or scene.badnet_test is None:
        return ""
    cells = ['<td class="text">BadNet</td>', '<td class="text"></td>', "<td>0</td>", "<td>0</td>"]
    return (
        f"<tr class='badnet'>{''.join([*cells, *_rate_cells(scene.badnet, scene.badnet_test)])}<td></td></tr>"
    )


def _rate_cells(*splits: Counts) -> list[str]:
    return [
        f"<td>{rate.rate:.2%}<small>{_interval(rate)}</small>{_each(counts, rate)}</td>"
        for counts in splits
        for rate in counts.rates()[:2]
    ]


def _table_row(
    point: FrontierPoint, settings: Mapping[str, TrialSettings], badnet_test: Counts | None
) -> str:
    name = str(settings.get(point.trial_key, "unknown trial"))
    cells = [
        f'<td class="text">{escape(name)}<small>{escape(point.trial_key)}</small></td>',
        f'<td class="text">{kind_of(point)}<small>{_taken(point)}</small></td>',
        f"<td>{point.step}</td>",
        f"<td>{point.channels_pruned}</td>",
    ]
    cells += _rate_cells(point.valid, point.test)
    if badnet_test is None:
        cells.append("<td></td>")
    else:
        lost = price(badnet_test, point.test)
        cells.append(f"<td>{lost['points']:+.2f}<small>{lost['lost']} images</small></td>")
    return f"<tr>{''.join(cells)}</tr>"
