"""Scores from what channels say on images. a_k(x): channel k's activation on image x."""

from __future__ import annotations

import numpy as np
import torch

from prune_core.data.images import LabeledImages
from prune_core.orders.given import OrderInput, Scores
from prune_core.orders.passes import over_activations

TINY = 1e-12  # keeps a silent channel (no variance) from dividing by zero


def activation(given: OrderInput) -> Scores:
    """Mean of a_k on clean images, pooled over space, least active first: what clean images do not
    use may serve the backdoor. Source: Liu et al. 2018, Fine-Pruning, arXiv 1805.12185."""
    return {name: pooled.mean(axis=0) for name, pooled in _pooled(given, given.clean).items()}


def activation_gap(given: OrderInput) -> Scores:
    """(mean_b - mean_c) / sqrt((var_b + var_c) / 2) of a_k pooled over space, on poisoned (b) and
    clean (c) images, largest first: channels that the trigger wakes, in units of their own
    spread. The images need not be pairs. After Wang et al., Neural Cleanse, S&P 2019, which ranks
    by the plain gap."""
    clean, poisoned = _pooled(given, given.clean), _pooled(given, given.attacked())
    found = {}
    for name in given.layers:
        c, b = clean[name], poisoned[name]
        spread = np.sqrt((b.var(axis=0) + c.var(axis=0)) / 2)
        found[name] = -(b.mean(axis=0) - c.mean(axis=0)) / (spread + TINY)
    return found


def tac(given: OrderInput) -> Scores:
    """Trigger-activated change: mean over pairs of the Euclidean norm of a_k(x) - a_k(trigger(x)),
    not pooled, largest first. Source: Zheng et al. 2022, arXiv 2208.03111."""
    clean, poisoned = given.pairs()
    model, layers = given.model, given.layers
    total = {n: np.zeros(model.layer(n).channels) for n in layers}
    for start in range(0, len(clean), 256):
        rows = np.arange(start, min(start + 256, len(clean)))
        maps = {}

        def keep(name: str, out: torch.Tensor) -> None:
            maps[name] = out.clone()  # noqa: B023

        def add(name: str, out: torch.Tensor) -> None:
            apart = (maps[name] - out).flatten(2).double()  # noqa: B023
            total[name] += apart.norm(dim=2).sum(dim=0).cpu().numpy()

        over_activations(model, layers, clean.keeping(rows), keep)
        over_activations(model, layers, poisoned.keeping(rows), add)
    return {name: -summed / len(clean) for name, summed in total.items()}


def bnp(given: OrderInput) -> Scores:
    """KL divergence of the Gaussian of channel k's pre-activations (over images and space) on
    poisoned images from that on clean images, largest first:
    log(s_c / s_b) + (s_b^2 + (m_b - m_c)^2) / (2 s_c^2) - 1/2. Source: Zheng et al., NeurIPS 2022,
    Pre-activation Distributions Expose Backdoor Neurons; there batch norm's running statistics
    stand for the training mix, here poisoned images are at hand."""
    clean, poisoned = _gaussians(given, given.clean), _gaussians(given, given.attacked())
    found = {}
    for name in given.layers:
        (m_c, v_c), (m_b, v_b) = clean[name], poisoned[name]
        v_c, v_b = v_c + TINY, v_b + TINY
        found[name] = -(0.5 * np.log(v_c / v_b) + (v_b + (m_b - m_c) ** 2) / (2 * v_c) - 0.5)
    return found


def _pooled(given: OrderInput, images: LabeledImages) -> dict[str, np.ndarray]:
    """{layer: (images, channels)} activations, mean over space, float64."""
    parts: dict[str, list[np.ndarray]] = {name: [] for name in given.layers}
    over_activations(
        given.model,
        given.layers,
        images,
        lambda name, out: parts[name].append(out.double().mean(dim=(2, 3)).cpu().numpy()),
    )
    return {name: np.concatenate(found) for name, found in parts.items()}


def _gaussians(given: OrderInput, images: LabeledImages) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{layer: (mean, variance) of pre-activations, (channels,) each}."""
    sums = {n: np.zeros((3, given.model.layer(n).channels)) for n in given.layers}

    def add(name: str, out: torch.Tensor) -> None:
        values = out.double().transpose(0, 1).flatten(1)
        sums[name][0] += values.sum(dim=1).cpu().numpy()
        sums[name][1] += values.square().sum(dim=1).cpu().numpy()
        sums[name][2] += values.shape[1]

    over_activations(given.model, given.layers, images, add, before_relu=True)
    found = {}
    for name, (first, second, count) in sums.items():
        mean = first / count
        found[name] = (mean, np.maximum(second / count - mean**2, 0.0))
    return found
