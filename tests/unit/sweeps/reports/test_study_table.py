"""The one table of the study: chosen on validation within each seed, counted on test."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from factories import make_counts, make_record, make_settings

from prune_core.counts import Counts
from prune_core.methods import CLEAN, CLEAN_AND_TARGET, POISONED
from sweeps.records.trial_record import State
from sweeps.reports.study_table import paper_csv, paper_markdown, paper_rows

RECORDS = [
    # Of 990 clean images, 19 may be lost at 2 points (970 of 1000) and 40 at 4 (950).
    make_record("a", [(985, 400), (970, 100), (955, 20)], make_settings("l1", policy="margin")),
    replace(
        make_record("b", [(980, 300), (960, 40)], make_settings("l1", policy="margin")),
        settings=replace(make_settings("l1", policy="margin"), seed=1),
    ),
    make_record("c", [(900, 0)], make_settings("l1", ("conv_4",), 10.0, "final-layer")),
    make_record("d", settings=make_settings("l1", policy="margin", x=9.0), reason="no memory"),
]


def on_test(state: State) -> Counts:
    """Five clean images fewer are right, ten more attacks succeed."""
    return make_counts(state.counts.clean_correct - 5, state.counts.attacked + 10)


def test_a_trial_that_was_stopped_has_states_and_has_not_failed() -> None:
    stopped = [replace(r, status="stopped", reason="behind") if r.key == "b" else r for r in RECORDS]
    assert paper_rows("net", stopped, on_test) == paper_rows("net", RECORDS, on_test)


def test_each_seed_chooses_on_validation_and_is_counted_on_test() -> None:
    asked: list[tuple[str, int]] = []

    def count(state: State) -> Counts:
        asked.append((state.trial_key, state.step))
        return on_test(state)

    rows = paper_rows("net", RECORDS, count)
    told = [(r.known, r.method, r.points, [c.attacked for c in r.chosen]) for r in rows]
    assert told == [
        (CLEAN, "final-layer", 2.0, []),
        (CLEAN, "final-layer", 4.0, []),
        (POISONED, "margin", 2.0, [110, 310]),
        (POISONED, "margin", 4.0, [30, 50]),
    ]
    assert asked == [("a", 2), ("b", 1), ("a", 3), ("b", 2)]
    assert [(r.seeds, r.trials, r.failed) for r in rows if r.method == "margin"] == [(2, 2, 1)] * 2


def test_one_seed_has_counts_with_an_interval_and_several_have_their_range() -> None:
    """By hand: (110 + 310) / 2 of 500 is 42 %; Wilson's interval of 110 of 500 is 18.6 to 25.8."""
    several = paper_markdown(paper_rows("net", RECORDS, on_test))
    assert "42.0 (22.0 to 62.0 over 2 seeds)" in several
    assert "| net | - | as handed in | - | - | 99.0 (990/1000) | 100.0 (500/500; 99.2 to 100.0) |" in several
    assert several.count("no state | no state") == 2
    one = paper_markdown(paper_rows("a|b", RECORDS[:1], on_test))
    assert "22.0 (110/500; 18.6 to 25.8)" in one and "| a/b |" in one


def test_counts_stand_in_the_csv() -> None:
    lines = list(csv.DictReader(io.StringIO(paper_csv(paper_rows("net", RECORDS, on_test)))))
    assert [(line["attacked"], line["clean_correct"]) for line in lines] == [
        ("110", "965"), ("310", "975"), ("30", "950"), ("50", "955"),
    ]  # fmt: skip


def test_triggers_found_by_inversion_have_a_row_of_their_own() -> None:
    inverted = [replace(r, settings=replace(r.settings, inverted="class")) for r in RECORDS]
    rows = paper_rows("net", [*RECORDS, *inverted], on_test)
    known = [row.known for row in rows]
    assert {CLEAN_AND_TARGET, POISONED} <= set(known)
    assert known.index(CLEAN_AND_TARGET) < known.index(POISONED)
