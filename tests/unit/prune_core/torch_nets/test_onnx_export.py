"""Modules as ONNX: the same function, the names of the state_dict, and one line where torch cannot."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from prune_core.errors import InputError
from prune_core.model.from_module import from_module
from prune_core.model.model import from_source
from prune_core.torch_nets.adaptive_pool import adaptive_avg_pool2d
from prune_core.torch_nets.onnx_export import to_onnx
from prune_core.torch_nets.source import TorchSource

IMAGE = (3, 8, 8)


class Net(nn.Module):
    """A convolution, then whatever a test wants."""

    def __init__(self, then: Callable[[Net, torch.Tensor], object]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)
        self.then = then

    def forward(self, x: torch.Tensor) -> object:
        return self.then(self, self.conv(x))


def pooled(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.fc(x.mean((2, 3)))


def refusal(net: nn.Module, image: tuple[int, int, int] = IMAGE) -> str:
    with pytest.raises(InputError) as caught:
        from_source(TorchSource.of(net.eval(), image, "net.pth"), "net.pth")
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_constants_have_the_names_of_the_state_dict() -> None:
    """Those of equal values too, which the exporter would otherwise merge."""
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4),
        nn.Flatten(), nn.Linear(64, 3),
    ).eval()  # fmt: skip
    proto = to_onnx(net, IMAGE, "net")
    names = {tensor.name for tensor in proto.graph.initializer}
    assert names == {k for k in net.state_dict() if not k.endswith("num_batches_tracked")}
    assert [n.name for n in proto.graph.node if n.op_type == "Conv"] == ["0", "3"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    assert not any(node.doc_string for node in proto.graph.node)
    again = to_onnx(net, IMAGE, "net")
    assert proto.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)


def test_the_module_is_left_as_it_was() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 3)).eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    to_onnx(net, IMAGE, "net")
    assert not any(m.training for m in net.modules())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert functional.adaptive_avg_pool2d.__module__ != "prune_core.torch_nets.adaptive_pool"


def test_of_several_outputs_the_first_is_the_classes() -> None:
    source = TorchSource.of(Net(lambda net, x: (pooled(net, x), x)).eval(), IMAGE, "net")
    assert from_source(source, "net").check_images(IMAGE, "images") == 3


def test_a_softmax_at_the_end_is_no_difference() -> None:
    for last in (functional.softmax, functional.log_softmax):
        source = TorchSource.of(Net(lambda net, x, f=last: f(pooled(net, x), dim=1)).eval(), IMAGE, "net")
        from_source(source, "net")


def test_what_is_equal_at_the_edge_of_numbers_is_no_difference() -> None:
    """Probabilities that are exactly zero; logits of a black image that are not numbers."""

    def sharp(net: Net, x: torch.Tensor) -> torch.Tensor:
        return functional.softmax(1000 * pooled(net, x), dim=1)

    def per_image(net: Net, x: torch.Tensor) -> torch.Tensor:
        x = x - net.conv.bias[:, None, None]
        return pooled(net, x / x.abs().amax((1, 2, 3), keepdim=True))

    for then in (sharp, per_image):
        from_source(TorchSource.of(Net(then).eval(), IMAGE, "net"), "net")


@pytest.mark.parametrize(("given", "size"), [(1, 7), (2, 7), (5, 3), (8, 4), (3, 3), (7, 2)])
def test_adaptive_pooling_is_torchs(given: int, size: int) -> None:
    images = torch.rand(2, 3, given, given + 1)
    wanted = functional.adaptive_avg_pool2d(images, (size, None))
    assert torch.allclose(adaptive_avg_pool2d(images, (size, None)), wanted)
    assert torch.allclose(adaptive_avg_pool2d(images, size), functional.adaptive_avg_pool2d(images, size))


def test_adaptive_pooling_to_more_pixels_than_there_are() -> None:
    """VGG on images of 32 x 32 pools 1 x 1 to 7 x 7, which torch's exporter refuses."""
    pool = nn.AdaptiveAvgPool2d(3)
    net = nn.Sequential(nn.Conv2d(3, 4, 8), pool, nn.Flatten(), nn.Linear(36, 5)).eval()
    from_source(TorchSource.of(net, IMAGE, "net"), "net")


def branching(net: Net, x: torch.Tensor) -> torch.Tensor:
    logits = pooled(net, x)
    if x.abs().max() > 30:
        logits = -logits
    return logits


def branching_on_a_sum(net: Net, x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        x = x * 2
    return pooled(net, x)


def wrong_shape(net: Net, x: torch.Tensor) -> torch.Tensor:
    return net.fc(x.flatten(1))  # this line is named


@pytest.mark.parametrize(
    ("then", "expected"),
    [
        (wrong_shape, "in wrong_shape: RuntimeError"),
        (branching, "something else than its forward pass"),
        (branching_on_a_sum, "something else than its forward pass"),
        (lambda net, x: {"logits": pooled(net, x)}, "returns a dict; expected logits"),
        (lambda net, x: x, "expected (2, classes)"),
        (lambda net, x: functional.dropout(pooled(net, x), 0.9), "other logits each time"),
        (lambda net, x: torch.linalg.qr(x).Q.mean((2, 3)) @ net.fc.weight.t(), "cannot export its forward"),
    ],
)
def test_forward_passes_that_cannot_be_used(
    then: Callable[[Net, torch.Tensor], object], expected: str
) -> None:
    assert expected in refusal(Net(then))
    if then is wrong_shape:
        assert "test_onnx_export.py, line " in refusal(Net(then))


def test_images_that_the_module_does_not_take() -> None:
    assert "net.pth does not take images of (1, 8, 8)" in refusal(Net(pooled), (1, 8, 8))


class Chaotic(nn.Module):
    """It makes so much of little differences that float32 cannot tell it from another network: its pooling
    is exported as slices and means, which round in another way."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.wrong = wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.adaptive_avg_pool2d(self.conv(x), 5)
        if self.wrong and float(x.mean()) > 10:
            pooled = -pooled
        return self.last(torch.sin(3e6 * pooled).mean((2, 3)))


def test_a_network_that_rounding_alone_changes_is_compared_in_float64() -> None:
    torch.manual_seed(0)
    net = Chaotic()
    model = from_module(net, torch.rand(2, 3, 14, 14))
    images = torch.rand(4, 3, 14, 14)
    with torch.no_grad():
        apart = (model.logits(images) - net(images)).abs().max()
    assert apart > 1e-3  # what float32 would have made of it
    with pytest.raises(InputError, match="computes something else"):
        from_module(Chaotic(wrong=True), torch.rand(2, 3, 14, 14))


class Magnified(Chaotic):
    """As that, and of the difference between 0.1 and what float32 makes of it, 1.5e-9, too. ONNX holds
    the latter. Its output is a softmax."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.adaptive_avg_pool2d(self.conv(x), 5)
        if self.wrong and float(x.mean()) > 10:
            pooled = -pooled
        return self.last(torch.sin(1e9 * (pooled + 0.1)).mean((2, 3))).softmax(1)


def test_a_network_that_magnifies_the_rounding_of_a_constant() -> None:
    torch.manual_seed(0)
    from_module(Magnified(), torch.rand(2, 3, 14, 14))
    with pytest.raises(InputError, match="computes something else"):
        from_module(Magnified(wrong=True), torch.rand(2, 3, 14, 14))
