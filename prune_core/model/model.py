"""A network whose convolution channels can be pruned: ONNX, made a torch graph by onnx2torch."""

from __future__ import annotations

import copy
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from prune_core.errors import InputError
from prune_core.files.constants import Weights, constants, replaced, weights_digest
from prune_core.files.onnx_changed import was_read_otherwise
from prune_core.files.onnx_normalize import normalized, tails_were_taken_in
from prune_core.files.onnx_read import first_line
from prune_core.files.onnx_sizes import check_sizes
from prune_core.masks import ChannelMask
from prune_core.model.conv_layers import ConvLayer, check_channels, conv_layers
from prune_core.model.convert import to_torch
from prune_core.model.memory import out_of_memory, typed
from prune_core.model.precision import full_float32
from prune_core.reader import client as contained
from prune_core.torch_files.read import SUFFIXES as TORCH_SUFFIXES
from prune_core.torch_nets.source import TorchSource, source_of_file

_log = logging.getLogger(__name__)

SOFTMAXES = ("Softmax", "LogSoftmax", "OnnxSoftmaxV1V11")  # classes, as onnx2torch names them


@dataclass(frozen=True, eq=False)
class PrunableModel:
    """A network in evaluation mode, with its convolutions in dataflow order.

    Attributes:
        proto: the ONNX form as it was read; what an exported GoodNet is made from.
        graph: the torch form, (n, C, H, W) float32 -> (n, classes) logits. A softmax at the very
            end is left off: it changes no decision, and margins need logits.
        layers: 2-d convolutions, first to last in the graph's order of computation.
        image_shape: (C, H, W) of an input image; an entry is None where the file leaves it open.
        channels_last: the graph wants (n, H, W, C); ``logits`` takes care of it.
        digest: what the network is: SHA-256 of its file, of the weights that lie in files beside it,
            and of ``weights`` where there are any.
        weights: what has been changed since, by name of the ONNX constant; see ``with_weights``.
        file_digest: ``digest`` of the file that it was made from; None where that is ``digest``.
        source: the PyTorch module that it was made from; None of another file.
    """

    proto: onnx.ModelProto
    graph: fx.GraphModule
    layers: tuple[ConvLayer, ...]
    image_shape: tuple[int | None, int | None, int | None]
    channels_last: bool
    digest: str
    name: str
    weights: Weights = field(default_factory=dict)
    file_digest: str | None = None
    source: TorchSource | None = None

    @property
    def badnet_digest(self) -> str:
        """``digest`` of the file, whatever has been changed since."""
        return self.file_digest or self.digest

    def with_weights(self, weights: Weights) -> PrunableModel:
        """This network with some constants changed (by ONNX name), in ``proto`` and ``graph`` alike,
        so that all that works on a BadNet works on it. Changes add up: of a network that has some
        already, the rest stay. Raises InputError for a constant that is not there or does not fit.
        """
        if not weights:
            return self
        proto = replaced(self.proto, weights, self.name)
        there = constants(proto.graph)
        changed = {key: np.array(numpy_helper.to_array(there[key])) for key in {**self.weights, **weights}}
        digest = hashlib.sha256(f"{self.badnet_digest} {weights_digest(changed)}".encode()).hexdigest()
        made = build_model(proto, digest, self.name)
        made.graph.to(self.device)
        return replace(made, weights=changed, file_digest=self.badnet_digest, source=self.source)

    def at(self, image: tuple[int, int, int]) -> PrunableModel:
        """This network for images of (C, H, W): itself, or where it came from a PyTorch module and
        takes others so far, made anew. Raises InputError."""
        if self.source is None or self.weights or image == self.source.image:
            return self
        return from_source(self.source.at(image, self.name), self.name)

    @cached_property
    def by_name(self) -> dict[str, ConvLayer]:
        return {layer.name: layer for layer in self.layers}

    def layer(self, name: str) -> ConvLayer:
        """The layer of that name. Raises InputError that lists the names there are."""
        if name not in self.by_name:
            raise InputError(f"{self.name}: no convolution named {name!r}; it has {', '.join(self.by_name)}")
        return self.by_name[name]

    @property
    def device(self) -> torch.device:
        return next(self.graph.parameters()).device

    def conv(self, layer: ConvLayer) -> nn.Conv2d:
        module = self.graph.get_submodule(layer.node)
        if isinstance(module, nn.Sequential):  # onnx2torch puts one-sided padding before the conv
            module = module[-1]
        assert isinstance(module, nn.Conv2d)
        return module

    def arranged(self, images: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) images in the order of axes that the graph wants.

        In memory each pixel's channels lie side by side, whatever the order of axes: convolutions
        and pools over few channels then take about half as long on a CPU.
        """
        if self.channels_last:
            return images.permute(0, 2, 3, 1).contiguous()
        return images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def logits(self, images: torch.Tensor) -> torch.Tensor:
        """(n, C, H, W) float -> (n, classes) logits, under the masks now applied."""
        with self.taking(images.shape[1:]), full_float32():
            return self.graph(self.arranged(images))

    @contextmanager
    def taking(self, shape: Sequence[int]) -> Iterator[None]:
        """Where the graph runs on images of (C, H, W): a file can hold one that fails on some of them,
        in any way, which becomes an InputError. Memory that is not there is the machine's."""
        try:
            yield
        except Exception as error:
            if out_of_memory(typed(error)):
                raise
            raise InputError(
                f"{self.name} does not take images of {tuple(shape)}: {first_line(error)}"
            ) from None

    def check_images(self, shape: tuple[int, int, int], name: str) -> int:
        """Run one black image of that shape; the number of classes.

        Raises InputError when the network does not take such images, with what it wants.
        """
        wanted = self.image_shape
        fits = all(w is None or w == s for w, s in zip(wanted, shape, strict=True))
        says = "(" + ", ".join("any" if w is None else str(w) for w in wanted) + ")"
        if not fits:
            hint = ""
            if tuple(wanted) == (shape[2], shape[0], shape[1]):
                hint = "; the images seem to be channels last, store them channels first"
            raise InputError(
                f"{name}: images are {shape}, but {self.name} takes (channels, height, width) = {says}{hint}"
            )
        if None in wanted:  # how large values become was not known when the file was read
            image = (*shape[1:], shape[0]) if self.channels_last else shape
            check_sizes(normalized(self.proto, self.name), self.name, image)
        try:
            output = self.logits(torch.zeros((2, *shape), device=self.device))
        except (RuntimeError, InputError) as error:
            raise InputError(f"{name}: {first_line(error)}") from None
        if not isinstance(output, torch.Tensor):
            raise InputError(f"{name}: {self.name} does not return logits but a {type(output).__name__}")
        if output.ndim == 1 and not output.is_floating_point():
            raise InputError(
                f"{self.name}: its output is the number of a class; expected (2, classes) for 2 images: "
                "export it without the ArgMax at its end"
            )
        if output.ndim != 2 or output.shape[0] != 2 or output.shape[1] < 2:
            raise InputError(
                f"{self.name}: its output has shape {tuple(output.shape)} for 2 images; "
                "expected (2, classes): a classifier"
            )
        return int(output.shape[1])

    @contextmanager
    def pruned(self, mask: ChannelMask) -> Iterator[PrunableModel]:
        """The network with a mask's channels pruned; as it was again on leaving, errors included.

        Raises InputError for a layer or channel that is not there.
        """
        undo: list[tuple[torch.Tensor, torch.Tensor]] = []
        try:
            with torch.inference_mode():
                for tensor, rows in self.tensors_of(mask):
                    undo.append((tensor, tensor.clone()))
                    tensor[rows] = 0
            yield self
        finally:
            with torch.inference_mode():
                for tensor, before in reversed(undo):
                    tensor.copy_(before)

    def tensors_of(self, mask: ChannelMask) -> Iterator[tuple[torch.Tensor, list[int]]]:
        """The parameter tensors that a mask sets to zero, and the rows of each."""
        for name, rows in mask.by_layer().items():
            layer = self.layer(name)
            if rows[-1] >= layer.channels or rows[0] < 0:
                raise InputError(
                    f"{self.name}: {name} has channels 0 to {layer.channels - 1}, not "
                    f"{rows[0] if rows[0] < 0 else rows[-1]}"
                )
            conv = self.conv(layer)
            yield conv.weight.data, rows
            if mask.keep_bias:
                continue
            if conv.bias is not None:
                yield conv.bias.data, rows
            if layer.batch_norm is not None:
                norm = self.graph.get_submodule(layer.batch_norm)
                yield norm.weight.data, rows  # type: ignore[misc]
                yield norm.bias.data, rows  # type: ignore[misc]

    def kernels(self) -> dict[str, np.ndarray]:
        """``{layer: (channels, in, kh, kw)}`` copies of all kernels."""
        return {la.name: self.conv(la).weight.detach().cpu().numpy().copy() for la in self.layers}


