"""The seed report's table, "metrics by method or accuracy loss", of a sweep."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from prune_core.counts import Counts
from prune_core.masks import ChannelMask
from sweeps.records.settings import FINAL_LAYER, WHOLE_LAYER
from sweeps.records.trial_record import TrialRecord

METHOD = "Method or accuracy loss"
COLUMNS = (
    "Clean Validation Accuracy",
    "Clean Test Accuracy",
    "Validation Attack Efficacy",
    "Test Attack Efficacy",
    "Percent of channels pruned",
)


@dataclass(frozen=True)
class TableRow:
    """One net of the table. ``pruned`` is a fraction of the channels that its method could prune;
    None when that number is not known."""

    method: str
    valid: Counts
    test: Counts
    pruned: float | None

    def cells(self) -> list[str]:
        """The method and the five columns, in per cent."""
        rates = (
            self.valid.clean_accuracy,
            self.test.clean_accuracy,
            self.valid.attack_success,
            self.test.attack_success,
            self.pruned,
        )
        return [self.method, *map(per_cent, rates)]


def seed_table(records: Iterable[TrialRecord], channels_of: Mapping[str, int]) -> list[TableRow]:
    """The BadNet; the net without its final layer; then per policy a row for every X. Rows of nets
    that are more than pruned say what was done and what it took.

    Several trials may share a policy and an X: the one with the lowest attack success on
    validation stands for them, of equals the one with the higher clean accuracy on validation, of
    equals the first. Test counts choose nothing. No rows when no trial is done.

    Args:
        channels_of: number of channels of every conv layer but the first, as the report counts
            them (180 for DeepID). Rows of the final-layer policy are per cent of that layer.
    """
    done = [r for r in records if r.status == "done"]
    if not done:
        return []
    groups: dict[tuple[str, float], list[TrialRecord]] = {}
    for record in done:
        groups.setdefault((record.settings.procedure, record.settings.x), []).append(record)
    policies = list(dict.fromkeys(policy for policy, _ in groups))
    targeted = [policy for policy in policies if policy != FINAL_LAYER]
    rows = [_row("Original BN", done[0], done[0].badnet_valid, done[0].badnet_test, 0.0)]
    if (FINAL_LAYER, WHOLE_LAYER) in groups:
        best = _best(groups[FINAL_LAYER, WHOLE_LAYER])
        rows.append(_row("Final Layer", best, best.valid, best.test, _of_layer(best, channels_of)))
    for policy in policies:
        for x in sorted(x for p, x in groups if p == policy):
            best = _best(groups[policy, x])
            method = best.settings.method
            if method.kind != "pruning":
                prefix = f"{policy} ({method.kind}; {method.assumption}), "
                pruned = _of_all(best.mask, channels_of)
            elif policy != FINAL_LAYER:
                prefix = f"{policy}, " if len(targeted) > 1 else ""
                pruned = _of_all(best.mask, channels_of)
            elif x != WHOLE_LAYER:
                prefix, pruned = "Final Layer, ", _of_layer(best, channels_of)
            else:
                continue
            rows.append(_row(f"{prefix}X = {x:g}%", best, best.valid, best.test, pruned))
    return rows


def left_out(records: Iterable[TrialRecord]) -> str:
    """What the table does not tell of: a Markdown paragraph, "" where there is nothing to say."""
    stopped = sum(record.status == "stopped" for record in records)
    if not stopped:
        return ""
    return (
        f"\nWithout {stopped} trial{'s' if stopped != 1 else ''} stopped before the end (`sweep.stop`): the "
        "network that such a trial had come to is not the one that its X stands for. The frontier knows its "
        "states.\n"
    )


def to_markdown(rows: Sequence[TableRow]) -> str:
    """A table that MLflow and GitHub render."""
    lines = ["| " + " | ".join((METHOD, *COLUMNS)) + " |", "|---" + "|---:" * len(COLUMNS) + "|"]
    lines += ["| " + " | ".join(row.cells()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def to_csv(rows: Sequence[TableRow]) -> str:
    """The same cells; exact counts are in the trials' records."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([(METHOD, *COLUMNS), *(row.cells() for row in rows)])
    return text.getvalue()


def per_cent(rate: float | None) -> str:
    """As the report writes it: two decimals, but 0% and 100% where that is exact; so 100.00% and
    0.00% say that some images are left."""
    if rate is None:
        return "unknown"
    return f"{rate:.0%}" if rate in (0.0, 1.0) else f"{rate:.2%}"


def _best(records: Iterable[TrialRecord]) -> TrialRecord:
    def rank(record: TrialRecord) -> tuple[float, float]:
        valid = _there(record, record.valid)
        return (valid.attack_success, -valid.clean_accuracy)

    return min(records, key=rank)


def _row(
    method: str,
    record: TrialRecord,
    valid: Counts | None,
    test: Counts | None,
    pruned: float | None,
) -> TableRow:
    return TableRow(method, _there(record, valid), _there(record, test), pruned)


def _there(record: TrialRecord, counts: Counts | None) -> Counts:
    if counts is None:
        raise ValueError(f"trial {record.key} is done but has no counts")
    return counts


def _of_all(mask: ChannelMask, channels_of: Mapping[str, int]) -> float | None:
    """Fraction of all channels in ``channels_of``; None when a pruned one is not among them."""
    if not channels_of or any(channel.layer not in channels_of for channel in mask):
        return None
    return len(mask) / sum(channels_of.values())


def _of_layer(record: TrialRecord, channels_of: Mapping[str, int]) -> float | None:
    """Fraction of the one layer that the final-layer policy walks."""
    layer = record.settings.layers[0].partition("[")[0]
    return len(record.mask) / channels_of[layer] if layer in channels_of else None
