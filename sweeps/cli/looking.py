"""The commands that look at sweeps: nothing is written to the storage."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli import tables
from sweeps.cli.command import Result, command
from sweeps.cli.options import StoragePlace, Sweep


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
        ),
    ] = None,
    storage: StoragePlace = "runs",
) -> Result:
    """Show the frontier of a sweep. These are the states that no other state beats in both clean accuracy and
    attack success.

    With several sweeps (of one BadNet and the same images): their hypervolumes and the best state within each
    X side by side, then one frontier over all, with the sweeps that each state is from.
    """
    from sweeps.looking import compared_frontiers, shown_frontier

    if sweep and len(sweep) > 1:
        return compared_frontiers(sweep, storage)
    return shown_frontier(sweep[0] if sweep else None, storage)
