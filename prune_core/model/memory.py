"""Memory that is not there, as a type: torch says so of the CPU's in words alone.

A GPU without memory is torch.OutOfMemoryError; of the CPU torch raises the RuntimeError that it raises for
everything. This is the only place that reads its words; a test provokes the real error, so it fails when
a later torch says it otherwise.
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
