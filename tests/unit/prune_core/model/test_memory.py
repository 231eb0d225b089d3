"""No memory is told from other faults by type; torch's own error is provoked, in the words of today."""

from __future__ import annotations

import pytest
import torch

from prune_core.model.memory import free_memory, out_of_memory, typed
from sweeps.trial import machine_fault


def test_what_torch_raises_without_memory_is_a_memory_error() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**50, dtype=torch.uint8)  # a petabyte
    assert type(raised.value) is RuntimeError  # once torch has a type for it, ``typed`` can go
    found = typed(raised.value)
    assert isinstance(found, MemoryError) and "\n" not in str(found)
    assert out_of_memory(found) and machine_fault(raised.value)


def test_numpy_and_gpus_have_types() -> None:
    assert out_of_memory(MemoryError()) and out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


@pytest.mark.parametrize("error", [
    RuntimeError("shape mismatch"), ValueError("DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("somebody can't allocate memory"),
])  # fmt: skip
def test_words_alone_do_not_make_it_the_machines(error: Exception) -> None:
    assert typed(error) is error and not machine_fault(error)


def test_what_is_free_of_a_gpu_is_what_the_process_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory(torch.device("cpu")) is None
    said = {"mem_get_info": (60, 100), "memory_reserved": 20, "memory_allocated": 15}
    for name, value in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    for share, free in ((1.0, 65), (0.5, 35), (0.1, 5)):
        monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device, part=share: part)
        assert free_memory(torch.device("cuda")) == free
