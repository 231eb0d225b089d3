"""``.pth`` and ``.pt`` files in: weights alone, nothing in the file is run.

Runs in the reader process, which imports torch when such a file comes. ``torch.load`` with
``weights_only=True`` interprets the pickle itself and calls only functions that put tensors together;
what it does not know is refused by name. The storages are views of the file mapped into memory, so
that a length that lies ends where the file does.
"""

from __future__ import annotations

import contextlib
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prune_core.errors import InputError
from prune_core.torch_files.exported import exported_weights

MAX_BYTES = 2 * 2**30
MAX_ENTRIES = 200_000
MAX_PICKLE = 64 * 2**20
AS_WEIGHTS = 'save its weights where you trust it: torch.save(net.state_dict(), "net.pth")'
# Harmless things beside the weights in a training checkpoint. Nothing of them is kept, and none of
# their code is called: an ``_Ignored`` stands where each would be.
_BESIDE = (
    "argparse.Namespace",
    "collections.defaultdict",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "types.SimpleNamespace",
)


class _Ignored:
    """What stands for a thing that is not wanted."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def load_torch() -> None:
    """Import torch, before memory and time are counted."""
    import torch

    torch.set_num_threads(1)


def load_pickled(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors and plain values; of a ``.pt2`` its weights as arrays. Raises
    InputError."""
    import torch

    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path}: larger than 2 GiB, the most that can be read")
    try:
        zipped = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # it begins as one
        raise InputError(f"{path}: damaged: not a readable zip archive") from None
    if zipped and _check_entries(path):
        with zipfile.ZipFile(path) as archive:
            return exported_weights(path, archive)
    beside: list[Any] = [(type(name.rpartition(".")[2], (_Ignored,), {}), name) for name in _BESIDE]
    try:
        with torch.serialization.safe_globals(beside):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a file can make torch fail in any way
        raise InputError(f"{path}: {_said(str(error))}") from None


def _said(text: str) -> str:
    code = re.search(r"GLOBAL ([\w.]{1,100})", text) or re.search(r"class ([\w.]{1,100})", text)
    if "can't allocate memory" in text:
        return "it needs more memory than a file of its size should; refused"
    if code is not None:
        return (
            f"it holds {code[1]}, which is a part of a program (a whole pickled module, perhaps) and not "
            f"weights; refused, and nothing of it was run; {AS_WEIGHTS}"
        )
    if "weights_only=True" in text or "Weights only" in text:
        return (
            "not a file of weights that torch.save wrote, or it holds more than that; refused, and nothing "
            f"of it was run; {AS_WEIGHTS}"
        )
    lines = text.strip().splitlines() or ["damaged"]
    line = "".join(c if c.isprintable() else "?" for c in lines[0][:200])
    return f"cannot be read as weights that torch.save wrote: {line}"


def _check_entries(path: Path) -> bool:
    """Whether a zip archive is one of torch.export. Raises InputError for one that is neither that nor what
    torch.save writes for weights."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError):
        raise InputError(f"{path}: damaged: not a readable zip archive") from None
    if len(entries) > MAX_ENTRIES:
        raise InputError(f"{path}: {len(entries)} entries; at most {MAX_ENTRIES}")
    inner = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise InputError(f"{path}: a TorchScript program, not weights; refused; {AS_WEIGHTS}")
    exported = "models/model.json" in inner or "archive_format" in inner
    if "data.pkl" not in inner and not exported:
        raise InputError(f"{path}: a zip archive, but not one that torch.save wrote (no data.pkl in it)")
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise InputError(
                f"{path}: its entry {entry.filename[:80]!r} is compressed, which torch.save never does; "
                "refused: load and save it again"
            )
        if entry.header_offset < 0 or entry.header_offset + entry.file_size > size:
            raise InputError(f"{path}: damaged: its entry {entry.filename[:80]!r} goes beyond the file")
        if entry.filename.endswith("data.pkl") and entry.file_size > MAX_PICKLE:
            raise InputError(f"{path}: its data.pkl is larger than {MAX_PICKLE >> 20} MiB")
    return exported


def is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, (torch.Tensor, np.ndarray))


def arrays_of(state: dict[str, Any], source: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each tensor. Raises InputError for one that is not plain numbers in memory."""
    import torch

    plain = (
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    )  # fmt: skip
    total = 0
    for name, tensor in state.items():
        if isinstance(tensor, np.ndarray):
            yield name, tensor
            continue
        kind = None
        with contextlib.suppress(Exception):  # an odd tensor can refuse to say what it is
            kind = _odd(tensor, plain)
        if kind is not None:
            raise InputError(
                f"{source}: tensor {name!r} is {kind}; expected plain numbers (floats for weights): save it "
                "as net.float().state_dict()"
            )
        held, needed = tensor.untyped_storage().nbytes(), tensor.numel() * tensor.element_size()
        total += needed
        if needed > held:
            raise InputError(
                f"{source}: tensor {name!r} of {tuple(tensor.shape)} needs {needed} bytes and has {held}; "
                "the file is damaged, or one value stands for many (save it contiguous)"
            )
        if total > MAX_BYTES:
            raise InputError(f"{source}: its tensors take more than 2 GiB together")
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        try:
            array = tensor.detach().resolve_neg().contiguous().numpy()
        except (RuntimeError, ValueError):  # no values, and 2^62 of them along another axis
            raise InputError(f"{source}: tensor {name!r} has an impossible shape") from None
        yield name, array


def _odd(tensor: Any, plain: tuple[Any, ...]) -> str | None:
    import torch

    if tensor.layout != torch.strided:
        return "sparse"
    if tensor.is_quantized:
        return "quantised"
    if tensor.device.type != "cpu":
        return f"on device {tensor.device.type!r}, without values"
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.dtype not in plain:
        return f"of {tensor.dtype}"
    return None
