"""A copy of a network to train as its authors' code does: with batch norm on batch statistics.

Our graphs are in evaluation mode, and exporters fold batch norm into convolutions, where it is gone. ANP,
RNP and FT-SAM are made for networks in training mode: on running statistics they come to other
channels. So where batch norm was folded an identity one is put back behind the convolution, from the
statistics of clean images; in evaluation mode that is the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from prune_core.masks import ChannelMask
from prune_core.model.model import ConvLayer, PrunableModel
from prune_core.model.norms import norm_after
from prune_core.model.parameters import changed_weights, parameters_of, student_of
from prune_core.orders.passes import watched

EPSILON = 1e-5  # of an identity batch norm, as torch has it
MOMENTUM = 0.1  # of running statistics, as torch has it


class Neurons(nn.Module):
    """Batch norm, its centred output times ``mask``: (mask + shaken[0]) scale (x - mean) / deviation +
    (1 + shaken[1]) shift. Pruning a neuron is mask 0: what stays is the shift, a constant.

    ``batch_statistics``: mean and deviation are the batch's; ``track``: running ones follow them.
    """

    def __init__(
        self, scale: torch.Tensor, shift: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor, eps: float
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(scale.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(shift.detach().clone(), requires_grad=False)
        self.mean, self.variance, self.eps = mean.detach().clone(), variance.detach().clone(), eps
        self.mask = torch.ones_like(self.weight.data)
        self.shaken: tuple[torch.Tensor, torch.Tensor] | None = None
        self.batch_statistics, self.track = True, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        more, other = (0.0, 0.0) if self.shaken is None else self.shaken
        scale, shift = self.weight * (self.mask + more), self.bias * (1 + other)
        mean, variance = self.mean, self.variance
        if not self.batch_statistics:
            return functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, self.eps)
        if not self.track:
            return functional.batch_norm(x, None, None, scale, shift, True, MOMENTUM, self.eps)
        return functional.batch_norm(x, mean, variance, scale, shift, True, MOMENTUM, self.eps)


@dataclass(frozen=True, eq=False)
class Place:
    """Where neurons are: the module that they stand behind (or take the place of, a batch norm), and
    the convolutions whose channels these are."""

    module: str
    layers: tuple[ConvLayer, ...]
    is_norm: bool

    @property
    def own(self) -> bool:
        """The batch norm is its convolution's alone, or was folded into it: neurons are its channels."""
        return not self.is_norm or self.layers[0].batch_norm == self.module


def places_of(model: PrunableModel, names: Iterable[str]) -> list[Place]:
    """The places of layers' channels, in dataflow order of their convolutions. Convolutions whose outputs
    are added before one batch norm share it."""
    wanted, found = set(names), dict[str, Place]()
    for layer in model.layers:
        if layer.name not in wanted:
            continue
        norm = norm_after(model, layer)
        module = norm or layer.node
        before = found[module].layers if module in found else ()
        found[module] = Place(module, (*before, layer), norm is not None)
    return list(found.values())


