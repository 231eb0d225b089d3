"""PyTorch's weight files: whole ones, and odd ones by a grammar of tensors, checkpoints and archives."""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from fuzz.mutate import INTERESTING, mutated

KINDS = (
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool,
    torch.complex64, torch.float8_e5m2,
)  # fmt: skip


def corpus_pickled() -> list[bytes]:
    net = _net()
    checkpoint = {
        "epoch": 3,
        "model": {f"module.{key}": value for key, value in net.items()},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "args": argparse.Namespace(lr=0.1),
    }
    bench = {"model_name": "preactresnet18", "num_classes": 4, "model": net, "bd_test": {"x": np.arange(3)}}
    return [
        _saved(net),
        _saved(net, False),
        _saved(checkpoint),
        _saved(checkpoint, False),
        _saved(bench),
        _saved({key: value.half() for key, value in net.items()}),
        _exported(net),
    ]


def corpus_tensors() -> list[bytes]:
    net = {key: value.contiguous() for key, value in _net().items()}
    halves = {key: value.bfloat16() for key, value in net.items()}
    return [save(net), save(net, {"format": "pt"}), save(halves)]


def odd_pickled(known: list[bytes], dice: random.Random) -> bytes:
    if dice.random() < 0.4:
        return _odd_archive(dice.choice(known), known, dice)
    state = {
        dice.choice(("a", "conv.weight", "module.a", "\n", "x" * 600)): _odd_tensor(dice) for _ in range(3)
    }
    saved: Any = state
    for _ in range(dice.randrange(4)):
        saved = dice.choice(
            ({dice.choice(("model", "state_dict", "net", 3, "")): saved}, [saved], {"x": saved})
        )
    if dice.random() < 0.2:
        saved = {"model": saved, "beside": _Calls(dice)}
    if dice.random() < 0.1:
        return pickle.dumps(saved)
    return _saved(saved, dice.random() < 0.7)


def odd_tensors(dice: random.Random) -> bytes:
    def number() -> int:
        return dice.choice((*range(9), *INTERESTING)) * dice.choice((1, 1, 1, -1))

    data = dice.randbytes(dice.randrange(200))
    head: dict[str, Any] = {}
    at = 0
    for name in dice.sample(("a", "conv.weight", "__metadata__", "", "\x1b[31m"), dice.randrange(4)):
        size = dice.randrange(6)
        begin, end = (at, at + 4 * size) if dice.random() < 0.7 else (number(), number())
        at += 4 * size
        head[name] = {
            "dtype": dice.choice(("F32", "F32", "F16", "BF16", "I64", "F8_E4M3", "BOOL", "C64", 3)),
            "shape": dice.choice(([size], [size, 1], [], [number(), number()], "x")),
            "data_offsets": dice.choice(([begin, end], [begin, end], [begin], None)),
        }
    text = json.dumps(head).encode()
    length = len(text) if dice.random() < 0.8 else number() % 2**64
    return struct.pack("<Q", length) + text + (data if dice.random() < 0.4 else bytes(at))


def _net() -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn((4, 3, 3, 3), generator=numbers),
        "bn.weight": torch.randn(4, generator=numbers),
        "bn.num_batches_tracked": torch.tensor(3),
        "fc.weight": torch.randn((2, 4), generator=numbers).t().contiguous().t(),
    }


def _saved(saved: Any, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(saved, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def _exported(net: dict[str, torch.Tensor]) -> bytes:
    """The part of a .pt2 that is read, as torch.export.save lays it out."""
    made, config = io.BytesIO(), {}
    with zipfile.ZipFile(made, "w") as archive:
        for number, (name, tensor) in enumerate(net.items()):
            meta = {
                "dtype": 5 if tensor.dtype == torch.int64 else 7,
                "sizes": [{"as_int": size} for size in tensor.shape],
                "strides": [{"as_int": step} for step in tensor.contiguous().stride()],
                "storage_offset": {"as_int": 0},
            }
            config[name] = {"path_name": f"weight_{number}", "use_pickle": False, "tensor_meta": meta}
            archive.writestr(f"net/data/weights/weight_{number}", tensor.contiguous().numpy().tobytes())
        archive.writestr("net/data/weights/model_weights_config.json", json.dumps({"config": config}))
        archive.writestr("net/models/model.json", "{}")
        archive.writestr("net/byteorder", "little")
        archive.writestr("net/archive_format", "pt2")
    return made.getvalue()


class _Rebuilt:
    """Pickles as a tensor over a storage of four numbers, whatever it says of itself."""

    def __init__(self, dice: random.Random) -> None:
        size, step = ((*range(5), *INTERESTING, -1) for _ in range(2))
        rank = dice.randrange(4)
        self.form = (
            dice.choice((0, 0, 1, 2**40, -1)),
            tuple(dice.choice(size) % 2**63 for _ in range(rank)),
            tuple(dice.choice(step) % 2**63 for _ in range(dice.choice((rank, rank, rank + 1)))),
        )
        self.kind = dice.choice(KINDS)

    def __reduce__(self) -> Any:
        storage = torch.arange(4.0).untyped_storage()
        typed = torch.storage.TypedStorage(wrap_storage=storage, dtype=self.kind, _internal=True)
        return torch._utils._rebuild_tensor_v2, (typed, *self.form, False, OrderedDict())


class _Calls:
    """Pickles as a call of something that is no tensor's."""

    def __init__(self, dice: random.Random) -> None:
        self.call = dice.choice(
            (
                (os.system, ("touch ../canary-of-a-pickle",)),
                (eval, ("open('../canary-of-a-pickle', 'w')",)),
                (open, ("../canary-of-a-pickle", "w")),
                (np.frombuffer, (b"12345678", "u1")),
                (torch.nn.Linear, (2, 2)),
                (argparse.Namespace, ()),
                (OrderedDict, ([("a", 1)],)),
            )
        )

    def __reduce__(self) -> Any:
        return self.call


def _odd_tensor(dice: random.Random) -> Any:
    if dice.random() < 0.4:
        return _Rebuilt(dice)
    tensor = torch.zeros([dice.randrange(4) for _ in range(dice.randrange(4))], dtype=dice.choice(KINDS))
    if dice.random() < 0.2:
        return dice.choice(
            (
                lambda: torch.eye(3).to_sparse(),
                lambda: torch.zeros(3, device="meta"),
                lambda: torch.ones(1).expand(9),
                lambda: torch.nn.Parameter(torch.ones(3)),
            )
        )()
    return tensor


def _odd_archive(data: bytes, known: list[bytes], dice: random.Random) -> bytes:
    """Of one that torch wrote, some entries changed, left out, named otherwise or packed."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return mutated(data, known, dice)
    made = io.BytesIO()
    packing = zipfile.ZIP_DEFLATED if dice.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", packing) as new:
        for name in old.namelist():
            entry = old.read(name)
            if name.endswith(("data.pkl", ".json")) or dice.random() < 0.1:
                entry = mutated(entry, known, dice)
            if dice.random() < 0.05:
                name = dice.choice(("../canary", "archive/code/x.py", "archive/data/999", name + "x", ""))
            if dice.random() < 0.95:
                new.writestr(name, entry)
    return made.getvalue()
