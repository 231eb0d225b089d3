"""The command that attacks a GoodNet again, and its table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweeps.cli.command import Result, command
from sweeps.cli.console import say
from sweeps.cli.options import (
    MODEL_HELP,
    Knee,
    MaxAccuracyDrop,
    MaxAttackSuccess,
    Quiet,
    Step,
    StoragePlace,
    Sweep,
    TrialKey,
)

if TYPE_CHECKING:
    from prune_core.audits.entries import Entry


def audits(result: Result) -> str:
    """A table for each state."""
    from prune_core.audits.entries import Entry
    from sweeps.auditing.state import summary

    lines = []
    for state in result.get("states", [result]):
        lines.append(f"sweep {state['sweep']}, trial {state['trial']}, step {state['step']}: attacked again")
        nets = {
            net: {key_of(rows[0]): rows for rows in summary([Entry.from_json(e) for e in entries])}
            for net, entries in state["subjects"].items()
        }
        keys = list(dict.fromkeys(key for rows in nets.values() for key in rows))
        wide = max((len(key) for key in keys), default=5)
        lines.append(f"{'attack success on test':{wide}}" + "".join(f"  {net:>24}" for net in nets))
        lines += [
            f"{key:{wide}}" + "".join(f"  {_cell(rows.get(key)):>24}" for rows in nets.values())
            for key in keys
        ]
        lines += [f"not done: {one['audit']}: {one['why']}" for one in state["skipped"]]
    lines.append(
        "mean over seeds (lowest to highest seed) and the worst light; green: the 95 % interval ends at 10 % "
        "or below, amber: at 50 %. No audit shows that a network is clean."
    )
    return "\n".join(lines)


def key_of(entry: Entry) -> str:
    """What was tried, in words."""
    return words(entry.audit, entry.setting)


def words(audit: str, setting: Mapping[str, Any]) -> str:
    """``reactivation, 5 poisoned images``; without what is the same for all of its kind."""
    images = setting.get("poisoned_images")
    told = [audit.replace("-", " ")]
    if images:
        told.append(f"{images} poisoned image{'s' if images > 1 else ''}")
    if "start" in setting:
        told.append("with the trigger" if setting["start"] == "trigger" else "without the trigger")
    if "change" in setting:
        told.append("as it was found" if setting["change"] == "none" else setting["change"])
        told += [
            f"{name} {setting[name]}" for name in ("pixels", "factor", "strength", "to") if name in setting
        ]
    if "kind" in setting:
        told.append(f"{setting['kind']} to class {setting['target']}")
    if "trigger" in setting:
        told.append(f"trigger {setting['trigger']}")
    return ", ".join(map(str, told))


def _cell(rows: list[Entry] | None) -> str:
    if rows is None:
        return "-"
    rates = [entry.attack_success for entry in rows]
    light = max((entry.light for entry in rows), key=("green", "amber", "red").index)
    spread = f" ({100 * min(rates):.0f} to {100 * max(rates):.0f})" if len(rates) > 1 else ""
    sizes = [entry.found.get("size") for entry in rows if entry.found]
    if sizes:
        there = [size for size in sizes if size is not None]
        return f"size {100 * min(there):.1f} % {light}" if there else f"none found {light}"
    return f"{100 * sum(rates) / len(rates):.1f} %{spread} {light}"


class AuditProgress:
    """A line for each piece, or a bar on a terminal."""

    def __init__(self, quiet: bool) -> None:
        from sweeps.cli.progress import Bar
        from sweeps.execution.throttle import Throttle

        self.quiet, self.bar, self.due = quiet, Bar(quiet), Throttle(5.0)

    def __enter__(self) -> AuditProgress:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, line: str) -> None:
        if not self.quiet:
            say(line)

    def __call__(self, subject: str, done: int, total: int, what: str) -> None:
        self.bar.show(done, total, f"{subject}: {what}" if what else subject)
        if what and not self.quiet and not self.bar.shown and self.due():
            say(f"{subject}: {done} of {total} audits, now {what}")


@command(audits)
def audit(
    sweep: Sweep = None,
    max_accuracy_drop: MaxAccuracyDrop = None,
    max_attack_success: MaxAttackSuccess = None,
    knee: Knee = False,
    trial: TrialKey = None,
    step: Step = None,
    frontier: Annotated[
        bool, typer.Option("--frontier", help="Audit every state of the frontier, one after the other.")
    ] = False,
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Only these audits, of as-it-is, reactivation, clean-tuning, perturbation, changed-trigger, "
            "inversion, int8. Default: all.",
        ),
    ] = None,
    benign: Annotated[
        Path | None,
        typer.Option(help=f"A net of the same kind that has no backdoor, audited beside it: {MODEL_HELP}"),
    ] = None,
    storage: StoragePlace = "runs",
    quiet: Quiet = False,
) -> Result:
    """Attack a GoodNet again. A repair may have put the backdoor to sleep and no more, so a state of a
    sweep is fine-tuned with 1, 5, 10 and 50 poisoned images and with clean ones alone, shown the trigger with
    a small perturbation, shown it moved, resized, fainter and in the opposite colour, and quantised to eight
    bits. The BadNet goes through the same; so does a benign net, where you give one: whatever it falls for is
    no memory of the backdoor. Without a criterion the knee is taken.

    Attacks are made with validation images, and counted on test images. How long it will take is said first.
    What is done is kept in the storage: the same command shows it again, and goes on where it was stopped.

    goodnet audit sweep-1 --max-accuracy-drop 4 --benign clean.onnx

    goodnet audit sweep-1 --frontier --only reactivation
    """
    from prune_core.errors import InputError
    from sweeps.auditing.audit import audit_from
    from sweeps.choosing.criteria import criterion_or_knee
    from sweeps.cli.values import words_of

    named = (max_accuracy_drop, max_attack_success, trial, step) != (None,) * 4 or knee
    if named and frontier:
        raise InputError("--frontier audits all of its states; give it or a criterion, not both")
    criterion = criterion_or_knee(max_accuracy_drop, max_attack_success, knee, trial, step)
    with AuditProgress(quiet) as progress:
        return audit_from(
            sweep,
            storage,
            criterion,
            words_of("--only", only),
            benign,
            frontier,
            progress.say,
            progress,
            warn=say,
        )
