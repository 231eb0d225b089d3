"""What all commands share: JSON or text on standard output, errors in one line, exit statuses."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from prune_core.errors import ExportMismatch, InputError, Unavailable
from sweeps.cli.console import printable, say
from sweeps.execution.stopping import exit_status

# As help lists them: in the order of their use. One that is not named here comes last.
_ORDER = (
    "init",
    "doctor",
    "inspect",
    "evaluate",
    "scan",
    "prune",
    "sweep",
    "watch",
    "list",
    "frontier",
    "trials",
    "pick",
    "audit",
)


class _Commands(TyperGroup):
    """The commands; with --json, what is wrong with the command line itself is told as JSON too."""

    def list_commands(self, ctx: Any) -> list[str]:
        there = super().list_commands(ctx)
        return sorted(there, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

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
    add_completion=True,
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


def command(
    show: Callable[[Result], str], name: str | None = None
) -> Callable[[Callable[..., Result]], Callable[..., None]]:
    """A function that returns the contract's JSON becomes a command, of its own name unless another is
    given; ``show`` makes its text for people. Exit status as the contract says."""

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
        return app.command(name)(run)

    return decorate


def _with_json_option(function: Callable[..., Any]) -> Any:
    import inspect

    signature = inspect.signature(function, eval_str=True)
    option = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=AsJson)
    return signature.replace(parameters=[*signature.parameters.values(), option])
