"""The process that opens files of strangers, to read them or to make a pruned copy of a Keras file; see
``contained``. Started as
``python -m prune_core.reader.server FD``, FD being a socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.errors import InputError
from prune_core.files.constants import from_safetensors
from prune_core.files.npy import read_npy
from prune_core.files.pictures import read_rgba
from prune_core.image_files.fields import Wish
from prune_core.image_files.read import read_fields
from prune_core.keras_files.h5 import weights_only, write_pruned_keras
from prune_core.keras_files.weights import SharedWeights
from prune_core.reader.model_files import digest_of, proto_of
from prune_core.torch_files.pickled import load_torch
from prune_core.torch_files.read import PICKLED, read_weights

try:
    import resource
except ImportError:  # where the system has no such bounds
    resource = None  # type: ignore[assignment]

GROWTH = 2**30  # bytes of memory beyond what a file of no size may take
PER_BYTE = 64  # more for each byte of the file: compressed images become larger
PER_BYTE_BESIDE = 12  # copies of weights: as read, checked, made ready, handed over
LARGEST = 40 * 2**30
CPU_SECONDS = 5.0
BYTES_PER_SECOND = 20e6
SECONDS_PER_PICTURE = 1e-3  # to open one, beside what its bytes take
_LENGTH = 8

Found = tuple[Any, Sequence[np.ndarray]]


# Told how many bytes lie in other files, before they are read; and for images, how many pictures there are.
Beside = Callable[..., None]


def _model(path: Path, beside: Beside, architecture: str | None = None) -> Found:
    proto, assumed, digest = proto_of(path, architecture, beside)
    data = np.frombuffer(proto.SerializeToString(), np.uint8)
    return {"assumed": assumed, "digest": digest}, [data]


def _digest(path: Path, beside: Beside) -> Found:
    return digest_of(path, beside), []


def _weights(path: Path) -> Found:
    arrays, said = read_weights(path)
    return {"names": list(arrays), **said}, list(arrays.values())


def _images(
    path: Path,
    beside: Beside,
    layout: str | None = None,
    keys: dict[str, str] | None = None,
    classes: Sequence[str] = (),
    flat: bool = False,
) -> Found:
    found = read_fields(path, Wish(layout, keys or {}, tuple(classes), flat), beside)
    about = {"fields": list(found.fields), "classes": found.classes, "true": found.true, "about": found.about}
    return about, list(found.fields.values())


def _picture(path: Path) -> Found:
    return None, [read_rgba(path)]


def _array(path: Path) -> Found:
    return None, [read_npy(path)]


def _weights_only(path: Path, architecture: str | None = None) -> Found:
    return weights_only(path, architecture), []


def _pruned_keras(
    path: Path,
    destination: str,
    pruned: dict[str, list[int]],
    keep_bias: bool,
    architecture: str | None,
    weights: str | None,
) -> Found:
    """``weights``: a safetensors file of ours. The result is why there is no copy, None where there is."""
    changed = from_safetensors(Path(weights).read_bytes(), weights) if weights else None
    try:
        write_pruned_keras(
            path, Path(destination), pruned, keep_bias=keep_bias, architecture=architecture, weights=changed
        )
    except SharedWeights as error:
        return str(error), []
    except OSError as error:  # of reading, these are InputErrors; HDF5's words would name a temporary file
        why = os.strerror(error.errno) if error.errno else "HDF5 cannot write it"
        raise InputError(f"a copy of {path} cannot be written: {why}") from None
    return None, []


FUNCTIONS: dict[str, Callable[..., Found]] = {
    "model": _model,
    "digest": _digest,
    "weights": _weights,
    "images": _images,
    "picture": _picture,
    "array": _array,
    "weights_only": _weights_only,
    "pruned_keras": _pruned_keras,
}


WITH_OTHER_FILES = ("model", "digest", "images")


def limits(path: Path, beside: int = 0, pictures: int | None = None) -> None:
    """Bounds for the next file: memory (on Linux), and computing time after which the kernel ends us.
    ``beside``: bytes of other files that belong to it; weights, which do not become larger, or so many
    ``pictures``, which do."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    # Elsewhere than on Linux a process cannot learn how much it has, and RLIMIT_AS is not kept.
    if resource is not None and sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + GROWTH + min(size * PER_BYTE, LARGEST)
        room += min(beside * (PER_BYTE_BESIDE if pictures is None else PER_BYTE), LARGEST)
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        allowed = room if hard == resource.RLIM_INFINITY else min(room, hard)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    seconds = CPU_SECONDS + (size + beside) / BYTES_PER_SECOND + (pictures or 0) * SECONDS_PER_PICTURE
    signal.setitimer(signal.ITIMER_PROF, seconds)


