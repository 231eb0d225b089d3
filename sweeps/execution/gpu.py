"""A trial's part of a GPU."""

from __future__ import annotations

import torch

CONTEXT = 0.05  # of a part: what CUDA itself takes in each process, and torch does not count


def memory_share(gpu: float) -> float | None:
    """The share of a GPU's memory that torch may take in a process with ``gpu`` of one: Ray shares out
    fractions by count alone, and one trial could take the memory of its neighbours. None: no cap."""
    return gpu * (1 - CONTEXT) if 0 < gpu < 1 else None


def take_gpu(graph: torch.nn.Module, gpu: float) -> None:
    """Put a network on the GPU that this process was given, within its part of the memory. Nothing
    where none was asked for or there is none."""
    if gpu <= 0 or not torch.cuda.is_available():
        return
    share = memory_share(gpu)
    if share is not None:
        torch.cuda.set_per_process_memory_fraction(share)
    graph.to("cuda")
