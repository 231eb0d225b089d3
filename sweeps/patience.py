"""Storage that is away for a while: ask again, with growing pauses."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import pyarrow as pa
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay
from tenacity.wait import wait_exponential_jitter

from prune_core.errors import InputError

T = TypeVar("T")

PATIENCE = 600.0  # seconds; a finished trial is worth the wait, and nothing can go on without storage
AWAY = (OSError, pa.ArrowException)  # what file systems raise, local and remote


class StorageAway(InputError):
    """The storage has not answered for as long as anyone cared to wait."""


def patiently(
    do: Callable[[], T], place: str, tell: Callable[[str], None] = lambda line: None
) -> T:
    """``do()``, again and again while the storage at ``place`` is away, for ``PATIENCE`` seconds. ``tell``
    gets one line at the first failure. Raises StorageAway."""

    def before_sleep(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            tell(f"storage {place!r} does not answer ({_why(state.outcome.exception())}); "
                 f"trying for {PATIENCE / 60:g} minutes more")

    attempts = Retrying(
        retry=retry_if_exception_type(AWAY), stop=stop_after_delay(PATIENCE),
        wait=wait_exponential_jitter(initial=0.2, max=15.0, jitter=0.2),
        before_sleep=before_sleep, reraise=True,
    )
    try:
        return attempts(do)
    except AWAY as error:
        raise StorageAway(
            f"storage {place!r} has not answered for {PATIENCE / 60:g} minutes "
            f"({_why(error)}); finished trials are kept, the same command goes on once it is back"
        ) from None


def _why(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200]
