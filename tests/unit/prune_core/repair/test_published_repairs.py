"""Published repairs, I-BAU and FT-SAM: what they see, what they leave, and their steps by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hand_nets import random_split
from preactivation_net import preactivation
from small_nets import small_badnet, small_split
from torch.nn import functional

from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.files.constants import weights_digest
from prune_core.masks import ChannelMask
from prune_core.methods import CLEAN, KINDS, method_of, repaired
from prune_core.model.model import PrunableModel, build_model
from prune_core.model.parameters import parameters_of
from prune_core.repair.ft_sam import FtSamSettings, ft_sam
from prune_core.repair.i_bau import IBauSettings, i_bau
from prune_core.repair.nets import Given, MadeNet

SHORT: dict[Callable[..., Any], Any] = {
    ft_sam: FtSamSettings(epochs=2, every=1, batch=32),
    i_bau: IBauSettings(rounds=2, batch=32),
}
MASK = ChannelMask.of({"c2": [4], "c1": [2]})


def nets(method: Callable[..., Any], model: PrunableModel, poison: int = 1) -> list[MadeNet]:
    """``poison`` chooses other poisoned images with the same clean ones."""
    given = Given(model, Split(small_split(1).clean, small_split(poison).poisoned))
    return list(method(given, MASK, {}, settings=SHORT[method]))


@pytest.mark.parametrize("method", SHORT, ids=lambda method: method.__name__)
def test_clean_images_alone_and_pruned_channels_stay_zero(tmp_path: Path, method: Callable[..., Any]) -> None:
    """The BadNet is left as found; the same seed gives the same nets; poisoned images have no part."""
    model = small_badnet(tmp_path)
    before = weights_digest({p.name: p.value() for p in parameters_of(model)})
    made = nets(method, model)
    assert len(made) == 2
    for net in made:
        assert net.mask == MASK and net.weights
        changed = model.with_weights(net.weights)
        for name, rows in MASK.by_layer().items():
            assert not changed.kernels()[name][rows].any()
            bias = changed.conv(changed.layer(name)).bias
            assert bias is not None and not bias[rows].any()
    assert weights_digest({p.name: p.value() for p in parameters_of(model)}) == before
    assert not any(p.requires_grad for p in model.graph.parameters())
    for other in (nets(method, model), nets(method, model, poison=7)):
        assert [weights_digest(n.weights) for n in other] == [weights_digest(n.weights) for n in made]


@pytest.mark.parametrize("repair", ["i-bau", "ft-sam"])
def test_they_are_known_as_repairs(tmp_path: Path, repair: str) -> None:
    known = method_of("margin", repair)
    assert known.kind == repair and repair in KINDS
    assert method_of("final-layer", repair).assumption == CLEAN
    given = Given(small_badnet(tmp_path), small_split(1))
    first = next(repaired(repair, given, MadeNet(MASK, {}, "start"), lambda *told: None))
    assert first.note.startswith("start; ")


def test_ft_sam_leaves_constants_that_are_shared() -> None:
    """Exporters write two equal shifts once: the two batch norms stay as they are, in training too, and
    what comes back is what was trained."""
    _, model = preactivation()
    norms = [node for node in model.proto.graph.node if node.op_type == "BatchNormalization"]
    proto = onnx.ModelProto.FromString(model.proto.SerializeToString())
    one, other = (n for n in proto.graph.node if n.name in (norms[1].name, norms[2].name))
    other.input[2] = one.input[2]
    tied = build_model(proto, "tied", "tied")
    made = list(ft_sam(Given(tied, random_split((2, 8, 8), 3)), ChannelMask(), {}, settings=SHORT[ft_sam]))
    assert made and all(one.input[2] not in net.weights for net in made)
    assert norms[0].input[2] in made[-1].weights


def test_a_step_of_ft_sam_by_hand() -> None:
    """The gradient is taken at w + radius w^2 g / |w g|, in training mode, of torch's own module."""
    net, model = preactivation()
    split = random_split((2, 8, 8), 3)
    settings = FtSamSettings(epochs=1, every=1, batch=40, augmented=False, momentum=0, decay=0)
    (made,) = ft_sam(Given(model, split), ChannelMask(), {}, settings=settings)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    pixels, labels = (torch.from_numpy(a)[order] for a in (split.clean.pixels, split.clean.labels))
    net.train()
    parameters = list(net.parameters())
    gradients = torch.autograd.grad(functional.cross_entropy(net(pixels), labels), parameters)
    length = torch.cat([(p * g).flatten() for p, g in zip(parameters, gradients, strict=True)]).norm()
    climbed = [p.detach() ** 2 * g * 2 / length for p, g in zip(parameters, gradients, strict=True)]
    momenta = {norm: norm.momentum for norm in net.norms}
    with torch.no_grad():
        for p, c in zip(parameters, climbed, strict=True):
            p += c
        for norm in momenta:
            norm.momentum = 0.0  # running statistics follow the first pass alone
    gradients = torch.autograd.grad(functional.cross_entropy(net(pixels), labels), parameters)
    with torch.no_grad():
        square = max(1.0, float(pixels.square().mean()))
        for p, c, g in zip(parameters, climbed, gradients, strict=True):
            p -= c + 0.01 * g / (square if p is net.stem.weight else 1)
    expected = net.eval()(pixels).detach()
    seen = model.with_weights(made.weights).logits(pixels)
    torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)


def test_the_hypergradient_counts_in_how_the_worst_moves() -> None:
    """With one term of the series it is dL/dw - rate d/dw (slope . dL/dd), by numeric differences."""
    from prune_core.model.parameters import student_of
    from prune_core.repair.i_bau import _Net

    _, model = preactivation()
    student = student_of(model)
    split = random_split((2, 8, 8), 3)
    student.graph.double()
    pixels = torch.from_numpy(split.clean.pixels).double()
    labels = torch.from_numpy(split.clean.labels)
    settings = IBauSettings(terms=1, share=1.0, inner_rate=0.1)
    net = _Net(student, [(pixels, labels)], 1.0, settings, torch.Generator().manual_seed(0))
    found = 0.1 * torch.randn(1, 2, 8, 8, dtype=torch.float64)
    weight = next(p.tensor for p in parameters_of(model) if p.kind == "dense" and p.role == "kernel")
    (weight,) = (p for p in student.graph.parameters() if p.shape == weight.shape)
    weight.requires_grad_(True)
    (seen,) = net.hypergradient(found, [weight], pixels, labels)

    def outer(d: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(net.logits(pixels + d), labels)

    def slope() -> torch.Tensor:
        d = found.clone().requires_grad_(True)
        return torch.autograd.grad(net.inner(d, pixels, labels), d)[0]

    d = found.clone().requires_grad_(True)
    by_found = torch.autograd.grad(outer(d), d)[0]
    expected, step = torch.zeros_like(weight), 1e-6
    for place in np.ndindex(*weight.shape):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight[place] += sign * step
            value = outer(found).item() - 0.1 * float((slope() * by_found).sum())
            values.append(value)
            with torch.no_grad():
                weight[place] -= sign * step
        expected[place] = (values[0] - values[1]) / (2 * step)
    torch.testing.assert_close(seen, expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "settings", "said"),
    [
        (ft_sam, FtSamSettings(epochs=2, batch=32, radius=1e30), "FT-SAM, epoch 1 of 2"),
        (i_bau, IBauSettings(rounds=2, batch=32, rate=1e37), "I-BAU, round 1 of 2"),
    ],
)
def test_training_that_runs_away_ends_at_once_in_words(
    tmp_path: Path, method: Callable[..., Any], settings: Any, said: str
) -> None:
    with pytest.raises(InputError, match=f"{said}: training has diverged .a weight is NaN"):
        list(method(Given(small_badnet(tmp_path), small_split(1)), MASK, {}, settings=settings))
