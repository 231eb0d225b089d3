"""Files of strangers are opened by another process, the reader, which may crash, hang or run out of
memory without harm: HDF5, ONNX and picture libraries are C and C++, and have had such faults.

The reader (``server``) starts at the first file of this process, is told one file after the
other, and ends with this process. It answers with plain JSON and with arrays in memory that both
share; nothing is unpickled. If a file stops it, the next file gets a new one.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.errors import InputError

START_SECONDS = 120.0  # to import its libraries, on a busy machine
WAIT_SECONDS = 120.0  # for an answer, beyond what the file's size needs
BYTES_PER_SECOND = 20e6
MAX_BESIDE = 2 * 2**30
SECONDS_PER_PICTURE = 2e-3
MAX_PICTURES = 2_000_000
_LENGTH = 8


class _Stopped(Exception):
    """The reader did not answer."""


class Reader:
    """One reader process and the socket to it."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        root = str(Path(__file__).resolve().parents[2])
        # -P: nothing is imported from the working folder, which may be the stranger's.
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "prune_core.reader.server", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
                "HDF5_PLUGIN_PRELOAD": "::",  # HDF5 loads no filter plugins
                "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others take address space in advance
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
            },
        )
        theirs.close()
        self.socket = ours
        try:
            self._answer(START_SECONDS)
        except _Stopped:
            status = self.close()
            how = f"in {START_SECONDS:g} s" if status is None else f"(exit status {status})"
            raise RuntimeError(f"the process that reads files did not start {how}") from None

    def ask(self, request: dict[str, Any], seconds: float) -> tuple[dict[str, Any], list[np.ndarray]]:
        """The answer and its arrays. Raises _Stopped."""
        data = json.dumps(request).encode()
        try:
            self.socket.sendall(len(data).to_bytes(_LENGTH, "big") + data)
        except OSError:
            raise _Stopped from None
        said, arrays = self._answer(seconds)
        if "beside" in said:  # other files belong to it: they take their time, too
            seconds += min(said["beside"], MAX_BESIDE) / BYTES_PER_SECOND
            said, arrays = self._answer(seconds + min(said["pictures"], MAX_PICTURES) * SECONDS_PER_PICTURE)
        return said, arrays

    def _answer(self, seconds: float) -> tuple[dict[str, Any], list[np.ndarray]]:
        self.socket.settimeout(seconds)
        fds: list[int] = []
        try:
            first, fds, _, _ = socket.recv_fds(self.socket, _LENGTH, 1)
            head = first + self._bytes(_LENGTH - len(first))
            answer = json.loads(self._bytes(int.from_bytes(head, "big")))
            return answer, _arrays(fds[0], answer["arrays"]) if fds else []
        except OSError:
            raise _Stopped from None
        finally:
            for fd in fds:
                os.close(fd)

    def _bytes(self, count: int) -> bytes:
        parts = b""
        while len(parts) < count:
            part = self.socket.recv(min(count - len(parts), 2**20))
            if not part:
                raise _Stopped
            parts += part
        return parts

    def close(self) -> int | None:
        """End it; its exit status, negative for a signal that it died of. None when it was still at work."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self.process.wait(1.0)
            self.socket.close()
            return status
        self.process.kill()
        self.process.wait()
        self.socket.close()
        return None


def _arrays(fd: int, forms: list[dict[str, Any]]) -> list[np.ndarray]:
    size = os.fstat(fd).st_size
    if not size:
        return [np.zeros(f["shape"], f["dtype"]) for f in forms]
    shared = mmap.mmap(fd, size, prot=mmap.PROT_READ)
    return [
        np.frombuffer(shared, f["dtype"], int(np.prod(f["shape"])), f["offset"]).reshape(f["shape"])
        for f in forms
    ]


_lock = threading.Lock()
_reader: Reader | None = None


def read(what: str, path: Path, **options: Any) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What the reader finds in a file.

    Args:
        what: a function of ``reader_process.FUNCTIONS``.
        options: for it; JSON.

    Returns:
        Its JSON result and its arrays (read-only).

    Raises:
        InputError: the reader's own, or one that says how the file stopped the reader.
    """
    global _reader
    size = path.stat().st_size if path.exists() else 0
    seconds = WAIT_SECONDS + size / BYTES_PER_SECOND
    with _lock:
        if _reader is None:
            _reader = Reader()
        try:
            answer, arrays = _reader.ask(
                {"what": what, "path": str(path), "folder": _folder(), **options}, seconds
            )
        except _Stopped:
            status, _reader = _reader.close(), None
            raise InputError(f"{path}: {_reason(status, seconds)}; refused") from None
    if "error" in answer:
        raise InputError(answer["error"])
    if "fault" in answer:
        raise RuntimeError(f"the reader failed on {path}: {answer['fault']}")
    return answer["result"], arrays


def _folder() -> str | None:
    """The working folder, which paths may be relative to; None when it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return None


def _reason(status: int | None, seconds: float) -> str:
    """How the file stopped the reader, by its exit status; None: it was stopped while at work."""
    if status is None:
        return f"it could not be read within {seconds:.0f} s"
    if -status == signal.SIGPROF:
        return "reading it took more computing time than a file of its size needs (it may be damaged)"
    if -status == signal.SIGKILL:
        return "the process that read it was killed (SIGKILL), as a machine short of memory does"
    if status < 0:
        return f"it crashed the library that reads it ({_signal(-status)}): damaged, or crafted to do harm"
    return f"the process that read it ended by itself (exit status {status})"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # of real time, or of another system
        return f"signal {number}"


def _close() -> None:
    if _reader is not None:
        _reader.process.kill()


def _forget() -> None:
    """In a forked child the reader belongs to the parent."""
    global _reader, _lock
    _reader, _lock = None, threading.Lock()


atexit.register(_close)
os.register_at_fork(after_in_child=_forget)
