"""float32 is computed in full while counting, whatever the process allows otherwise."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from prune_core.evaluators import make_evaluator
from prune_core.masks import ChannelMask
from prune_core.model.precision import full_float32
from tests.nets.networks import made

CUDA, CUDNN = torch.backends.cuda.matmul, torch.backends.cudnn


@pytest.fixture(autouse=True)
def rounding() -> Iterator[None]:
    """A process that allows shorter forms, as many training scripts do."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def precisions() -> list[str]:
    kernels = (CUDA, CUDNN.conv, torch.backends.mkldnn.matmul, torch.backends.mkldnn.conv)
    return [kernel.fp32_precision for kernel in kernels]


def test_full_inside_and_as_it_was_outside() -> None:
    outside = precisions()
    assert "ieee" not in outside
    with pytest.raises(KeyError), full_float32():
        assert precisions() == ["ieee"] * 4
        with full_float32():
            pass
        assert precisions() == ["ieee"] * 4
        raise KeyError
    assert precisions() == outside
    assert CUDA.allow_tf32 and CUDNN.allow_tf32  # the older names of the same can still be read


@pytest.mark.parametrize("kind", ["plain", "incremental"])
def test_counting_is_done_in_full(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = made("Chain", 0)
    seen: list[list[str]] = []
    forward = nn.Linear.forward

    def looked(layer: nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append(precisions())
        return forward(layer, x)

    monkeypatch.setattr(nn.Linear, "forward", looked)
    evaluator = make_evaluator(model, split, kind)
    evaluator.counts(ChannelMask.of({model.layers[0].name: [0]}))
    assert seen and all(one == ["ieee"] * 4 for one in seen)
