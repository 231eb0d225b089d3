"""Trials and frontier states as rows: the same columns in Python, JSON, CSV and Parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from prune_core.counts import Counts
from prune_core.frontier import hypervolume
from sweeps.records.trial_record import TrialRecord
from sweeps.results import FrontierPoint, described
from sweeps.storage.parquet import parquet_bytes

_SPLITS = ("valid", "test")
_RATES = ("clean_accuracy", "attack_success", "recovered_accuracy")
_COUNTS = ("clean_correct", "clean_total", "attacked", "poisoned_total", "recovered")

# Of a table of trials, so that a column without any value has a type too.
SCHEMA = pa.schema(
    [
        ("trial_key", pa.string()),
        ("order", pa.string()),
        ("layers", pa.list_(pa.string())),
        ("x", pa.float64()),
        ("policy", pa.string()),
        ("seed", pa.int64()),
        ("repair", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("failure", pa.string()),
        ("seconds", pa.float64()),
        ("steps", pa.int64()),
        ("channels_pruned", pa.int64()),
        ("hypervolume", pa.float64()),
        *((f"{split}_{rate}", pa.float64()) for split in _SPLITS for rate in _RATES),
        *((f"{split}_{count}", pa.int64()) for split in _SPLITS for count in _COUNTS),
    ]
)


def trial_row(record: TrialRecord) -> dict[str, Any]:
    """The columns of ``SCHEMA``. Rates are fractions, of the trial's final network; ``hypervolume`` is of
    all its accepted states, on validation; of a failed trial there is neither."""
    done = record.status != "failed"
    return {
        "trial_key": record.key,
        **record.settings.to_json(),
        "repair": record.settings.repair,
        "status": record.status,
        "reason": record.reason,
        "failure": record.failure,
        "seconds": record.seconds,
        "steps": record.last_step,
        "channels_pruned": len(record.mask) if done else None,
        "hypervolume": _volume(record) if done else None,
        **_rates(valid=record.valid, test=record.test),
        **_counts(valid=record.valid, test=record.test),
    }


def point_row(point: FrontierPoint) -> dict[str, Any]:
    """A state of a frontier, with the rates of ``trial_row``."""
    settings = {} if point.settings is None else point.settings.to_json()
    return {
        "trial_key": point.trial_key,
        "step": point.step,
        **settings,
        **described(point.settings),
        "channels_pruned": point.channels_pruned,
        **_rates(valid=point.valid, test=point.test),
        "mask": point.mask.by_layer(),
    }


def trials_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Layers are joined by ``+``. A text that a spreadsheet would take for a formula gets a quotation mark
    in front: layers are named by whoever made the network."""
    out = io.StringIO()
    writer = csv.DictWriter(out, SCHEMA.names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row[name]) for name in SCHEMA.names})
    return out.getvalue()


def trials_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """One row a trial, as the bytes of a Parquet file."""
    return parquet_bytes(pa.Table.from_pylist(list(rows), schema=SCHEMA))


def _cell(value: Any) -> Any:
    text = "+".join(value) if isinstance(value, (list, tuple)) else value
    return f"'{text}" if isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _volume(record: TrialRecord) -> float:
    counts = [state.counts for state in record.states()]
    return hypervolume(
        np.array([c.clean_accuracy for c in counts]), np.array([c.attack_success for c in counts])
    )


def _rates(**splits: Counts | None) -> dict[str, float | None]:
    return _columns(splits, _RATES)


def _counts(**splits: Counts | None) -> dict[str, int | None]:
    return _columns(splits, _COUNTS)


def _columns(splits: dict[str, Counts | None], names: Sequence[str]) -> dict[str, Any]:
    return {
        f"{split}_{name}": None if counts is None else getattr(counts, name)
        for split, counts in splits.items()
        for name in names
    }
