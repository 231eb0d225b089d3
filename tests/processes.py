"""Sweeps as processes of their own, which tests may kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

ROOT = Path(__file__).resolve().parent.parent
# Ray's workers give way to all else; here they are what is waited for.
RAY = {"RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
TRIAL = "ray::ImplicitFunc"  # title of a worker process that runs a trial


def start_sweep(
    config: Path, *more: str, code: str = "", stderr: IO[str] | int = subprocess.PIPE, **environment: str
) -> subprocess.Popen[str]:
    """``goodnet sweep CONFIG --json``; ``code`` is run in front of it. It hears Ctrl-C also where the tests
    run behind a shell's ``&``, which has it ignored."""
    listen = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"import sys\n{listen}\n{code}\nfrom sweeps.cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", program, "sweep", str(config), "--json", *more],
        text=True,
        stdout=subprocess.PIPE,
        stderr=stderr,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """With all that it started, whatever happens."""
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Kill it, and all that it started."""
    everything = family(process.pid)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for one in everything:
        with suppress(psutil.Error):
            one.kill()


def family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def workers(pid: int) -> list[psutil.Process]:
    """Processes of a driver's local cluster that run a trial just now."""
    found = []
    for process in family(pid):
        try:
            if any(TRIAL in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue  # gone or a zombie
    return found


def wait_until(what: Callable[[], object], process: subprocess.Popen[str], seconds: float = 300) -> None:
    """Until ``what()`` is true. Fails when the process ends before, or after ``seconds``, so that no
    test hangs."""
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, f"ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def records(storage: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (storage / "trials").glob("*.parquet")}
