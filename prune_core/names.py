"""What is said of a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def unknown(what: str, name: object, known: Iterable[str]) -> str:
    """One line: the name, the nearest that there is, and all that there are.

    Args:
        what: what it should be a name of, as "order".
        name: as it was given.
        known: the names there are, in the order in which people should read them.
    """
    names = list(known)
    tries = (str(name), str(name).removeprefix("across:"))
    near = [n for text in tries for n in difflib.get_close_matches(text, names, n=1)]
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{what} {name!r} is unknown; {hint}expected one of {', '.join(names)}"