def answer(
    request: dict[str, Any], beside: Beside = lambda size, pictures=None: None
) -> tuple[dict[str, Any], Sequence[np.ndarray]]:
    """Do what is asked: a result, an error of the file (one line), or a fault of ours."""
    path, what = Path(request.pop("path")), request.pop("what")
    act = FUNCTIONS[what]
    if what in WITH_OTHER_FILES:
        request["beside"] = beside
    try:
        result, arrays = act(path, **request)
        return {"result": result}, arrays
    except InputError as error:
        return {"error": " ".join(str(error).split())}, []
    except MemoryError:
        return {"error": f"{path}: it needs more memory than a file of its size should; refused"}, []
    except Exception:
        return {"fault": traceback.format_exc()}, []


def send(channel: socket.socket, said: dict[str, Any], arrays: Sequence[np.ndarray]) -> None:
    """An answer; its arrays lie in a nameless file that goes along."""
    forms, offsets, offset = [], [], 0
    for array in arrays:
        offset += -offset % 64
        forms.append({"dtype": array.dtype.str, "shape": array.shape, "offset": offset})
        offsets.append(offset)
        offset += array.nbytes
    data = json.dumps({**said, "arrays": forms}).encode()
    head = len(data).to_bytes(_LENGTH, "big")
    if not arrays:
        channel.sendall(head + data)
        return
    fd = nameless_file()
    try:
        os.ftruncate(fd, offset)
        for start, array in zip(offsets, arrays, strict=True):
            _put(fd, np.ascontiguousarray(array), start)
        socket.send_fds(channel, [head], [fd])
    finally:
        os.close(fd)
    channel.sendall(data)


def nameless_file() -> int:
    """A file in memory where the system has such; elsewhere one on disk whose name is gone already."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("goodnet")
    with tempfile.TemporaryFile(prefix="goodnet-") as file:
        return os.dup(file.fileno())


def _put(fd: int, array: np.ndarray, offset: int) -> None:
    view = memoryview(array.reshape(-1).view(np.uint8).data)
    while view:
        written = os.pwrite(fd, view[: 2**30], offset)
        view, offset = view[written:], offset + written


def main(fd: int) -> None:
    """Answer requests until the other side is gone."""
    channel = socket.socket(fileno=fd)
    send(channel, {"result": "ready"}, [])
    with channel.makefile("rb") as stream:
        while head := stream.read(_LENGTH):
            request = json.loads(stream.read(int.from_bytes(head, "big")))
            if folder := request.pop("folder"):  # the caller's, who may have moved since we began
                os.chdir(folder)
            path = Path(request["path"])
            if request["what"] == "weights" and path.suffix.lower() in PICKLED:
                load_torch()  # its own memory and time are not the file's
            limits(path)

            def beside(size: int, pictures: int | None = None, path: Path = path) -> None:
                limits(path, size, pictures)
                send(channel, {"beside": size, "pictures": pictures or 0}, [])

            said, arrays = answer(request, beside)
            signal.setitimer(signal.ITIMER_PROF, 0)
            send(channel, said, arrays)


if __name__ == "__main__":
    main(int(sys.argv[1]))
