"""Where in a user's own code something failed, in one line."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

from prune_core.files.onnx_read import first_line

_OURS = str(Path(__file__).resolve().parents[1])


def said_with_place(error: BaseException) -> str:
    """The error, and file, line and function of the user's code that it came through last."""
    place = place_of(error)
    text = f"{type(error).__name__}: {first_line(error)}"
    return f"{place}: {text}" if place else text


def place_of(error: BaseException) -> str | None:
    """``net.py, line 12, in forward`` of the last frame outside installed packages and goodnet."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if users_own(frame.filename):
            return f"{Path(frame.filename).name}, line {frame.lineno}, in {frame.name}"
    return None


def users_own(filename: str) -> bool:
    """Whether a file is neither an installed package's nor Python's nor goodnet's own."""
    if filename.startswith("<"):
        return filename.startswith("<stdin") or filename.startswith("<ipython")
    resolved = str(Path(filename).resolve())
    installed = "site-packages" in resolved or "dist-packages" in resolved
    library = resolved.startswith(str(Path(contextlib.__file__).resolve().parent))
    return not (installed or library or resolved.startswith(_OURS))


@contextlib.contextmanager
def working_folder_importable() -> Iterator[None]:
    """Modules in the working folder can be imported in here, as with ``python -m``. Not outside: what
    this process starts, the reader above all, inherits the search path."""
    try:
        folder = str(Path.cwd())
    except OSError:  # it is gone
        yield
        return
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)
