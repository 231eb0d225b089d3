"""The commands of ``goodnet``: each reads its part of the command line and calls one function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sweeps.cli import show
from sweeps.cli.command import Result, app, command
from sweeps.cli.console import say
from sweeps.cli.options import (
    MODEL_HELP,
    Architecture,
    ArchitectureArgs,
    Classes,
    ConfigFile,
    Keys,
    Knee,
    Layout,
    MaxAccuracyDrop,
    MaxAttackSuccess,
    MaxReactivated,
    Mean,
    Overrides,
    Quiet,
    Scale,
    Std,
    Step,
    StoragePlace,
    Sweep,
    TrialKey,
)
from sweeps.execution.stopping import stoppable

if TYPE_CHECKING:
    from sweeps.config.schema import Config
    from sweeps.storage.storage import Storage
    from sweeps.sweep_result import SweepResult


@command(show.init)
def init(
    model: Annotated[Path, typer.Option(help=MODEL_HELP)],
    clean: Annotated[
        list[Path],
        typer.Option(
            help="Clean images: .npz, HDF5, .parquet, or a folder with a folder for each class. Repeatable: "
            "all are joined, then split."
        ),
    ],
    poisoned: Annotated[
        list[Path],
        typer.Option(
            help="Images with the trigger on, as --clean. Repeatable: those with one target are joined."
        ),
    ] = [],  # noqa: B006
    trigger: Annotated[
        Path | None,
        typer.Option(help="In place of --poisoned: the trigger's picture, put on the clean images."),
    ] = None,
    row: Annotated[int | None, typer.Option(help="Of the trigger's top left corner, from the top.")] = None,
    column: Annotated[int | None, typer.Option(help="Of that corner, pixels from the left.")] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="K|next", help="The class that the attacker wants. Default: found by asking the network."
        ),
    ] = None,
    architecture: Architecture = None,
    architecture_arg: ArchitectureArgs = [],  # noqa: B006
    layout: Layout = None,
    keys: Keys = [],  # noqa: B006
    classes: Classes = None,
    output: Annotated[Path, typer.Option(help="The configuration to write.")] = Path("goodnet.yaml"),
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
) -> Result:
    """Begin here: from one model and one or two heaps of images to a configuration.

    Finds the pixel scale and layout that the network wants (the usual ones are tried, the one with the best
    clean accuracy is taken), the attacker's target and the layers to prune. Splits the images into
    validation and test, by class, with pairs of clean and poisoned images together and no image on both
    sides. Writes goodnet.yaml and the split images beside it, and checks both as goodnet doctor does.

    goodnet init --model net.onnx --clean clean.npz --poisoned poisoned.npz

    goodnet init --model net.pth --architecture torchvision:resnet18 --clean pictures/
    --trigger patch.png --row 28 --column 28
    """
    from prune_core.data.form import ImageForm, Preprocessing
    from sweeps.cli.progress import SweepProgress
    from sweeps.cli.values import arguments_of, keys_of, words_of
    from sweeps.commands import set_up
    from sweeps.setup.initialise import Given

    given = Given(
        model,
        tuple(clean),
        tuple(poisoned),
        trigger,
        row,
        column,
        _target(target),
        architecture,
        arguments_of(architecture_arg) or {},
        ImageForm.of(layout, keys_of(keys), words_of("--classes", classes), None, Preprocessing()),
        output,
        seed,
        force,
    )
    with SweepProgress() as progress:
        return set_up(given, progress.preparing)


@command(show.inspect)
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    against: Annotated[Path | None, typer.Option(help="The BadNet to compare with.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers to count, as a,b,c. Default: all convolutions but the first.")
    ] = None,
    architecture: Architecture = None,
    architecture_arg: ArchitectureArgs = [],  # noqa: B006
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="CxHxW",
            help="Images that PyTorch weights are for, e.g. 3x32x32. Default: the usual size.",
        ),
    ] = None,
) -> Result:
    """List convolutions and their zeroed channels. With --against, also the channels whose kernels differ
    from the BadNet's."""
    from sweeps.cli.values import arguments_of, image_of, words_of
    from sweeps.reading import inspect_files

    names = None if layers is None else list(words_of("--layers", layers))
    arguments, image = arguments_of(architecture_arg), image_of(image_size)
    return inspect_files(model, against, names, architecture, arguments, image)


@command(show.evaluate)
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    clean: Annotated[
        Path, typer.Option(help="Clean images: HDF5, .npz, .parquet, or a folder of class folders.")
    ],
    poisoned: Annotated[
        list[Path],
        typer.Option(help="Poisoned images; label is the target class. Once for each trigger."),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="K|next", help="What the target has to be: a class, or the next one."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="The BadNet; adds the N+1-class network of both.")
    ] = None,
    architecture: Architecture = None,
    scale: Scale = 1.0,
    mean: Mean = "0",
    std: Std = "1",
    layout: Layout = None,
    keys: Keys = [],  # noqa: B006
    classes: Classes = None,
    architecture_arg: ArchitectureArgs = [],  # noqa: B006
) -> Result:
    """Measure clean accuracy and attack success. Counts and 95 % intervals are given with both. Images are
    read as a configuration's data.scale, mean, std, layout, keys and classes say."""
    from prune_core.data.form import ImageForm, Preprocessing
    from sweeps.cli.values import arguments_of, keys_of, numbers_of, words_of
    from sweeps.reading import evaluate_files

    pixels = Preprocessing.of(scale, numbers_of("--mean", mean), numbers_of("--std", std))
    form = ImageForm.of(layout, keys_of(keys), words_of("--classes", classes), None, pixels)
    arguments = arguments_of(architecture_arg)
    return evaluate_files(model, clean, poisoned, against, architecture, form, _target(target), arguments)


