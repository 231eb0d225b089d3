"""A PyTorch module -> ONNX, its constants under the names of the state_dict.

By torch's exporter of traced modules: it needs no package beside torch, and leaves batch norm where it is.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from prune_core.errors import InputError
from prune_core.files.onnx_read import first_line
from prune_core.torch_nets.adaptive_pool import exportable_pools
from prune_core.torch_nets.places import place_of, said_with_place, users_own, working_folder_importable

OPSET = 17
_INNER = "goodnet_net"


class _Whole(nn.Module):
    """The module, and of several outputs the first.

    It says of itself that it trains, though nothing in it does: only then the exporter leaves alone
    constants of equal values. Else two batch norms of a new network would share one.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.add_module(_INNER, module)
        self.train(False)
        self.training = True

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = getattr(self, _INNER)(images)
        return found[0] if isinstance(found, (tuple, list)) else found


def to_onnx(module: nn.Module, image: tuple[int, int, int], name: str) -> onnx.ModelProto:
    """The ONNX form of a module in evaluation mode for images of (C, H, W), batches of any size.

    Initializers have the names of the module's state_dict, and each convolution that of its module, as
    ``layer1.0.conv1``. Raises InputError, with the place in the user's code where there is one.
    """
    whole = _Whole(module)
    example = torch.rand((2, *image), generator=torch.Generator().manual_seed(0))
    with working_folder_importable(), quiet() as seen, exportable_pools(), attention_in_parts():
        check_forward(whole, example, name)
        written: Any = io.BytesIO()
        try:
            torch.onnx.export(
                whole,
                (example,),
                written,
                dynamo=False,
                opset_version=OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,
                do_constant_folding=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_axes={"images": {0: "n"}, "logits": {0: "n"}},
            )
        except Exception as error:
            place = place_of(error) or _warned(seen)
            at = f"{place}: " if place else ""
            raise InputError(
                f"{name}: torch cannot export its forward pass to ONNX: {at}{type(error).__name__}: "
                f"{first_line(error)}"
            ) from None
    try:
        proto = onnx.ModelProto.FromString(written.getvalue())
    except Exception:
        raise InputError(f"{name}: torch wrote an ONNX form that cannot be read (over 2 GiB?)") from None
    _named_as_the_module(proto)
    return proto


@contextmanager
def attention_in_parts() -> Iterator[None]:
    """The exporter does not know attention as one operator, which torch takes in evaluation mode."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def check_forward(module: nn.Module, example: torch.Tensor, name: str) -> None:
    """Raises InputError where a forward pass fails, gives no logits, or not the same ones twice."""
    try:
        with torch.no_grad():
            once, again = module(example), module(example)
    except Exception as error:
        raise InputError(
            f"{name} does not take images of {tuple(example.shape[1:])}: {said_with_place(error)}"
        ) from None
    if not isinstance(once, torch.Tensor):
        raise InputError(
            f"{name}: its forward pass returns a {type(once).__name__}; expected logits, a tensor"
        )
    if once.ndim != 2 or len(once) != len(example):
        raise InputError(
            f"{name}: its output has shape {tuple(once.shape)} for {len(example)} images; expected "
            f"({len(example)}, classes): a classifier"
        )
    if not torch.allclose(once, again, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise InputError(
            f"{name}: its forward pass gives other logits each time, in evaluation mode too (dropout by "
            "torch.nn.functional without training=self.training?); expected a function of the images alone"
        )


@contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """What the exporter warns of goes into the list, and nothing to the terminal."""
    before = logging.root.manager.disable
    with warnings.catch_warnings(record=True) as seen, contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("always")
        logging.disable(max(before, logging.WARNING))
        try:
            yield seen
        finally:
            logging.disable(before)


def _warned(seen: list[warnings.WarningMessage]) -> str | None:
    """The place in the user's code that the tracer warned of."""
    for warning in seen:
        if issubclass(warning.category, torch.jit.TracerWarning) and users_own(warning.filename):
            return f"{Path(warning.filename).name}, line {warning.lineno}"
    return None


def _named_as_the_module(proto: onnx.ModelProto) -> None:
    graph, front = proto.graph, f"{_INNER}."

    def renamed(name: str) -> str:
        return name.removeprefix(front) if name.startswith(front) else name.replace(f"/{_INNER}/", "/")

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        node.name, node.doc_string = renamed(node.name), ""
        for values in (node.input, node.output):
            for position, value in enumerate(values):
                values[position] = renamed(value)
    del graph.value_info[:]
    graph.name = "main"
    proto.producer_version = ""
    held = {tensor.name for tensor in graph.initializer}
    convs: list[Any] = [n for n in graph.node if n.op_type == "Conv" and len(n.input) > 1]
    kernels = [n.input[1] for n in convs]
    for node in convs:
        kernel = node.input[1]
        if kernel in held and kernel.endswith(".weight") and kernels.count(kernel) == 1:
            node.name = kernel.removesuffix(".weight")
