"""The command that asks a network, with clean images alone, whether a class is too easily reached."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweeps.cli import tables
from sweeps.cli.command import Result, command
from sweeps.cli.console import say
from sweeps.cli.options import (
    MODEL_HELP,
    Architecture,
    ArchitectureArgs,
    Classes,
    Keys,
    Layout,
    Mean,
    Quiet,
    Scale,
    Std,
)
from sweeps.execution.stopping import stoppable


@command(tables.scanned)
def scan(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    clean: Annotated[
        Path, typer.Option(help="Clean images: HDF5, .npz, .parquet, or a folder of class folders.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for scan.json, the triggers found (.npz, PNG) and finished searches: with it, the "
            "same command goes on where it was stopped."
        ),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="K,K,...", help="Classes to search. Default: all of the network.")
    ] = None,
    kinds: Annotated[
        str, typer.Option(metavar="KIND,...", help="Kinds of triggers, of patch, blend and add.")
    ] = "patch,blend,add",
    images: Annotated[int, typer.Option(help="Use at most so many clean images, drawn at random.")] = 300,
    seed: Annotated[int, typer.Option(min=0, help="Of images, starts and batches.")] = 0,
    architecture: Architecture = None,
    architecture_arg: ArchitectureArgs = [],  # noqa: B006
    scale: Scale = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = None,
    keys: Keys = [],  # noqa: B006
    classes: Classes = None,
    quiet: Quiet = False,
) -> Result:
    """Look for a backdoor with clean images alone. For every class the smallest trigger is sought that leads
    images of other classes to it; a class that needs a far smaller one than the others is suspected, and one
    that some image leads to by a far greater margin.

    The verdict is suspected, nothing found or cannot tell. Nothing found is not clean: a trigger of a kind
    that is not searched (a warp, say), or one that is meant for some classes only, is not found. Half of the
    images are searched on, the others measure. Images are read as by goodnet evaluate.

    goodnet scan net.onnx --clean clean.npz --out scan
    """
    from prune_core.data.form import ImageForm, Preprocessing
    from sweeps.cli.progress import SweepProgress
    from sweeps.cli.values import arguments_of, indices_of, keys_of, numbers_of, words_of
    from sweeps.reading import scan_files

    pixels = Preprocessing.of(scale, numbers_of("--mean", mean), numbers_of("--std", std))
    form = ImageForm.of(layout, keys_of(keys), words_of("--classes", classes), None, pixels)
    chosen = None if only is None else indices_of("--only", only)
    sought = words_of("--kinds", kinds)
    with stoppable(), SweepProgress(quiet) as progress:
        return scan_files(
            model,
            clean,
            architecture,
            form,
            arguments_of(architecture_arg),
            classes=chosen,
            kinds=sought,
            seed=seed,
            images=images,
            out=out,
            tell=progress.preparing,
            say=(lambda line: None) if quiet else say,
        )
