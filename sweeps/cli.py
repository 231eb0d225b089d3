"""The console script ``goodnet``: reads the command line, calls one function, prints what it says."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from prune_core.errors import ExportMismatch, InputError, Unavailable
from sweeps.console import SweepProgress, printable, rates, say
from sweeps.execution.stopping import exit_status, stoppable

if TYPE_CHECKING:
    from sweeps.config.schema import Config
    from sweeps.storage.storage import Storage
    from sweeps.sweep_result import SweepResult


class _Commands(TyperGroup):
    """The commands; with --json, what is wrong with the command line itself is told as JSON too."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        as_json = standalone_mode and "--json" in given
        run = functools.partial(super().main, args, prog_name, complete_var)
        try:
            status = run(standalone_mode and not as_json, windows_expand_args, **extra)
        except Exception as error:
            if not (as_json and hasattr(error, "format_message")):  # as all of Typer's own have
                raise
            error.show()  # type: ignore[attr-defined]
            print(_error_json("input", error.format_message()))
            sys.exit(error.exit_code)  # type: ignore[attr-defined]
        if as_json:
            sys.exit(status or 0)
        return status


def _error_json(kind: str, message: str) -> str:
    return json.dumps({"error": {"kind": kind, "message": " ".join(message.split())}})


app = typer.Typer(
    name="goodnet",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Repair a backdoored convolutional network (a BadNet) by pruning channels: search how, "
    "look at the frontier of clean accuracy against attack success, pick a GoodNet.",
    epilog="Exit status: 0 done, 2 a mistake in what was given (one line says which), 3 a storage, MLflow "
    "or Ray that is away (the same command goes on once it is back), 1 an internal error, 130 stopped by "
    "Ctrl-C, 143 by SIGTERM. --json prints one JSON object on standard output, on an error "
    '{"error": {"kind", "message"}}; rates in it are fractions.',
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"goodnet {version('goodnet')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key of the configuration, e.g. --set sweep.x_thresholds=[2,4]. Repeatable.",
    ),
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file; see configs/.")]
Sweep = Annotated[
    str | None,
    typer.Argument(metavar="[SWEEP]", help="Name of a sweep; default: the latest one in the storage."),
]
StoragePlace = Annotated[str, typer.Option("--storage", help="Folder or URI of the sweep's results.")]
Architecture = Annotated[
    str | None, typer.Option(help="Architecture of a weights-only .h5 file, e.g. deepid.")
]
Result = dict[str, Any]


@contextlib.contextmanager
def _stdout_kept_for_the_result() -> Iterator[Callable[[str], None]]:
    """Whatever libraries print goes to standard error; the yielded function writes to the real
    standard output."""
    sys.stdout.flush()
    real = os.dup(1)
    os.dup2(2, 1)
    try:
        yield lambda text: _write_all(real, (text + "\n").encode())
    finally:
        sys.stdout.flush()
        os.dup2(real, 1)
        os.close(real)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def command(show: Callable[[Result], str]) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """A function that returns the contract's JSON becomes a command; ``show`` makes its text for
    people. Exit status as the contract says."""

    def decorate(function: Callable[..., Result]) -> Callable[..., None]:
        @functools.wraps(function)
        def run(*args: Any, as_json: bool = False, **kwargs: Any) -> None:
            printed = False

            def ended(status: int, kind: str, message: str, details: str = "") -> typer.Exit:
                """Says it, and is what to raise."""
                say(f"goodnet: {message}" + details)
                if as_json and not printed:
                    print(_error_json(kind, message), flush=True)
                return typer.Exit(status)

            try:
                with _stdout_kept_for_the_result() as put:
                    result = function(*args, **kwargs)
                    put(json.dumps(result, allow_nan=False) if as_json else printable(show(result)))
                    printed = True
                    if result.get("ok") is False:
                        raise typer.Exit(2)
                if result.get("stopped"):
                    raise KeyboardInterrupt
            except typer.Exit:
                raise
            except KeyboardInterrupt:
                message = "stopped; finished trials are kept, the same command goes on from there"
                raise ended(exit_status(), "stopped", message) from None
            except Exception as error:
                said = " ".join(str(error).split())
                if isinstance(error, InputError):
                    raise ended(2, "input", said) from None
                if isinstance(error, Unavailable):
                    raise ended(3, "unavailable", said) from None
                kind = "mismatch" if isinstance(error, ExportMismatch) else "fault"
                message = "internal error, please report it: "
                trace = f"\n{traceback.format_exc()}"
                raise ended(1, kind, f"{message}{type(error).__name__}: {said}", trace) from None

        signature = _with_json_option(function)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {n: p.annotation for n, p in signature.parameters.items()}
        return app.command()(run)

    return decorate


