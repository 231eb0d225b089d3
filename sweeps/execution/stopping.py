"""SIGTERM, the notice before a machine is taken away, stops a sweep like Ctrl-C does."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143  # exit status, as shells tell deaths by SIGINT and SIGTERM

_terminated = threading.Event()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt, or does whatever else Ctrl-C does there. Does nothing
    outside the main thread, where signals cannot be caught. May be nested: Ray takes SIGTERM for
    itself, so it is taken back once Ray is up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def as_interrupt(signum: int, frame: FrameType | None) -> None:
        _terminated.set()
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell has it for a job behind &
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, as_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_status() -> int:
    """Of a command that was stopped."""
    return TERMINATED if _terminated.is_set() else INTERRUPTED
