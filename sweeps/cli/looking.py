"""The commands that look at sweeps: nothing is written to the storage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli import tables
from sweeps.cli.command import Result, command
from sweeps.cli.options import (
    Knee,
    MaxAccuracyDrop,
    MaxAttackSuccess,
    MaxReactivated,
    Quiet,
    Step,
    StoragePlace,
    Sweep,
    TrialKey,
    sweep_names,
)


@command(tables.sweeps, name="list")
def listed(storage: StoragePlace = "runs") -> Result:
    """List the sweeps of a storage, the latest first. For each how it stands (running, finished or
    interrupted; trials that have a record, of those planned), its hypervolume, and the lowest attack success
    that it has found within each X.

    An interrupted sweep goes on by the goodnet sweep CONFIG that began it. A storage that cannot be written
    can be listed.
    """
    from sweeps.looking import listed

    return listed(storage)


@command(tables.watched)
def watch(
    sweep: Sweep = None,
    once: Annotated[bool, typer.Option("--once", help="Say how it stands now, and end.")] = False,
    quiet: Quiet = False,
    storage: StoragePlace = "runs",
) -> Result:
    """Follow a sweep that runs elsewhere, from its storage alone. Trials that are over, hypervolume, the best
    state within each X (clean accuracy and attack success on validation), trials under way, time left. Ends
    when the sweep ends; Ctrl-C ends the watching, not the sweep.

    Of a sweep that is not running, or with --once, how it stands is said once. A driver that has not been
    heard of for two minutes is taken to be gone: the sweep is interrupted.
    """
    from sweeps.cli.progress import WatchProgress
    from sweeps.looking import watched

    with WatchProgress(quiet or once) as progress:
        return watched(sweep, storage, once, progress)


@command(tables.trials)
def trials(
    sweep: Sweep = None,
    csv: Annotated[Path | None, typer.Option(help="Write them to this file, with a header.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write them to this Parquet file.")] = None,
    storage: StoragePlace = "runs",
) -> Result:
    """Show the trials of a sweep, one row each. Its key, settings, status, counts and rates of its final
    network on validation and test, the hypervolume of its states, seconds.

    --csv, --parquet, --json and goodnet.Sweep.trials() in Python have the same columns; rates are fractions,
    X is in percentage points.

    goodnet trials --csv trials.csv
    """
    from sweeps.looking import tabled

    return tabled(sweep, storage, csv, parquet)


@command(tables.frontiers)
def frontier(
    sweep: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SWEEP]...",
            help="Name of a sweep, or several to compare; default: the latest one in the storage.",
            autocompletion=sweep_names,
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write the page of the first sweep to this file; with other sweeps, how its trials are "
            "distributed stands beside theirs."
        ),
    ] = None,
    storage: StoragePlace = "runs",
) -> Result:
    """Show the frontier of a sweep. These are the states that no other state beats in both clean accuracy and
    attack success.

    With several sweeps (of one BadNet and the same images): their hypervolumes and the best state within each
    X side by side, then one frontier over all, with the sweeps that each state is from.
    """
    from sweeps.cli.console import say
    from sweeps.looking import compared_frontiers, shown_frontier

    if sweep and len(sweep) > 1:
        return compared_frontiers(sweep, storage, page)
    return shown_frontier(sweep[0] if sweep else None, storage, page, say)


@command(tables.reported)
def report(
    sweep: Sweep = None,
    max_accuracy_drop: MaxAccuracyDrop = None,
    max_attack_success: MaxAttackSuccess = None,
    knee: Knee = False,
    trial: TrialKey = None,
    step: Step = None,
    max_reactivated: MaxReactivated = None,
    scan: Annotated[
        Path | None,
        typer.Option(help="The scan.json of goodnet scan --out. Default: scan/scan.json in the storage."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The page. Default: SWEEP-report.html.")] = None,
    picked: Annotated[
        Path, typer.Option(help="Folder into which goodnet pick has written the files that sign it off.")
    ] = Path("goodnets"),
    storage: StoragePlace = "runs",
) -> Result:
    """Make one page for somebody who decides and does not know the project. What was handed in, what was
    found, what each assumption buys, the proposed GoodNet and its price, audits, limits, how to repeat it.

    The page is one HTML file that needs no network and prints well (the browser's print makes a PDF). Its
    figures stand beside it as JSON. The state is chosen as by goodnet pick, which makes the same page beside
    the files; without a criterion it is the knee.

    goodnet report --max-accuracy-drop 4 --out report.html
    """
    from sweeps.choosing.criteria import criterion_or_knee
    from sweeps.commands import report_from

    criterion = criterion_or_knee(max_accuracy_drop, max_attack_success, knee, trial, step)
    return report_from(sweep, storage, criterion, scan, out, picked, max_reactivated)