class TrainingCopy:
    """A copy of a network whose places have ``Neurons``, on batch statistics until told otherwise; all
    other batch norms are on them too, unless ``weights`` are wanted, which cannot hold their statistics.
    ``model`` is left as found.

    Attributes:
        neurons: by place's module.
        means: (channels,) clean means of what the convolution puts out, where batch norm was put back.
    """

    def __init__(
        self, model: PrunableModel, places: Iterable[Place], pixels: torch.Tensor, others: bool = True
    ) -> None:
        self.model, self.student, self.places = model, student_of(model), list(places)
        self.parameters = parameters_of(self.student)
        self._convs = {layer.name: self.student.conv(layer) for layer in model.layers}
        self.neurons: dict[str, Neurons] = {}
        self.means: dict[str, np.ndarray] = {}
        folded = [place for place in self.places if not place.is_norm]
        clean = _statistics(model, folded, pixels)
        for place in self.places:
            module = self.student.graph.get_submodule(place.module)
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                held = (module.weight, module.bias, module.running_mean, module.running_var)
                neurons = Neurons(*held, module.eps)
                put: nn.Module = neurons
            else:
                mean, variance = clean[place.module]
                neurons = Neurons((variance + EPSILON).sqrt(), mean, mean, variance, EPSILON)
                put = nn.Sequential(module, neurons)
                self.means[place.module] = mean.cpu().numpy()
            self.neurons[place.module] = neurons
            self.student.graph.set_submodule(place.module, put)
        norms = (m for m in self.student.graph.modules() if isinstance(m, nn.BatchNorm2d))
        self._others = list(norms) if others else []
        self.on_batch_statistics(True)

    def on_batch_statistics(self, yes: bool, track: bool = False) -> None:
        for norm in self._others:
            norm.train(yes)
        for neurons in self.neurons.values():
            neurons.batch_statistics, neurons.track = yes, track

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) -> (n, classes), with gradients; n is at least 2."""
        logits: torch.Tensor = self.student.graph(self.student.arranged(pixels))
        return logits

    def trainable(self, written: bool = False) -> list[nn.Parameter]:
        """Kernels and biases of convolutions and dense layers, scales and shifts of batch norms; from now
        on with gradients. ``written``: only those that ``weights`` tells of; not a constant that several
        nodes of the file share."""
        found = []
        told = {id(p.tensor) for p in self.parameters}
        for module in self.student.graph.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear, nn.BatchNorm2d, Neurons)):
                mine = module.parameters(recurse=False)
                found += [p for p in mine if not written or isinstance(module, Neurons) or id(p) in told]
        for parameter in found:
            parameter.requires_grad_(True)
        return found

    def tensors_of(self, mask: ChannelMask) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """As ``PrunableModel.tensors_of``."""
        neurons = {p.layers[0].name: self.neurons[p.module] for p in self.places if p.own}
        for name, rows in mask.by_layer().items():
            conv = self._convs[name]
            yield conv.weight.data, rows
            if mask.keep_bias:
                continue
            if conv.bias is not None:
                yield conv.bias.data, rows
            if name in neurons:
                yield neurons[name].weight.data, rows
                yield neurons[name].bias.data, rows

    def weights(self) -> dict[str, np.ndarray]:
        """What evaluation of the copy comes to, as changed constants of the BadNet's: statistics that have
        moved are put into scale and shift, and batch norms put back are folded again."""
        before = {p.name: p.value() for p in parameters_of(self.model)}
        by_place = {(p.node, p.role): p for p in self.parameters}
        changed = changed_weights(self.parameters, before)
        for place in self.places:
            neurons = self.neurons[place.module]
            gain = (neurons.weight / (neurons.variance + neurons.eps).sqrt()).detach().cpu().numpy()
            shift, mean = neurons.bias.detach().cpu().numpy(), neurons.mean.cpu().numpy()
            if place.is_norm:
                norm = self.model.graph.get_submodule(place.module)
                assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
                deviation = (norm.running_var + norm.eps).sqrt().cpu().numpy()
                assert norm.running_mean is not None
                shift = shift + gain * (norm.running_mean.cpu().numpy() - mean)
                new = {(place.module, "scale"): gain * deviation, (place.module, "shift"): shift}
            else:
                kernel, bias = (by_place[place.module, role].value() for role in ("kernel", "bias"))
                new = {
                    (place.module, "kernel"): kernel * gain.reshape(-1, 1, 1, 1),
                    (place.module, "bias"): shift + gain * (bias - mean),
                }
            for key, value in new.items():
                name = by_place[key].name
                if not np.array_equal(value.astype(before[name].dtype), before[name]):
                    changed[name] = value.astype(before[name].dtype)
                else:
                    changed.pop(name, None)
        return changed


def foldable(model: PrunableModel, place: Place) -> bool:
    """Whether what is learned at a place can be written into the file's constants: there are such, and no
    other node shares them."""
    there = {p.role for p in parameters_of(model) if p.node == place.module}
    return there >= ({"scale", "shift"} if place.is_norm else {"kernel", "bias"})


def _statistics(
    model: PrunableModel, places: list[Place], pixels: torch.Tensor
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(mean, variance) of every channel over clean images and space, (channels,) float32 each."""
    if not places:
        return {}
    sums: dict[str, list[torch.Tensor]] = {}

    def add(key: str, out: torch.Tensor) -> None:
        values = out.double().transpose(0, 1).flatten(1)
        count = torch.full_like(values[:, 0], values.shape[1])
        part = [values.sum(1), values.square().sum(1), count]
        sums[key] = [a + b for a, b in zip(sums[key], part, strict=True)] if key in sums else part

    with watched(model, {p.module: p.module for p in places}, add):
        for part in pixels.split(256):
            model.logits(part)
    found = {}
    for key, (first, second, count) in sums.items():
        mean = first / count
        variance = (second / count - mean.square()).clamp_min(0)
        found[key] = (mean.float().clone(), variance.float().clone())
    return found
