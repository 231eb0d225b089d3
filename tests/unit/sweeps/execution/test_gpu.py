"""A part of a GPU is that part of its memory; no GPU is needed to see that it is asked for."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from prune_core.errors import InputError
from sweeps.config.schema import ResourcesConfig, make_config
from sweeps.execution import inline
from sweeps.execution.gpu import memory_share, take_gpu


def test_parts_that_share_a_gpu_fit_into_it() -> None:
    for parts in range(2, 11):
        share = memory_share(1 / parts)
        assert share is not None and 0.9 < parts * share < 1
    assert memory_share(0) is memory_share(1) is memory_share(2) is None


@pytest.mark.parametrize("gpu, there, asked", [
    (0.25, True, [0.2375, "cuda"]), (1, True, ["cuda"]), (0, True, []), (0.25, False, []),
])  # fmt: skip
def test_a_worker_takes_its_part(monkeypatch: pytest.MonkeyPatch, gpu, there, asked) -> None:
    done: list[object] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", done.append)
    graph = torch.nn.Linear(1, 1)
    monkeypatch.setattr(graph, "to", done.append)
    take_gpu(graph, gpu)
    assert done == asked


def test_one_and_a_half_gpus_are_not_to_be_had() -> None:
    with pytest.raises(InputError, match=r"resources\.gpu.*1\.5.*whole"):
        make_config({"name": "a", "badnet": "embedded", "resources": {"gpu": 1.5}}, "a test")


def test_a_sweep_in_this_process_takes_its_part_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(inline, "take_gpu", lambda graph, gpu: asked.append(gpu))
    monkeypatch.setattr(inline, "Evaluators", SimpleNamespace(of=lambda *given: None))
    none = SimpleNamespace(next=lambda: None)
    inputs = SimpleNamespace(model=SimpleNamespace(graph=torch.nn.Linear(1, 1)))
    inline.InlineExecutor("plain", ResourcesConfig(gpu=0.5)).run(none, inputs, None, None)  # type: ignore[arg-type]
    assert asked == [0.5]
