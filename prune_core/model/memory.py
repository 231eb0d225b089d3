"""Memory that is not there, as a type: torch says so of the CPU's in words alone.

A GPU without memory is torch.OutOfMemoryError; of the CPU torch raises the RuntimeError that it raises for
everything. This is the only place that reads its words; a test provokes the real error, so it fails when
a later torch says it otherwise. And how much there is of a GPU's.
"""

from __future__ import annotations

import torch

_ALLOCATOR = "DefaultCPUAllocator: "  # in every message of PyTorch's c10/core/impl/alloc_cpu.cpp


def typed(error: Exception) -> Exception:
    """``error``, or a MemoryError where it is what torch's CPU allocator raises."""
    if isinstance(error, RuntimeError) and _ALLOCATOR in str(error):
        return MemoryError(" ".join(str(error).split())[:200])
    return error


def out_of_memory(error: Exception) -> bool:
    """Whether a ``typed`` error says that there was no memory, of the CPU or of a GPU."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError))


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process may still take on a GPU, its part of it kept to; None on other devices."""
    if device.type != "cuda":
        return None
    free, total = torch.cuda.mem_get_info(device)
    held = torch.cuda.memory_reserved(device)
    part = int(total * torch.cuda.get_per_process_memory_fraction(device)) - held
    return max(0, min(free, part)) + held - torch.cuda.memory_allocated(device)
