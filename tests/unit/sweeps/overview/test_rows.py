"""Trials as rows: one set of columns in every form."""

from __future__ import annotations

import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from factories import make_record, make_settings

from sweeps.overview.rows import SCHEMA, trial_row, trials_csv, trials_parquet

RECORDS = [make_record("a"), make_record("b", reason="no pairs")]


def test_a_row_has_the_columns_of_the_tables() -> None:
    for record in RECORDS:
        assert set(trial_row(record)) == set(SCHEMA.names)


def test_a_trial_by_hand() -> None:
    row = trial_row(make_record("a", [(980, 250), None], seconds=3.0))
    assert (row["valid_clean_correct"], row["valid_attacked"]) == (980, 250)
    assert (row["test_clean_correct"], row["test_attacked"]) == (975, 260)
    assert row["hypervolume"] == pytest.approx(0.98 * 0.5)
    assert (row["channels_pruned"], row["steps"], row["seconds"]) == (1, 2, 3.0)


def test_parquet_keeps_every_column_and_type() -> None:
    rows = [trial_row(record) for record in RECORDS]
    table = pq.read_table(pa.BufferReader(trials_parquet(rows)))
    assert table.schema.equals(SCHEMA) and table.to_pylist() == [
        {n: r[n] for n in SCHEMA.names} for r in rows
    ]
    assert pq.read_table(pa.BufferReader(trials_parquet(rows[1:]))).schema.equals(SCHEMA)


def test_csv_reads_back() -> None:
    (first, second) = csv.DictReader(io.StringIO(trials_csv(trial_row(r) for r in RECORDS)))
    assert first["layers"] == "conv_4+conv_3" and float(first["valid_clean_accuracy"]) == 0.97
    assert (second["status"], second["reason"], second["valid_clean_accuracy"]) == ("failed", "no pairs", "")


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "+1", "-1+1", "@SUM(A1)", "\tx"])
def test_a_layer_is_no_formula(name: str) -> None:
    row = trial_row(make_record("a", settings=make_settings(layers=[name])))
    (read,) = csv.DictReader(io.StringIO(trials_csv([row])))
    assert read["layers"] == f"'{name}"


def test_pandas_takes_the_rows() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([trial_row(record) for record in RECORDS])
    assert list(frame["status"]) == ["done", "failed"] and frame["valid_clean_accuracy"].iloc[0] == 0.97