def _with_json_option(function: Callable[..., Any]) -> Any:
    import inspect

    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    return signature.replace(parameters=[*signature.parameters.values(), option])


def _show_inspect(result: Result) -> str:
    lines = [
        f"{la['name']}: {la['channels']} channels, {len(la['zeroed'])} zeroed"
        + (f": {la['zeroed']}" if la["zeroed"] else "")
        for la in result["layers"]
    ]
    lines.append(f"pruned: {result['channels_pruned']} of {result['channels_total']} channels")
    if result["against"] is not None:
        changed = result["changed"]
        total = sum(len(ids) for ids in changed.values())
        lines.append(f"kernels that differ from the BadNet's: {total}")
        lines += [f"  {layer}: {ids}" for layer, ids in changed.items() if ids]
    return "\n".join(lines)


@command(_show_inspect)
def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=".h5 or .onnx file.")],
    against: Annotated[Path | None, typer.Option(help="The BadNet to compare with.")] = None,
    layers: Annotated[
        str | None, typer.Option(help="Layers to count, as a,b,c. Default: all convolutions but the first.")
    ] = None,
    architecture: Architecture = None,
) -> Result:
    """List convolutions and their zeroed channels. With --against, also the channels whose kernels differ
    from the BadNet's."""
    from sweeps.reading import inspect_files

    names = None if layers is None else [name.strip() for name in layers.split(",")]
    return inspect_files(model, against, names, architecture)


def _show_evaluate(result: Result) -> str:
    from prune_core.counts import Rate

    lines = [
        f"clean accuracy: {Rate('clean_accuracy', result['clean_correct'], result['clean_total'])}",
        f"attack success: {Rate('attack_success', result['attacked'], result['poisoned_total'])}",
    ]
    if "goodnet_clean_accuracy" in result:
        lines.append(
            f"N+1-class GoodNet: clean accuracy {result['goodnet_clean_accuracy']:.2%}, attack "
            f"success {result['goodnet_attack_success']:.2%}, "
            f"poisoned images detected {result['detected_poisoned']:.2%}"
        )
    lines.append("Low attack success on one trigger does not mean that the network is clean.")
    return "\n".join(lines)


@command(_show_evaluate)
def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help=".h5 or .onnx file.")],
    clean: Annotated[Path, typer.Option(help="Clean images, HDF5 with data and label.")],
    poisoned: Annotated[Path, typer.Option(help="Poisoned images; label is the target class.")],
    against: Annotated[
        Path | None, typer.Option(help="The BadNet; adds the N+1-class network of both.")
    ] = None,
    architecture: Architecture = None,
    scale: Annotated[
        float, typer.Option(help="Pixels are multiplied by it; 1 leaves them as they are.")
    ] = 1.0,
) -> Result:
    """Measure clean accuracy and attack success. Counts and 95 % intervals are given with both."""
    from sweeps.reading import evaluate_files

    return evaluate_files(model, clean, poisoned, against, architecture, scale)


