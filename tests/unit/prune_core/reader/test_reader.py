"""The process that opens strangers' files: how it hands arrays over, and what is said when it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from prune_core.errors import InputError
from prune_core.reader import client, server


@pytest.fixture(autouse=True)
def a_reader_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(client, "_reader", None)
    yield
    if client._reader is not None:
        client._reader.process.kill()
        client._reader.process.wait()


def images(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["data"], file["label"] = np.arange(48).reshape(4, 3, 2, 2), np.arange(4)
    return path


def sent(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Through a socket, as the two processes do it."""
    ours, theirs = socket.socketpair()
    reader = client.Reader.__new__(client.Reader)
    reader.socket = ours
    thread = threading.Thread(target=server.send, args=(theirs, {"result": None}, arrays))
    thread.start()
    _, found = reader._answer(10.0)
    thread.join()
    ours.close()
    theirs.close()
    return found


def test_arrays_arrive_without_memfd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on macOS: a file on disk, of which no name is left."""
    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    given = [np.arange(7, dtype=np.float32), np.zeros((0, 3)), np.arange(12).reshape(3, 4)[:, ::2]]
    found = sent(given)
    for one, other in zip(given, found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(array.flags.writeable for array in found if array.size)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_reader_without_memfd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process itself, started where neither memfd_create nor the bounds of Unix are to be had."""
    start = (
        "import os, sys; del os.memfd_create; sys.modules['resource'] = None; sys.platform = 'darwin'; "
        "import prune_core.reader.server as server; server.main(int(sys.argv[-1]))"
    )
    popen = subprocess.Popen

    def as_elsewhere(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return popen([command[0], "-P", "-c", start, command[-1]], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(client.subprocess, "Popen", as_elsewhere)
    said, arrays = client.read("images", images(tmp_path / "x.h5"))
    assert dict(zip(said["fields"], map(len, arrays), strict=True))["images"] == 4


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (None, "could not be read within 7 s"),
        (-signal.SIGSEGV, r"crashed the library that reads it \(SIGSEGV\)"),
        (-signal.SIGPROF, "more computing time"),
        (-signal.SIGKILL, "short of memory"),
        (-63, r"crashed the library that reads it \(signal 63\)"),
        (3, r"ended by itself \(exit status 3\)"),
    ],
)
def test_the_exit_status_makes_the_message(status: int | None, words: str) -> None:
    assert re.search(words, client._reason(status, 7.0))


def test_a_reader_that_is_killed_is_no_time_out(tmp_path: Path) -> None:
    client.read("images", images(tmp_path / "x.h5"))
    os.mkfifo(tmp_path / "pipe.h5")  # opening it waits for a writer
    assert client._reader is not None
    threading.Timer(0.3, client._reader.process.kill).start()
    with pytest.raises(InputError, match="short of memory"):
        client.read("images", tmp_path / "pipe.h5")
    assert client.read("images", tmp_path / "x.h5")[1]  # by a new one


def test_a_reader_that_does_not_start_is_a_fault_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match=r"did not start \(exit status 1\)"):
        client.read("images", Path("x.h5"))


def test_what_cannot_be_written_is_told_without_temporary_names(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        client.read(
            "pruned_keras",
            images(tmp_path / "x.h5"),
            destination=str(tmp_path / "not-there" / ".secret.tmp"),
            pruned={},
            keep_bias=False,
            architecture=None,
            weights=None,
        )
    assert ".secret.tmp" not in str(caught.value)


def test_a_relative_path_is_the_callers_also_after_it_has_moved(tmp_path: Path, monkeypatch) -> None:
    """As in a notebook that changes its folder: the reader was started in another one."""
    images(tmp_path / "first.h5")
    client.read("images", tmp_path / "first.h5")
    monkeypatch.chdir(tmp_path)
    said, arrays = client.read("images", Path("first.h5"))
    assert len(dict(zip(said["fields"], arrays, strict=True))["label"]) == 4
