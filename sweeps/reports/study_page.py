"""The study as a page: docs/study.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from prune_core.data.checks.findings import Finding
from prune_core.methods import KINDS
from sweeps.reports.frontier_scene import CAVEAT
from sweeps.reports.study import POINTS, Chosen, Way, grouped, winners

SHOWN = 12  # rows of a long table; the rest is folded away
HEADS = " | ".join(f"within {p:g}" for p in POINTS)


@dataclass(frozen=True)
class Part:
    """One sweep of the study. ``ways``: best first. ``picture``: a file's name beside the page.
    ``about``: what its configuration says of itself. ``net``: the same for all sweeps on the same
    BadNet and images. ``findings``: of the look at the data."""

    name: str
    ways: Sequence[Way]
    picture: str
    about: str = ""
    net: str = ""
    findings: Sequence[Finding] = ()


def study_markdown(parts: Sequence[Part], remarks: str = "") -> str:
    """``remarks``: what a person has written about it, put in front of the tables."""
    return (
        "\n".join(
            [
                "# Which orders and policies matter",
                "",
                "Made by `make study` from the configurations in `configs/study`; the same command goes on "
                "where it was. States are chosen on validation: within so many points of the BadNet's clean "
                "accuracy, the one with the lowest attack success. Of that one, clean accuracy / attack "
                "success **on test** are shown, in per cent. Hypervolume (validation) is bounded by the "
                "largest X of a sweep, so it compares ways of one sweep, not sweeps. " + CAVEAT,
                "",
                *([remarks.strip(), ""] if remarks.strip() else []),
                *_winners(parts),
                *(line for part in parts for line in _section(part)),
            ]
        )
        + "\n"
    )


def _winners(parts: Sequence[Part]) -> list[str]:
    lines = ["## The best of each net", ""]
    nets: dict[str, list[Part]] = {}
    for part in parts:
        nets.setdefault(part.net or part.name, []).append(part)
    for found in nets.values():
        best = winners([way for part in found for way in part.ways])
        if not best:
            continue
        lines += [
            f"{', '.join(p.name for p in found)}:",
            "",
            "| kind | within | way | on validation | on test (95 % interval of the attack) | "
            "channels pruned |",
            "|---|---|---|---|---|---|",
        ]
        for kind, by_points in best.items():
            for points, way in by_points.items():
                chosen = way.within[points]
                valid = f"{100 * chosen.valid.clean_accuracy:.1f} / {100 * chosen.valid.attack_success:.1f}"
                lines.append(
                    f"| {kind} | {points:g} points | {way.label} | {valid} | "
                    f"{_test(chosen, interval=True)} | {chosen.channels} |"
                )
        lines += ["", *_found([f for part in found for f in part.findings if f.level != "note"])]
    return lines


def _found(findings: Sequence[Finding]) -> list[str]:
    """What was found in the data stands with the figures that it touches; as code, for it may name what a
    file holds."""
    lines = list(dict.fromkeys(f"    {f.level}: {' '.join(f.detail.split())}" for f in findings))
    return ["Found in the data:", "", *lines, ""] if lines else []


def _section(part: Part) -> list[str]:
    lines = [
        f"## {part.name}",
        "",
        *([part.about, ""] if part.about else []),
        *_found(part.findings),
        f"![{part.name}: the best ways]({part.picture})",
        "",
    ]
    done = [w for w in part.ways if w.done]
    if not done:
        lines += ["No trial is done yet.", ""]
    for kind in KINDS:
        ways = [w for w in done if w.kind == kind]
        if not ways:
            continue
        if kind != "pruning":
            takes = "; ".join(dict.fromkeys(w.assumption for w in ways))
            lines += [
                f"### {part.name}: {kind}",
                "",
                f"Weights are changed, from {takes}. Such nets compare with each other only; "
                "four fifths of the validation images were trained on, so that their "
                "hypervolume flatters them.",
                "",
            ]
        for of, word in (("policy", "policy"), ("order", "order"), ("layers", "layer set")):
            if len({getattr(w, of) for w in ways}) > 1:
                lines += _groups(ways, of, word)
        lines += _rows(ways)
    failed = [(w.order, reason) for w in part.ways for reason in w.failed]
    for order, reason in dict.fromkeys(failed):
        lines += [f"Not possible: {order}: {reason}", ""]
    return lines


def _groups(ways: Sequence[Way], of: str, word: str) -> list[str]:
    lines = [
        f"| by {word} | ways | mean hypervolume | best | mean spread | "
        f"{' | '.join(f'mean attack within {p:g}' for p in POINTS)} | tried a trial | seconds a trial |",
        "|---|---|---|---|---|" + "---|" * (len(POINTS) + 2),
    ]
    for g in grouped(ways, of):
        spread = "-" if g.spread is None else f"{g.spread:.3f}"
        attack = " | ".join(f"{100 * g.attack[p]:.1f}" for p in POINTS)
        lines.append(
            f"| {_layers(g.name) if of == 'layers' else g.name} | {g.ways} | {g.mean:.3f} | "
            f"{g.best:.3f} | {spread} | {attack} | {g.candidates:.0f} | {g.seconds:.0f} |"
        )
    return [*lines, ""]


def _rows(ways: Sequence[Way]) -> list[str]:
    head = [
        f"| order | policy | layers | hypervolume | spread | {HEADS} | tried | seconds |",
        "|---|---|---|---|---|" + "---|" * (len(POINTS) + 2),
    ]
    rows = [_row(way) for way in ways]
    lines = [*head, *rows[:SHOWN], ""]
    if len(rows) > SHOWN:
        lines += [
            f"<details><summary>The other {len(rows) - SHOWN}</summary>",
            "",
            *head,
            *rows[SHOWN:],
            "",
            "</details>",
            "",
        ]
    return lines


def _row(way: Way) -> str:
    spread = f"{way.spread:.4f}" if len(way.by_seed) > 1 else "-"
    cells = " | ".join(_test(way.within.get(points)) for points in POINTS)
    return (
        f"| {way.order} | {way.policy} | {_layers(way.layers)} | {way.hypervolume:.4f} | {spread} | "
        f"{cells} | {way.candidates} | {way.seconds:.0f} |"
    )


def _test(chosen: Chosen | None, interval: bool = False) -> str:
    if chosen is None:
        return "none"
    test = chosen.test
    rates = f"{100 * test.clean_accuracy:.1f} / {100 * test.attack_success:.1f}"
    attack = test.rates()[1]
    return f"{rates} ({100 * attack.low:.1f} to {100 * attack.high:.1f})" if interval else rates


def _layers(names: str) -> str:
    return names if len(names) <= 40 else f"{len(names.split())} layers"