def _show_prune(result: Result) -> str:
    from prune_core.counts import Counts

    lines = [
        f"{split} {net}: {rates(Counts.from_json(result[net][split]))}"
        for net in ("badnet",)
        for split in ("valid", "test")
    ]
    lines += [f"{split}: {rates(Counts.from_json(result[split]))}" for split in ("valid", "test")]
    lines.append(f"pruned: {result['channels_pruned']} of {result['channels_total']} channels")
    lines += [f"  {layer}: {ids}" for layer, ids in result["pruned"].items()]
    if result["kind"] != "pruning":
        lines.append(
            f"{result['kind']}: {result['policy']}, repair {result['repair']}; needs {result['assumption']}"
        )
    lines += [
        f"net {net['step']}: {net['note']}: clean accuracy {net['clean_accuracy']:.2%}, attack "
        f"success {net['attack_success']:.2%} on validation" + ("" if net["accepted"] else "; beyond X")
        for net in result["nets"]
    ]
    return "\n".join(lines)


@command(_show_prune)
def prune(config: ConfigFile, set: Overrides = []) -> Result:  # noqa: A002, B006
    """Run one trial in this process. Each list under sweep in the configuration must have one entry."""
    from sweeps.commands import prune_once
    from sweeps.config.schema import load_config

    with SweepProgress() as progress:
        return prune_once(load_config(config, set), progress.preparing)


def _show_sweep(result: Result) -> str:
    if not result.get("attack_present", True):
        return f"sweep {result['sweep']}: {result['trials']} trials; {result['note']}"
    ended = f"ended by {result['ended_by']}, {result['left']} left\n" if "ended_by" in result else ""
    return (
        f"sweep {result['sweep']}: {result['trials']} trials: {result['done']} done, "
        f"{result['skipped']} done before, {result['failed']} failed\n{ended}"
        f"frontier: {result['frontier_size']} points, hypervolume {result['hypervolume']:.4f}\n"
        f"see it: goodnet frontier {result['sweep']}; take a GoodNet: goodnet pick "
        f"{result['sweep']} --knee"
    )


@command(_show_sweep)
def sweep(
    config: ConfigFile,
    set: Overrides = [],  # noqa: A002, B006
    executor: Annotated[str, typer.Option(help="ray: over workers; inline: in this process.")] = "ray",
) -> Result:
    """Run a search and draw the frontier. Trials that have a record already are not run again; all of them
    are logged to MLflow.

    Stop it at any time (Ctrl-C draws what is done); the same command goes on where it was.
    """
    from sweeps.config.schema import load_config
    from sweeps.storage.storage import open_storage

    settings = load_config(config, set)
    storage = open_storage(settings.storage)
    return _swept(settings, storage, executor).to_json(storage)


def _swept(settings: Config, storage: Storage, executor: str) -> SweepResult:
    from sweeps.execution.make import make_executor

    chosen = make_executor(executor)
    from sweeps.sweep import run_sweep
    from sweeps.tracking.sweep_log import SweepLog

    log = SweepLog(settings, storage, say)
    with stoppable():
        try:
            with SweepProgress() as progress:
                return run_sweep(settings, storage, chosen, progress, log)
        finally:
            log.close()


def _show_study(result: Result) -> str:
    lines = [
        f"{name}: {s['trials']} trials, {s['ways']} ways"
        + (
            f"; best: {s['best']['policy']}, {s['best']['order']}, hypervolume {s['best']['hypervolume']:.4f}"
            if s["best"]
            else ""
        )
        for name, s in result["sweeps"].items()
    ]
    return "\n".join([*lines, f"wrote {result['page']}"])


@command(_show_study)
def study(
    configs: Annotated[list[Path], typer.Argument(metavar="CONFIG...", help="Sweeps to compare.")],
    set: Overrides = [],  # noqa: A002, B006
    out: Annotated[Path, typer.Option(help="Folder for study.md and its pictures.")] = Path("docs"),
    remarks: Annotated[Path, typer.Option(help="Markdown put in front of the tables.")] = Path(
        "docs/study-remarks.md"
    ),
    executor: Annotated[str, typer.Option(help="ray: over workers; inline: in this process.")] = "ray",
) -> Result:
    """Compare orders, policies and layer sets. Runs what is missing of the sweeps, then writes study.md and
    its pictures.

    Stop it at any time; the same command goes on where it was.
    """
    from sweeps.commands import study_of
    from sweeps.config.schema import head_of, load_config

    return study_of(
        [(load_config(c, set), head_of(c)) for c in configs],
        lambda c, storage: _swept(c, storage, executor),
        out,
        remarks,
    )


