"""PyTorch weights: what torch.save writes, pickles and archives made by hand, safetensors."""

from __future__ import annotations

import collections
import io
import json
import pickle
import random
import struct
import zipfile
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from fuzz.mutate import INTERESTING

NAMES = (
    "conv1.weight",
    "conv1.bias",
    "bn1.running_mean",
    "fc.weight",
    "module.fc.bias",
    "",
    "\x1b[31m",
    "a" * 600,
)
WRAPPERS = ("state_dict", "model", "net", "model_state_dict", "epoch", "optimizer", "args", "\x1b[31m")


def corpus_pth() -> list[bytes]:
    """A plain state_dict, a training checkpoint, one of the old form, and BackdoorBench's dictionary."""
    state = _state(random.Random(0))
    bench = {
        "model_name": "preactresnet18",
        "num_classes": 10,
        "model": state,
        "data_path": "./data",
        "img_size": (32, 32, 3),
        "clean_data": "cifar10",
        "bd_train": {"poisoned": [1, 2]},
        "bd_test": None,
    }
    checkpoint = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}, "lr": 0.1}
    return [_saved(state), _saved(checkpoint), _saved(state, old=True), _saved(bench)]


def corpus_safetensors() -> list[bytes]:
    plain = {name: value.numpy() for name, value in _state(random.Random(0)).items()}
    return [save(plain), save({"w": np.zeros((0, 3), np.float32), "v": np.ones(1, np.float16)})]


def odd_pth(dice: random.Random) -> bytes:
    """Legal files of odd contents, pickles that call something, archives that are not torch's."""
    what = dice.randrange(6)
    if what == 0:
        return _pickle(dice)
    if what == 1:
        return _archive(dice)
    held: Any = _state(dice)
    for _ in range(dice.randrange(4)):
        held = {dice.choice(WRAPPERS): held, dice.choice(WRAPPERS): dice.choice((3, None, "text", [1.5]))}
    return _saved(held, old=dice.random() < 0.2)


def odd_safetensors(dice: random.Random) -> bytes:
    """A header by hand, so that it may lie, before some bytes."""
    body = dice.randbytes(dice.choice((0, 4, 24, 400)))
    head: dict[str, Any] = {}
    for _ in range(dice.randrange(4)):
        shape = [dice.choice((0, 1, 2, 3, 6, -1, 2**31, 2**62)) for _ in range(dice.randrange(5))]
        begin, end = sorted(dice.choice((0, 4, 8, 24, len(body), *INTERESTING[:12])) for _ in range(2))
        head[dice.choice(NAMES)] = {
            "dtype": dice.choice(("F32", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "C64", "X", None)),
            "shape": shape,
            "data_offsets": [begin, end] if dice.random() < 0.9 else [end, begin],
        }
    if dice.random() < 0.2:
        head["__metadata__"] = dice.choice(({"format": "pt"}, {"a": 1}, [], "x"))
    text = json.dumps(head).encode()
    size = len(text) if dice.random() < 0.8 else dice.choice(INTERESTING)
    return struct.pack("<Q", size % 2**64) + text + body


def _state(dice: random.Random) -> dict[str, torch.Tensor]:
    made: dict[str, torch.Tensor] = collections.OrderedDict()
    generator = torch.Generator().manual_seed(dice.randrange(2**31))
    for _ in range(1 + dice.randrange(5)):
        shape = [dice.choice((1, 2, 3, 4)) for _ in range(dice.randrange(5))]
        tensor = torch.rand(shape, generator=generator)
        made[dice.choice(NAMES)] = _oddly(tensor, dice) if dice.random() < 0.3 else tensor
    return made


def _oddly(tensor: torch.Tensor, dice: random.Random) -> torch.Tensor:
    what = dice.randrange(8)
    if what == 0:
        return tensor.to(
            dice.choice((torch.float64, torch.bfloat16, torch.int64, torch.complex64, torch.bool))
        )
    if what == 1:
        return tensor.to_sparse() if tensor.dim() else tensor
    if what == 2:
        return torch.empty(tensor.shape, device="meta")
    if what == 3:
        return torch.zeros(1).expand(dice.choice((3, 10**6, 10**9)))
    if what == 4:
        return torch.quantize_per_tensor(tensor, 0.1, 10, torch.qint8)
    if what == 5:
        return tensor * float("nan")
    if what == 6:
        return torch.nn.Parameter(tensor)
    return tensor.t() if tensor.dim() == 2 else tensor[..., None].transpose(0, -1)


def _saved(held: Any, old: bool = False) -> bytes:
    out = io.BytesIO()
    torch.save(held, out, _use_new_zipfile_serialization=not old)
    return out.getvalue()


class _Calls:
    """Pickled, it asks its reader to call something."""

    def __init__(self, function: str, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def text(self) -> bytes:
        """By hand: no such function need be importable here."""
        module, _, name = self.function.rpartition(".")
        call = b"c" + module.encode() + b"\n" + name.encode() + b"\n"
        return b"\x80\x02" + call + pickle.dumps(self.arguments, 2)[2:-1] + b"R."


def _pickle(dice: random.Random) -> bytes:
    """A pickle that would leave a file where the fuzzer looks for it, alone or in torch's archive."""
    function = dice.choice(
        ("builtins.open", "os.system", "pathlib.Path.touch", "torch.load", "builtins.eval", "numpy.load",
         "torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes", "collections.OrderedDict",
         "builtins.getattr", "functools.partial", "subprocess.Popen")
    )  # fmt: skip
    argument = dice.choice(
        ("touched", "touch touched", "open('touched', 'w')", 10**9, b"x" * 40, ["touch", "touched"])
    )
    made = _Calls(function, *([argument, "w"] if function == "builtins.open" else [argument])).text()
    if dice.random() < 0.5:
        return made
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", made)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", dice.choice(("little", "big", "odd")))
    return out.getvalue()


def _archive(dice: random.Random) -> bytes:
    """torch's own archive with entries left out, added, doubled, packed or renamed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved(_state(dice)))) as given, zipfile.ZipFile(out, "w") as made:
        for name in given.namelist():
            if dice.random() < 0.1:
                continue
            data = given.read(name)
            if dice.random() < 0.2:
                data = data[: dice.randrange(len(data) + 1)] * dice.choice((1, 2, 50))
            if dice.random() < 0.1:
                name = dice.choice(
                    ("../touched", "/touched", "archive/code/a.py", "archive/constants.pkl", name)
                )
            packed = zipfile.ZIP_DEFLATED if dice.random() < 0.1 else zipfile.ZIP_STORED
            made.writestr(name, data, packed)
    return out.getvalue()
