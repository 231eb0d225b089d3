"""The seed's table, worked by hand."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

from factories import make_record, make_settings

from sweeps.reports.seed_table import COLUMNS, left_out, per_cent, seed_table, to_csv, to_markdown

CHANNELS = {"conv_2": 2, "conv_3": 3, "conv_4": 5}  # ten in all


def final(key: str, x: float, steps, order: str = "index"):
    settings = make_settings(order, ("conv_4",), x, "final-layer")
    return make_record(key, steps, settings)


def targeted(key: str, x: float, steps, policy: str = "margin", order: str = "index"):
    return make_record(key, steps, make_settings(order, ("conv_4", "conv_3"), x, policy))


def test_rows_as_in_the_report() -> None:
    records = [
        final("f2", 2, [(980, 500), (975, 500)]),
        final("whole", 100, [(980, 500)] * 4 + [(910, 499)]),
        targeted("m10", 10, [(900, 200), None, (895, 175)]),
        targeted("m2", 2, [(972, 462)]),
    ]
    # On test, the factory's final counts have 5 clean images fewer and 10 attacked more.
    assert [row.cells() for row in seed_table(records, CHANNELS)] == [
        ["Original BN", "99.00%", "99.00%", "100%", "100%", "0%"],
        ["Final Layer", "91.00%", "90.50%", "99.80%", "100%", "100%"],
        ["Final Layer, X = 2%", "97.50%", "97.00%", "100%", "100%", "40.00%"],
        ["X = 2%", "97.20%", "96.70%", "92.40%", "94.40%", "10.00%"],
        ["X = 10%", "89.50%", "89.00%", "35.00%", "37.00%", "20.00%"],
    ]


def test_lowest_attack_on_validation_stands_for_its_policy_and_x() -> None:
    records = [
        targeted("a", 4, [(960, 300)], order="index"),
        targeted("b", 4, [(965, 200)], order="l1"),
        targeted("c", 4, [(970, 200)], order="activation"),  # equal attack, more accurate
        targeted("d", 4, [(970, 200), None], order="random"),  # equal on both, later
    ]
    row = seed_table(records, CHANNELS)[1]
    assert (row.method, row.valid.attacked, row.valid.clean_correct) == ("X = 4%", 200, 970)
    assert row.valid is records[2].valid


def test_test_counts_choose_nothing() -> None:
    settings = make_settings(x=4.0)
    better_on_test = make_record("a", [(970, 300)], settings, test_shift=(10, -300))
    better_on_valid = make_record("b", [(970, 290)], settings, test_shift=(-100, 200))
    assert seed_table([better_on_test, better_on_valid], CHANNELS)[1].valid.attacked == 290


def test_policies_are_named_when_there_are_several() -> None:
    records = [targeted("a", 2, [(980, 450)], "margin"), targeted("b", 2, [(980, 470)], "seed")]
    assert [r.method for r in seed_table(records, CHANNELS)] == [
        "Original BN",
        "margin, X = 2%",
        "seed, X = 2%",
    ]


def test_failed_trials_have_no_row() -> None:
    failed = make_record("f", reason="out of memory", settings=make_settings(x=2.0))
    assert seed_table([failed], CHANNELS) == []
    assert len(seed_table([failed, targeted("a", 4, [(980, 450)])], CHANNELS)) == 2


def test_share_is_unknown_when_a_layer_outside_the_count_was_pruned() -> None:
    record = make_record("a", [(980, 450)], make_settings(layers=("conv_1",)))
    assert seed_table([record], CHANNELS)[1].cells()[-1] == "unknown"


def test_per_cent_tells_all_from_nearly_all() -> None:
    assert [per_cent(r) for r in (0.0, 1.0, 0.999999, 0.000001, 11391 / 11547)] == [
        "0%",
        "100%",
        "100.00%",
        "0.00%",
        "98.65%",
    ]


def test_markdown_and_csv_have_the_report_s_columns() -> None:
    rows = seed_table([targeted("a", 4, [(980, 450)])], CHANNELS)
    parsed = list(csv.reader(io.StringIO(to_csv(rows))))
    assert parsed[0][1:] == list(COLUMNS)
    assert parsed[2] == ["X = 4%", "98.00%", "97.50%", "90.00%", "92.00%", "10.00%"]
    lines = to_markdown(rows).splitlines()
    assert lines[1] == "|---|---:|---:|---:|---:|---:|"
    assert lines[3] == "| X = 4% | 98.00% | 97.50% | 90.00% | 92.00% | 10.00% |"


def test_stopped_trials_are_left_out_and_the_table_says_so() -> None:
    done = targeted("a", 4, [(960, 300)])
    stopped = replace(targeted("b", 4, [(970, 10)], order="l1"), status="stopped", reason="asha: behind")
    assert seed_table([done, stopped], CHANNELS) == seed_table([done], CHANNELS)
    assert left_out([done]) == ""
    assert "Without 1 trial stopped before the end" in left_out([done, stopped])