def load_model(
    path: str | Path,
    architecture: str | None = None,
    *,
    architecture_args: Mapping[str, Any] | None = None,
    image: tuple[int, int, int] | None = None,
) -> PrunableModel:
    """Read a BadNet or GoodNet: Keras ``.h5`` or ``.keras``, ONNX, or PyTorch weights (``.pth``, ``.pt``,
    ``.safetensors``) in an architecture that you name. Nothing in the file is executed.

    Args:
        path: the file.
        architecture: of PyTorch weights, "torchvision:NAME", "timm:NAME", "backdoorbench:NAME",
            "abl:wrn-16-1" or "package.module:function", your own function that returns the module (it is
            imported and called). Of a weights-only ``.h5``, "deepid", unless its layers are those: that is
            then assumed, and logged.
        architecture_args: keyword arguments for it, as ``{"num_classes": 10}``.
        image: (C, H, W) of the images, for PyTorch weights; None for the architecture's usual size.
            ``goodnet.prune`` adapts it to the images in any case.

    Raises:
        InputError: names the file, the layer, key or operator at fault and what would be right.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a model (.h5, .keras, .onnx, .pth or .safetensors)")
    if path.suffix.lower() in TORCH_SUFFIXES:
        return from_source(source_of_file(path, architecture, architecture_args, image), path.name)
    proto, digest = _read(path, architecture)
    return build_model(proto, digest, path.name)


def from_source(source: TorchSource, name: str) -> PrunableModel:
    """The network of a PyTorch module. Raises InputError where its ONNX form does not compute what the
    module does."""
    model = replace(build_model(source.proto, source.digest, name), source=source)

    def exact() -> Callable[[torch.Tensor], torch.Tensor]:
        return replace(model, graph=copy.deepcopy(model.graph).double()).logits

    source.check_same(model.logits, exact, name)
    return model


def file_digest(path: Path) -> str:
    """``PrunableModel.digest`` of the network in a file. Raises InputError."""
    digest, _ = contained.read("digest", path)
    return str(digest)


def read_proto(path: Path, architecture: str | None = None) -> onnx.ModelProto:
    """The ONNX form of a model file, as the reader process finds it (``model_files.proto_of``)."""
    return _read(path, architecture)[0]


def _read(path: Path, architecture: str | None) -> tuple[onnx.ModelProto, str]:
    """The ONNX form of a model file, and the digest of all bytes that make it."""
    said, (data,) = contained.read("model", path, architecture=architecture)
    if said["assumed"] is not None:
        _say_assumed(path.name, said["assumed"])
    proto = onnx.ModelProto.FromString(data.tobytes())
    if len(proto.graph.output) > 1:
        _say_first(path.name, len(proto.graph.output), first_line(ValueError(proto.graph.output[0].name)))
    return proto, str(said["digest"])


@functools.cache
def _say_first(name: str, outputs: int, first: str) -> None:
    _log.warning("%s: %d outputs; the first, %r, is taken for the classes", name, outputs, first)


@functools.cache  # once for each file, however often it is read
def _say_assumed(name: str, architecture: str) -> None:
    _log.warning("%s: weights only, with the layers of %s; that is assumed", name, architecture)


def build_model(proto: onnx.ModelProto, digest: str, name: str) -> PrunableModel:
    """From an ONNX model to a PrunableModel. Raises InputError as ``load_model`` does."""
    model = normalized(proto, name)
    graph = to_torch(model, name).float().eval().requires_grad_(False)
    _drop_final_softmax(graph)
    names = [n.name for n in proto.graph.node if n.op_type == "Conv"]
    # A Conv's number in the file, of each of those that are in the graph.
    layers = conv_layers(
        graph, {n.name: int(n.doc_string) for n in model.graph.node if n.op_type == "Conv"}, names
    )
    for layer in layers:
        check_channels(graph, layer, name)
    if not layers:
        raise InputError(f"{name}: no convolution layers, so there are no channels to prune")
    shape, channels_last = _image_shape(model, name)
    file_digest = None
    # Version 0.1 left a bias in a node behind a convolution where it was, and read some operators as others:
    # the same mask was another network, so no record or cached count of it may answer for this one.
    if again := " ".join(
        word
        for word, is_so in (
            ("tails", tails_were_taken_in(model)),
            ("operators", was_read_otherwise(proto)),
        )
        if is_so
    ):
        file_digest, digest = digest, hashlib.sha256(f"{again} {digest}".encode()).hexdigest()
    return PrunableModel(proto, graph, layers, shape, channels_last, digest, name, file_digest=file_digest)


def _drop_final_softmax(graph: fx.GraphModule) -> None:
    output = next(n for n in graph.graph.nodes if n.op == "output")
    last = output.args[0]
    if not isinstance(last, fx.Node) or last.op != "call_module":
        return
    if type(graph.get_submodule(str(last.target))).__name__ in SOFTMAXES:
        output.args = (last.args[0],)
        graph.graph.erase_node(last)
        graph.recompile()


def _image_shape(model: onnx.ModelProto, name: str) -> tuple[tuple[int | None, int | None, int | None], bool]:
    initializers = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in initializers]
    if len(inputs) != 1:
        raise InputError(f"{name}: it has {len(inputs)} inputs; expected one, the images")
    dims = inputs[0].type.tensor_type.shape.dim
    if len(dims) != 4:
        raise InputError(f"{name}: its input has rank {len(dims)}; expected 4, (n, C, H, W)")
    shape = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in dims[1:]]
    # An input of few channels at the end and many rows in front is channels last (tf2onnx).
    last = shape[2] in (1, 3, 4) and shape[0] not in (1, 3, 4)
    if last:
        shape = [shape[2], shape[0], shape[1]]
    return (shape[0], shape[1], shape[2]), last
