"""What a trial's record becomes in MLflow: stepped metrics and files. Knows nothing of MLflow."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any, NamedTuple

from prune_core.counts import Counts
from prune_core.greedy import PruneStep
from prune_core.masks import Channel
from prune_core.policies.leaps import Leap
from sweeps.records.trial_record import TrialRecord
from sweeps.records.trial_report import TrialReport


class SteppedMetric(NamedTuple):
    """``step`` is the number of the candidate in its trial, from 1 (nets made after the candidates are
    counted on), and 0 for the BadNet; ``seconds`` count from the trial's start."""

    name: str
    value: float
    step: int
    seconds: float


def stepped_metrics(record: TrialRecord) -> list[SteppedMetric]:
    """The curves on validation (a value for the BadNet, step 0, for each accepted state, and for an end that
    is none of them), and the final ``valid_*`` and ``test_*`` rates. Steps and times only go up, so the last
    value of every metric is the trial's end. What is not finite or not known is left out, and the whole curve
    of what is not known of the end: its last value would be taken for it. A failed trial has none."""
    if record.badnet_valid is None or record.valid is None or record.test is None:
        return []
    found = _curve_values(record.badnet_valid, 0, 0.0, 0)
    end = record.last_step
    ends = _curve_values(record.valid, len(record.mask), record.seconds, end)
    last = (record.badnet_valid, 0)
    for state in record.states():
        elapsed = record.seconds * state.step / end
        last = (state.counts, len(state.mask))
        found += _curve_values(*last, elapsed, state.step)
    if last != (record.valid, len(record.mask)):  # as where no repaired net was within X
        found += ends
    known = {metric.name for metric in ends if math.isfinite(metric.value)}
    found = [metric for metric in found if metric.name in known]
    for split, counts in (("valid", record.valid), ("test", record.test)):
        rates = {**_rates(counts), "recovered_accuracy": counts.recovered_accuracy}
        rates |= {f"attack_success_trigger_{n}": t.attack_success for n, t in enumerate(counts.triggers)}
        found += [
            SteppedMetric(f"{split}_{name}", value, end, record.seconds)
            for name, value in rates.items()
            if value is not None
        ]
    return [metric for metric in found if math.isfinite(metric.value)]


def trial_files(record: TrialRecord) -> dict[str, bytes]:
    """``trial.json`` (settings, fate, counts with intervals); for a trial that has not failed also
    ``mask.json`` and ``steps.csv``, a row for every channel that was tried."""
    files = {"trial.json": _json(TrialReport.of(record).file_json())}
    if record.status != "failed":
        files |= {"mask.json": _json(record.mask.to_json()), "steps.csv": _steps_csv(record)}
    return files


def _rates(counts: Counts) -> dict[str, float | None]:
    return {
        "clean_accuracy": counts.clean_accuracy,
        "attack_success": counts.attack_success,
        "margin": counts.margin,
    }


def _curve_values(counts: Counts, pruned: int, seconds: float, step: int) -> list[SteppedMetric]:
    values = {**_rates(counts), "channels_pruned": float(pruned)}
    return [SteppedMetric(name, value, step, seconds) for name, value in values.items() if value is not None]


def _steps_csv(record: TrialRecord) -> bytes:
    """Rates and margins of the net with the channels accepted so far, and of the net tried. Where
    ``tried_complete`` is False its accuracy is at most, its attack success at least, what it says.
    ``returned``: a channel that the net tried has back, as layer:channel. ``tried_images``: on how many
    clean images it was tried, of a trial that ranks on a part of them. ``along``: the channels that go, or
    come back, together with it, of a trial in which several may.
    """
    rows: list[dict[str, Any]] = []
    ranked = record.settings.rank_images is not None
    for number, step in enumerate(record.steps, 1):
        tried = {f"tried_{name}": value for name, value in _rates(step.tried).items()}
        rows.append(
            {
                "step": number,
                "layer": step.channel.layer,
                "channel": step.channel.index,
                "accepted": step.accepted,
                "channels_pruned": len(step.mask),
                **_rates(step.now),
                "returned": _named(step.returned),
                **tried,
                "tried_complete": step.tried.complete,
                **({"tried_images": step.tried.clean_total} if ranked else {}),
                **({"along": " ".join(map(_named, _along(step)))} if record.settings.leaps else {}),
            }
        )
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue().encode()


def _named(channel: Channel | None) -> str:
    return "" if channel is None else f"{channel.layer}:{channel.index}"


def _along(step: PruneStep) -> tuple[Channel, ...]:
    return step.along if isinstance(step, Leap) else ()


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()