def _target(text: str | None) -> int | Literal["next"] | None:
    """Raises InputError."""
    from prune_core.errors import InputError

    if text is None:
        return None
    if text == "next":
        return "next"
    if not text.isdecimal():
        raise InputError(f"--target {text}: expected a class, 0 or more, or next")
    return int(text)


@command(show.prune)
def prune(config: ConfigFile, set: Overrides = [], quiet: Quiet = False) -> Result:  # noqa: A002, B006
    """Run one trial in this process. Each list under sweep in the configuration must have one entry. The data
    are looked at first, as by goodnet sweep."""
    from sweeps.cli.progress import SweepProgress
    from sweeps.commands import prune_once
    from sweeps.config.schema import load_config

    with SweepProgress(quiet) as progress:
        return prune_once(load_config(config, set), progress.preparing, progress.looked)


@command(show.sweep)
def sweep(
    config: ConfigFile,
    set: Overrides = [],  # noqa: A002, B006
    executor: Annotated[str, typer.Option(help="ray: over workers; inline: in this process.")] = "ray",
    quiet: Quiet = False,
) -> Result:
    """Run a search and draw the frontier. Trials that have a record already are not run again; all of them
    are logged to MLflow.

    Stop it at any time (Ctrl-C draws what is done); the same command goes on where it was. While it runs,
    goodnet watch shows from any machine how it stands, and the page sweeps/NAME.html in the storage is
    renewed. Several sweep.search_seeds are a sweep each, one after the other.

    goodnet sweep configs/default.yaml --set sweep.x_thresholds=[2,4] --executor inline
    """
    from sweeps.config.schema import load_config
    from sweeps.storage.storage import open_storage

    settings = load_config(config, set)
    storage = open_storage(settings.storage)
    found = []
    for one in settings.of_each_seed:
        result = _swept(one, storage, executor, quiet)
        found.append(result.to_json(storage))
        if result.stopped:
            break
    if len(settings.of_each_seed) == 1:
        return found[0]
    return {"sweeps": found, **({"stopped": True} if result.stopped else {})}


def _swept(settings: Config, storage: Storage, executor: str, quiet: bool) -> SweepResult:
    from sweeps.cli.progress import SweepProgress
    from sweeps.execution.make import make_executor

    chosen = make_executor(executor, settings)
    from sweeps.sweep import run_sweep
    from sweeps.tracking.sweep_log import SweepLog

    log = SweepLog(settings.tracking, storage, say)
    with stoppable():
        try:
            with SweepProgress(quiet) as progress:
                result = run_sweep(settings, storage, chosen, progress, log)
        finally:
            log.close()
    if settings.sweep.audit and not result.stopped:
        from sweeps.auditing.audit import audit_after
        from sweeps.cli.auditing import AuditProgress

        with AuditProgress(quiet) as told:
            audit_after(result, settings, told.say, told, executor, say)
    return result


@command(show.study)
def study(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="Sweeps to compare.")],
    set: Overrides = [],  # noqa: A002, B006
    out: Annotated[Path, typer.Option(help="Folder for study.md and its pictures.")] = Path("docs"),
    remarks: Annotated[Path, typer.Option(help="Markdown put in front of the tables.")] = Path(
        "docs/study-remarks.md"
    ),
    executor: Annotated[str, typer.Option(help="ray: over workers; inline: in this process.")] = "ray",
    quiet: Quiet = False,
) -> Result:
    """Compare orders, policies and layer sets. Runs what is missing of the sweeps, then writes study.md with
    its pictures, and study-table.md: one table of nets, what was known, methods and what is left of the
    attack within a price, with intervals, every row from the records (as counts in study-table.csv).

    Stop it at any time; the same command goes on where it was. Each sweep takes at most M minutes a call with
    --set sweep.budget.minutes=M; the table is of what is done by then.

    goodnet study configs/study/zoo-*.yaml --set sweep.budget.minutes=5 --out study
    """
    from sweeps.commands import study_of
    from sweeps.config.schema import head_of, load_config

    return study_of(
        [(load_config(c, set), head_of(c)) for c in configs],
        lambda c, storage: _swept(c, storage, executor, quiet),
        out,
        remarks,
    )


@command(show.pick)
def pick(
    sweep: Sweep = None,
    max_accuracy_drop: MaxAccuracyDrop = None,
    max_attack_success: MaxAttackSuccess = None,
    knee: Knee = False,
    trial: TrialKey = None,
    step: Step = None,
    max_reactivated: MaxReactivated = None,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("goodnets"),
    storage: StoragePlace = "runs",
    register: Annotated[bool, typer.Option(help="Register it in MLflow's model registry.")] = True,
    report: Annotated[bool, typer.Option(help="Make the page for who decides, too.")] = True,
) -> Result:
    """Choose a GoodNet and write its files. The choice is made on validation; every file is read back and
    measured again. Give exactly one of the criteria. Beside the files: a card, and a page for who decides
    (see goodnet report)."""
    from sweeps.choosing.criteria import criterion_of
    from sweeps.commands import pick_from

    criterion = criterion_of(max_accuracy_drop, max_attack_success, knee, trial, step)
    return pick_from(sweep, storage, out, criterion, register, say, report, max_reactivated)


@command(show.doctor)
def doctor(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file.")] = None,
    set: Overrides = [],  # noqa: A002, B006
    executor: Annotated[str, typer.Option(help="ray: ask a worker too; inline: only here.")] = "ray",
) -> Result:
    """Check everything before a long run. That is versions, data, model, storage and tracking, here and in a
    worker."""
    from sweeps.commands import examine
    from sweeps.config.schema import load_config

    settings = None if config is None else load_config(config, set)
    return examine(settings, executor)


def main() -> None:
    """Entry point of the console script."""
    app()
