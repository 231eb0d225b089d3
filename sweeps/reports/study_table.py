"""The study as one table that a paper could print: nets, what was known, methods, and what is left of the
attack within a price; every row from the records of its sweep."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from prune_core.counts import Counts
from prune_core.methods import WEAKEST_FIRST
from sweeps.records.trial_record import State, TrialRecord
from sweeps.reports.study import lowest_attack_within

PRICES = (2.0, 4.0)  # points of clean accuracy on validation


@dataclass(frozen=True)
class PaperRow:
    """What one method does to one net.

    Attributes:
        net: the sweep. known: what has to be known for the method. method: policy and repair.
        points: percentage points of clean validation accuracy that a state may cost.
        badnet: counts on test.
        chosen: of each seed the counts on test of the state with the lowest attack success on validation
            within ``points``; () where no seed has one.
        seeds: that were run. trials: that have states, stopped ones (``sweep.stop``) among them; failed:
            that have none.
    """

    net: str
    known: str
    method: str
    points: float
    badnet: Counts
    chosen: tuple[Counts, ...]
    seeds: int
    trials: int
    failed: int


def paper_rows(net: str, records: Sequence[TrialRecord], test: Callable[[State], Counts]) -> list[PaperRow]:
    """A row for each procedure and price; what needs the least first. Validation chooses, within each seed
    alone; ``test`` counts the chosen states."""
    groups: dict[tuple[str, str], list[TrialRecord]] = {}
    for record in records:
        groups.setdefault((record.settings.method.assumption, record.settings.procedure), []).append(record)
    rows = []
    for (known, method), theirs in groups.items():
        done = [r for r in theirs if r.status != "failed"]
        badnet = next((r.badnet_test for r in done if r.badnet_test is not None), None)
        if badnet is None:
            continue
        by_seed: dict[int, list[TrialRecord]] = {}
        for record in done:
            by_seed.setdefault(record.settings.seed, []).append(record)
        for points in PRICES:
            chosen = [_best(found, points) for _, found in sorted(by_seed.items())]
            counts = tuple(test(state) for state in chosen if state is not None)
            rows.append(
                PaperRow(
                    net,
                    known,
                    method,
                    points,
                    badnet,
                    counts,
                    len(by_seed),
                    len(done),
                    len(theirs) - len(done),
                )  # fmt: skip
            )
    return sorted(rows, key=lambda row: (WEAKEST_FIRST.index(row.known), row.method, row.points))


def _best(records: Sequence[TrialRecord], points: float) -> State | None:
    badnet = records[0].badnet_valid
    states = [state for record in records for state in record.states()]
    return None if badnet is None else lowest_attack_within(states, badnet, points)


def paper_markdown(rows: Sequence[PaperRow]) -> str:
    """One seed: counts, and the 95 % Wilson interval of the attack. Several: the mean over seeds, and from
    the least to the largest; such a range says nothing of other images."""
    lines = [
        "| net | known | method | within | seeds | clean accuracy on test, % | attack success on test, % |",
        "|---|---|---|---|---|---|---|",
    ]
    nets: list[str] = []
    for row in rows:
        if row.net not in nets:
            nets.append(row.net)
            lines.append(_line(row.net, "-", "as handed in", "-", "-", *_cells((row.badnet,))))
        seeds = f"{len(row.chosen)} of {row.seeds}" if len(row.chosen) < row.seeds else str(row.seeds)
        cells = _cells(row.chosen) if row.chosen else ("no state", "no state")
        lines.append(_line(row.net, row.known, row.method, f"{row.points:g} points", seeds, *cells))
    return "\n".join(lines) + "\n"


def paper_csv(rows: Sequence[PaperRow]) -> str:
    """A line for each seed of each row, in counts, so that other figures can be made of it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["net", "known", "method", "points", "chosen", "clean_correct", "clean_total", "attacked",
         "poisoned_total", "badnet_clean_correct", "badnet_attacked"]
    )  # fmt: skip
    for row in rows:
        for number, c in enumerate(row.chosen):
            writer.writerow(
                [row.net, row.known, row.method, row.points, number, c.clean_correct, c.clean_total,
                 c.attacked, c.poisoned_total, row.badnet.clean_correct, row.badnet.attacked]
            )  # fmt: skip
    return text.getvalue()


def _cells(counts: Sequence[Counts]) -> tuple[str, str]:
    clean = [c.clean_accuracy for c in counts]
    attack = [c.attack_success for c in counts]
    if len(counts) == 1:
        one, rate = counts[0], counts[0].rates()[1]
        return (
            f"{100 * clean[0]:.1f} ({one.clean_correct}/{one.clean_total})",
            f"{100 * attack[0]:.1f} ({one.attacked}/{one.poisoned_total}; "
            f"{100 * rate.low:.1f} to {100 * rate.high:.1f})",
        )
    return _spread(clean), _spread(attack)


def _spread(rates: Sequence[float]) -> str:
    low, high = 100 * min(rates), 100 * max(rates)
    return f"{100 * statistics.mean(rates):.1f} ({low:.1f} to {high:.1f} over {len(rates)} seeds)"


def _line(*cells: Any) -> str:
    return "| " + " | ".join(str(c).replace("|", "/") for c in cells) + " |"
