"""Scores that need no images: positions, lots, weights."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from prune_core.model.model import ConvLayer, PrunableModel
from prune_core.orders.given import OrderInput, Scores


def index(given: OrderInput) -> Scores:
    """score_k = k: channel 0 first. Source: the seed's targeted code."""
    return {n: np.arange(given.model.layer(n).channels, dtype=np.float64) for n in given.layers}


def reverse_index(given: OrderInput) -> Scores:
    """score_k = -k: the last channel first. Source: the seed's final-layer code."""
    return {name: -scores for name, scores in index(given).items()}


def random(given: OrderInput) -> Scores:
    """Uniform in [0, 1), by seed and layer name: a control. The same on every machine."""
    found = {}
    for name in given.layers:
        words = [given.seed, *name.encode()]
        draw = np.random.Generator(np.random.PCG64(words))
        found[name] = draw.random(given.model.layer(name).channels)
    return found


def l1(given: OrderInput) -> Scores:
    """Sum of the kernel's absolute values, smallest first. Source: Li et al. 2017, Pruning Filters
    for Efficient ConvNets, arXiv 1608.08710 (a control)."""
    found = {}
    for name in given.layers:
        kernel = given.model.conv(given.model.layer(name)).weight.detach().cpu().double()
        found[name] = kernel.abs().flatten(1).sum(dim=1).numpy()
    return found


def clp(given: OrderInput) -> Scores:
    """Upper bound of the channel's Lipschitz constant, largest first: the largest singular value of
    its kernel as a (c_in, kh * kw) matrix, times |gamma / sigma| of a batch norm that directly
    follows. A channel that a trigger must be able to drive has to be sensitive.
    Source: Zheng et al. 2022, Data-free Backdoor Removal based on Channel Lipschitzness (CLP),
    arXiv 2208.03111 (there called UCLC)."""
    layers = map(given.model.layer, given.layers)
    return {la.name: -lipschitz_bounds(given.model, la, la.batch_norm) for la in layers}


def lipschitz_bounds(model: PrunableModel, layer: ConvLayer, norm: str | None) -> np.ndarray:
    """(channels,) float64, the bounds of ``clp`` with the scale of the batch norm in module ``norm``."""
    kernel = model.conv(layer).weight.detach().cpu().double()
    largest = torch.linalg.matrix_norm(kernel.flatten(2), ord=2)
    bounds: np.ndarray = (largest * _scale(model, layer, norm)).numpy()
    return bounds


def _scale(model: PrunableModel, layer: ConvLayer, batch_norm: str | None) -> torch.Tensor:
    if batch_norm is None:
        return torch.ones(layer.channels, dtype=torch.float64)
    norm = model.graph.get_submodule(batch_norm)
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    sigma = (norm.running_var.detach().cpu().double() + norm.eps).sqrt()
    return (norm.weight.detach().cpu().double() / sigma).abs()
