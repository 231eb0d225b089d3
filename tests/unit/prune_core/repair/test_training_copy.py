"""A copy to train: batch norm on batch statistics, put back where it was folded, folded again at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hand_nets import random_split
from preactivation_net import preactivation
from small_nets import small_badnet, small_split

from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of
from prune_core.repair.augment import cropped
from prune_core.repair.training_copy import TrainingCopy, places_of


def copy_of(model: PrunableModel, pixels: torch.Tensor) -> TrainingCopy:
    return TrainingCopy(model, places_of(model, [layer.name for layer in model.layers]), pixels)


def test_in_evaluation_it_is_the_network(tmp_path: Path) -> None:
    folded = small_badnet(tmp_path), torch.from_numpy(small_split(1).clean.pixels)
    normed = preactivation()[1], torch.from_numpy(random_split((2, 8, 8), 3).clean.pixels)
    for model, pixels in (folded, normed):
        copy = copy_of(model, pixels)
        copy.on_batch_statistics(False)
        torch.testing.assert_close(copy.logits(pixels), model.logits(pixels), rtol=1e-4, atol=1e-4)
        before = {p.name: p.value() for p in parameters_of(model)}
        assert all(np.allclose(v, before[k], rtol=1e-4, atol=1e-5) for k, v in copy.weights().items())


def test_in_training_it_is_torchs_own_module() -> None:
    """Twice, statistics followed, then evaluated: as the module that was exported."""
    net, model = preactivation()
    pixels = torch.from_numpy(random_split((2, 8, 8), 3).clean.pixels)
    copy = copy_of(model, pixels)
    copy.on_batch_statistics(True, track=True)
    net.train()
    for part in (pixels[:20], pixels[20:]):
        torch.testing.assert_close(copy.logits(part), net(part), rtol=1e-4, atol=1e-4)
    net.eval()
    expected = net(pixels).detach()
    copy.on_batch_statistics(False)
    torch.testing.assert_close(copy.logits(pixels), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        model.with_weights(copy.weights()).logits(pixels), expected, rtol=1e-4, atol=1e-4
    )


def test_what_is_trained_is_folded_again(tmp_path: Path) -> None:
    """Where the file has no batch norm, its kernel and bias hold what was learned."""
    model, pixels = small_badnet(tmp_path), torch.from_numpy(small_split(1).clean.pixels)
    copy = copy_of(model, pixels)
    optimizer = torch.optim.SGD(copy.trainable(), lr=0.05)
    copy.on_batch_statistics(True, track=True)
    copy.logits(pixels).square().mean().backward()
    optimizer.step()
    copy.on_batch_statistics(False)
    changed = copy.weights()
    assert {"c1/kernel", "c1/bias"} <= changed.keys()
    torch.testing.assert_close(
        model.with_weights(changed).logits(pixels), copy.logits(pixels).detach(), rtol=1e-3, atol=1e-3
    )
    assert not any(p.requires_grad for p in model.graph.parameters())


def test_the_shift_of_a_masked_neuron_stays(tmp_path: Path) -> None:
    """(mask + d) scale normalised + (1 + x) shift, on batch statistics: by hand."""
    model, pixels = small_badnet(tmp_path), torch.from_numpy(small_split(1).clean.pixels)
    copy = copy_of(model, pixels)
    neurons = copy.neurons[model.layers[0].node]
    neurons.mask = torch.tensor([0.0, 0.5, 1.0])
    neurons.shaken = (torch.full((3,), 0.1), torch.tensor([0.2, 0.0, -0.2]))
    x = torch.randn(7, 3, 4, 4)
    mean, deviation = x.mean((0, 2, 3)), (x.var((0, 2, 3), unbiased=False) + neurons.eps).sqrt()
    shape = (1, 3, 1, 1)
    scale = (neurons.weight * (neurons.mask + 0.1)).reshape(shape)
    shift = (neurons.bias * torch.tensor([1.2, 1.0, 0.8])).reshape(shape)
    expected = scale * (x - mean.reshape(shape)) / deviation.reshape(shape) + shift
    torch.testing.assert_close(neurons(x), expected, rtol=1e-4, atol=1e-5)


def test_crops_are_of_the_image_padded_with_black() -> None:
    """Every copy is a window of the padded image, or of it mirrored; the same lots, the same copies."""
    pixels = torch.rand(6, 2, 5, 7) + 1
    seen = cropped(pixels, torch.Generator().manual_seed(3), pad=2)
    assert torch.equal(seen, cropped(pixels, torch.Generator().manual_seed(3), pad=2))
    for copy, image in zip(seen, pixels, strict=True):
        padded = torch.nn.functional.pad(image, (2,) * 4)
        windows = [padded[:, y : y + 5, x : x + 7] for y in range(5) for x in range(5)]
        assert any(torch.equal(copy, w) or torch.equal(copy, w.flip(2)) for w in windows)
