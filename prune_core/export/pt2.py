"""A network as a program of `torch.export` (`.pt2`): torch loads and runs it alone."""

from __future__ import annotations

import copy
import io
import logging
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import fx, nn

from prune_core.compaction.flow import BATCH, read_flow
from prune_core.model.model import PrunableModel, build_model

# What torch says on the way is no news: whether it could export is told.
_LOGGERS = ("torch._dynamo", "torch._export", "torch.export", "torch._subclasses.fake_tensor")
MAX_NODES = 3000  # of torch; exporting takes milliseconds for each


class NotExported(Exception):
    """The network cannot be exported; why, in one line."""


class _Reshaped(nn.Module):
    """To sizes that are known; 0: as the input has it."""

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(self.sizes)])


class _Sliced(nn.Module):
    """Between numbers that are known; by axis, start, stop and step."""

    def __init__(self, cuts: Sequence[tuple[int, int, int, int]]) -> None:
        super().__init__()
        self.cuts = tuple(cuts)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for axis, start, stop, step in self.cuts:
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, stop, step),)]
        return x


class _Program(nn.Module):
    """(n, C, H, W) float32 -> (n, classes) logits, whatever order of axes the graph takes."""

    def __init__(self, graph: fx.GraphModule, channels_last: bool) -> None:
        super().__init__()
        self.net, self.channels_last = graph, channels_last

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.net(images.permute(0, 2, 3, 1) if self.channels_last else images)
        return logits


def exported(proto: onnx.ModelProto, image: tuple[int, int, int]) -> bytes:
    """The bytes of a `.pt2` whose ``torch.export.load(path).module()`` takes (n, C, H, W) float32 images,
    for any n, and gives (n, classes) logits; a softmax at the very end of ``proto`` is left off.

    Args:
        image: (C, H, W), the only size of images that it takes.

    Raises:
        NotExported: torch cannot, or it would take too long.
    """
    model = build_model(_without_shape_questions(proto, image), "", "the network")
    graph = _with_fixed_shapes(model)
    if (nodes := len(graph.graph.nodes)) > MAX_NODES:
        raise NotExported(f"it has {nodes} operations; at most {MAX_NODES}")
    program = _Program(graph, model.channels_last).eval()
    stream = io.BytesIO()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            batch = torch.export.Dim("n", min=1)
            # Three images: a batch of one or two could be taken for a size of the network's.
            made = torch.export.export(program, (torch.zeros((3, *image)),), dynamic_shapes=({0: batch},))
            torch.export.save(made, stream)
    except Exception as error:  # dynamo and sympy raise of all kinds
        text = str(error).strip().splitlines() or [""]
        raise NotExported(f"torch.export says {type(error).__name__}: {text[0][:200]}") from None
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    return stream.getvalue()


def _without_shape_questions(proto: onnx.ModelProto, image: tuple[int, int, int]) -> onnx.ModelProto:
    """A copy whose Reshape nodes have constant targets, where what they give is known for such images."""
    copied = onnx.ModelProto()
    copied.CopyFrom(proto)
    held = {t.name for t in copied.graph.initializer}
    dims = next(i for i in copied.graph.input if i.name not in held).type.tensor_type.shape.dim
    channels, height, width = image
    last = (
        dims[1].dim_value in (0, height) and dims[-1].dim_value == channels and dims[1].dim_value != channels
    )
    flow = read_flow(copied, (height, width, channels) if last else image)
    for number, node in enumerate(copied.graph.node):
        shape = flow.shapes.get(node.output[0]) if node.op_type == "Reshape" else None
        if not shape or shape[0] % BATCH:
            continue
        name = f"goodnet_target_{number}"
        target = np.array([0 if shape[0] == BATCH else -1, *shape[1:]], np.int64)
        copied.graph.initializer.append(numpy_helper.from_array(target, name))
        node.input[1] = name
        kept = [a for a in node.attribute if a.name != "allowzero"]
        del node.attribute[:]
        node.attribute.extend(kept)
    _drop_unused(copied.graph)
    return copied


def _drop_unused(graph: onnx.GraphProto) -> None:
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            wanted |= set(node.input)
    del graph.node[:]
    graph.node.extend(kept[::-1])


def _with_fixed_shapes(model: PrunableModel) -> fx.GraphModule:
    """A copy of the graph in which targets of Reshape and borders of Slice are numbers of Python, since
    torch.export does not look into tensors."""
    graph = copy.deepcopy(model.graph).float().cpu()
    for node in list(graph.graph.nodes):
        kind = type(graph.get_submodule(str(node.target))).__name__ if node.op == "call_module" else ""
        if kind not in ("OnnxReshape", "OnnxSlice") or node.kwargs:
            continue
        if not all(isinstance(arg, fx.Node) and arg.op == "get_attr" for arg in node.args[1:]):
            continue
        held = []
        for arg in node.args[1:]:
            place, _, name = str(arg.target).rpartition(".")
            held.append(getattr(graph.get_submodule(place), name).flatten().tolist())
        module: nn.Module
        if kind == "OnnxReshape" and len(held) == 1:
            module = _Reshaped(held[0])
        elif kind == "OnnxSlice" and len(held) >= 2 and all(step > 0 for step in (held[3:] or [[1]])[0]):
            axes = held[2] if len(held) > 2 else list(range(len(held[0])))
            steps = held[3] if len(held) > 3 else [1] * len(axes)
            module = _Sliced(list(zip(axes, held[0], held[1], steps, strict=True)))
        else:
            continue
        graph.set_submodule(str(node.target), module)
        node.args = (node.args[0],)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph
