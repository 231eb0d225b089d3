"""Storage that is away for a while, or full: ask again, with growing pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_exponential_jitter

from prune_core.errors import Unavailable

T = TypeVar("T")

PATIENCE = 600.0  # seconds; a finished trial is worth the wait, and nothing can go on without storage
AWAY = (OSError, pa.ArrowException)  # what file systems raise, local and remote


class StorageAway(Unavailable):
    """The storage, or Ray's, has not answered for as long as anyone cared to wait."""


def patiently(do: Callable[[], T], place: str, tell: Callable[[str], None] = lambda line: None) -> T:
    """``do()``, again and again while the storage at ``place`` is away. As ``persistently``."""
    return persistently(
        do,
        AWAY,
        f"storage {place!r} does not answer",
        "finished trials are kept, the same command goes on once it is back",
        tell,
    )


def persistently(
    do: Callable[[], T],
    errors: tuple[type[Exception], ...],
    what: str,
    advice: str,
    tell: Callable[[str], None],
) -> T:
    """``do()``, again and again while it raises one of ``errors``, for ``PATIENCE`` seconds. ``tell``
    gets one line, that begins with ``what``, at the first. Raises StorageAway, with ``advice``."""

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            tell(f"{what} ({_why(state.outcome.exception())}); trying for {PATIENCE / 60:g} minutes more")

    attempts = Retrying(
        retry=retry_if_exception_type(errors),
        stop=stop_after_delay(PATIENCE),
        wait=wait_exponential_jitter(initial=0.2, max=15.0, jitter=0.2),
        before_sleep=before_sleep,
        reraise=True,
    )
    try:
        return attempts(do)
    except errors as error:
        raise StorageAway(f"{what}, for {PATIENCE / 60:g} minutes now ({_why(error)}); {advice}") from None


def _why(error: BaseException | None) -> str:
    return " ".join(str(getattr(error, "reason", "") or error).split())[:200]
