"""A pre-activation residual block in small: batch norm behind a convolution that an addition uses too."""

from __future__ import annotations

import torch
from networks import as_model
from torch import nn

from prune_core.model.model import PrunableModel


class PreActivation(nn.Module):
    """stem -> (norm, ReLU, inner, norm, ReLU, last) + stem -> norm, ReLU, mean over space, dense."""

    def __init__(self, width: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(3))
        self.inner = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.last = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.dense = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        inner = self.inner(self.norms[0](x).relu())
        x = x + self.last(self.norms[1](inner).relu())
        return self.dense(self.norms[2](x).relu().mean((2, 3)))


def preactivation(seed: int = 0) -> tuple[PreActivation, PrunableModel]:
    """With random weights and statistics."""
    torch.manual_seed(seed)
    net = PreActivation().eval()
    for norm in net.norms:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.uniform_(norm.bias, -0.5, 0.5)
        norm.running_mean = torch.randn(6) * 0.1
        norm.running_var = torch.rand(6) + 0.5
    return net, as_model(net, (2, 8, 8), "preactivation")
