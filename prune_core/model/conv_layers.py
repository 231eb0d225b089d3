"""The convolutions of a torch graph: names, channels, and the batch norm behind each."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx, nn

from prune_core.errors import InputError


@dataclass(frozen=True)
class ConvLayer:
    """One convolution. ``name`` is the model's own (Keras layer, ONNX node); ``node`` names the fx
    node and its module; ``batch_norm`` the module of a batch norm that alone follows it."""

    name: str
    channels: int
    node: str
    onnx_index: int
    batch_norm: str | None = None


def conv_layers(
    graph: fx.GraphModule, numbers: dict[str, int], onnx_names: list[str]
) -> tuple[ConvLayer, ...]:
    """The 2-d convolutions of a graph in its order. ``numbers``: of each node, its place among the file's
    convolutions; ``onnx_names``: the names of those."""
    layers: list[ConvLayer] = []
    used: set[str] = set()
    convs = [n for n in graph.graph.nodes if n.op == "call_module" and _is_conv(graph, str(n.target))]
    for node in convs:
        index = numbers[str(node.target)]
        module = graph.get_submodule(str(node.target))
        conv = module[-1] if isinstance(module, nn.Sequential) else module
        if not isinstance(conv, nn.Conv2d):
            continue
        name = onnx_names[index]
        if not name or name in used or not name.isprintable() or ".." in name.split("/"):
            name = f"conv_{index + 1}"
        used.add(name)
        norm = None
        if len(node.users) == 1:
            (user,) = node.users
            if user.op == "call_module" and isinstance(graph.get_submodule(str(user.target)), nn.BatchNorm2d):
                norm = str(user.target)
        layers.append(ConvLayer(name, conv.out_channels, str(node.target), index, norm))
    return tuple(layers)


def check_channels(graph: fx.GraphModule, layer: ConvLayer, name: str) -> None:
    """Raises InputError where a bias or a batch normalization has not one value for each channel."""
    conv = graph.get_submodule(layer.node)
    parts = {"bias": getattr(conv[-1] if isinstance(conv, nn.Sequential) else conv, "bias", None)}
    if layer.batch_norm is not None:
        norm = graph.get_submodule(layer.batch_norm)
        assert isinstance(norm, nn.BatchNorm2d)
        if not norm.eps >= 0:  # NaN too
            raise InputError(
                f"{name}: {layer.name}: its batch normalisation has an epsilon of {norm.eps:g}; expected 0 "
                "or more"
            )
        parts |= {
            f"batch normalisation's {key}": value
            for key, value in norm.state_dict().items()
            if key != "num_batches_tracked"
        }
    for part, values in parts.items():
        if values is not None and tuple(values.shape) != (layer.channels,):
            raise InputError(
                f"{name}: {layer.name}: its {part} has shape {tuple(values.shape)}; expected "
                f"({layer.channels},)"
            )
        if values is not None and not values.is_floating_point():
            raise InputError(f"{name}: {layer.name}: its {part} holds {values.dtype}; expected floats")


def _is_conv(graph: fx.GraphModule, target: str) -> bool:
    module = graph.get_submodule(target)
    if isinstance(module, nn.Sequential):
        module = module[-1]
    return isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
