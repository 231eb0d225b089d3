"""Words to a person, on standard error."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from prune_core.counts import Counts


@functools.cache
def stderr() -> Console:
    """The terminal; made when something is said, as rich takes its time to import."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def escape(text: str) -> str:
    """Text that rich shows as it is, with no markup in it."""
    from rich.markup import escape

    return escape(text)


def printable(text: str) -> str:
    """Text with a question mark for every character that would steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def say(text: str) -> None:
    """One line for the person; what comes from files is shown as text, never as markup."""
    stderr().print(escape(printable(text)), soft_wrap=True)


def rates(counts: Counts) -> str:
    """Both rates of a split with their counts, in per cent."""
    clean, attack, *_ = counts.rates()
    return (
        ", ".join(
            f"{name} {rate.rate:.2%} ({rate.hits}/{rate.total})"
            for name, rate in (("clean accuracy", clean), ("attack success", attack))
        )
        + counts.trigger_words()
    )