def _show_frontier(result: Result) -> str:
    if not result.get("attack_present", True):
        return str(result["note"])
    lines = [
        "validation: clean acc.  attack    test: clean acc.  attack       gap: acc.  attack    "
        "pruned  kind             trial, step"
    ]
    for point in result["points"]:
        test = point["test"]
        lines.append(
            f"{point['clean_accuracy']:>22.2%}{point['attack_success']:>8.2%}"
            f"{test['clean_accuracy']:>18.2%}{test['attack_success']:>8.2%}"
            f"{100 * point['gap']['clean_accuracy']:>+16.2f}{100 * point['gap']['attack_success']:>+8.2f}"
            f"{point['channels_pruned']:>10}  {point['kind'] or 'unknown':<17}"
            f"{point['trial_key']}, {point['step']}"
        )
    assumed = {p["kind"]: p["assumption"] for p in result["points"] if p["kind"] != "pruning"}
    lines += [f"{kind}: not pruning alone; needs {needs}" for kind, needs in assumed.items()]
    if len(result["hypervolume_by_kind"]) > 1:
        volumes = ", ".join(f"{k} {v:.4f}" for k, v in result["hypervolume_by_kind"].items())
        lines.append(f"hypervolume of each kind alone: {volumes}")
    lines.append(
        f"hypervolume {result['hypervolume']:.4f} (validation); chosen on validation, test only reports"
    )
    return "\n".join(lines)


@command(_show_frontier)
def frontier(sweep: Sweep = None, storage: StoragePlace = "runs") -> Result:
    """Show the frontier of a sweep. These are the states that no other state beats in both clean accuracy and
    attack success."""
    from sweeps.commands import frontier_of

    found = frontier_of(sweep, storage)
    return {
        "points": [p.to_json() for p in found.points],
        "hypervolume": found.hypervolume,
        "hypervolume_by_kind": dict(found.by_kind),
        **found.control_json(),
    }


def _show_pick(result: Result) -> str:
    written = "\n".join(f"wrote {f['path']}, measured again" for f in result["files"])
    registered = f"\nregistered: {result['registered']}" if result.get("registered") else ""
    return f"{result['why']}\n{written}{registered}"


@command(_show_pick)
def pick(
    sweep: Sweep = None,
    max_accuracy_drop: Annotated[
        float | None,
        typer.Option(help="The weakest attack within so many percentage points of clean accuracy."),
    ] = None,
    max_attack_success: Annotated[
        float | None,
        typer.Option(help="The best clean accuracy with attack success of at most this rate (0 to 1)."),
    ] = None,
    knee: Annotated[
        bool, typer.Option("--knee", help="The state with the largest clean accuracy minus attack success.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the files.")] = Path("goodnets"),
    storage: StoragePlace = "runs",
    register: Annotated[bool, typer.Option(help="Register it in MLflow's model registry.")] = True,
) -> Result:
    """Choose a GoodNet and write its files. The choice is made on validation; every file is read back and
    measured again. Give exactly one of the three criteria."""
    from sweeps.commands import pick_from
    from sweeps.criteria import criterion_of

    criterion = criterion_of(max_accuracy_drop, max_attack_success, knee)
    return pick_from(sweep, storage, out, criterion, register, say)


def _show_doctor(result: Result) -> str:
    return "\n".join(f"{'ok  ' if c['ok'] else 'FAIL'} {c['name']}: {c['detail']}" for c in result["checks"])


@command(_show_doctor)
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


if __name__ == "__main__":
    main()
