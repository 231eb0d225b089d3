"""A GoodNet in the user's own module: by its state_dict's file, by the mask, by ``result.apply``."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional
from torch_nets import SMALL, images_of, in_working_folder, module_of, shaken

import goodnet
from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.files import STATE_DICT, measured_again, write_formats
from prune_core.masks import ChannelMask
from prune_core.model.parameters import parameters_of

IMAGE = (3, 16, 16)


def split_of(net: nn.Module) -> Split:
    clean, poisoned = images_of(30, seed=1), images_of(30, seed=2)
    with torch.no_grad():
        labels = net(torch.from_numpy(clean).float()).argmax(1)
        wanted = net(torch.from_numpy(poisoned).float()).argmax(1)
    return Split.from_arrays(clean, labels, poisoned, int(wanted.mode().values))


def counts_of(net: nn.Module, split: Split) -> tuple[int, int]:
    """Clean images right and poisoned ones attacked, by a plain loop."""
    with torch.no_grad():
        right = [
            int((net(torch.from_numpy(im.pixels).float()).argmax(1).numpy() == im.labels).sum())
            for im in (split.clean, split.poisoned)
        ]
    return right[0], right[1]


class Odd(nn.Module):
    """Layers whose pruning has to reach several kinds of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(3, 4, 3, padding=1)  # a bias
        self.bare = nn.Conv2d(4, 4, 3, padding=1)
        self.bare_bn = nn.BatchNorm2d(4, affine=False)  # nothing but statistics
        self.scaled = nn.Conv2d(4, 6, 3, padding=1)
        self.gamma = nn.Parameter(torch.ones(6, 1, 1))  # behind the convolution
        self.beta = nn.Parameter(torch.ones(1, 6, 1, 1))
        self.unused = nn.Linear(2, 2)
        self.last = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.plain(x / 255))
        x = functional.relu(self.bare_bn(self.bare(x)))
        x = functional.relu(self.scaled(x) * self.gamma + self.beta)
        return self.last(x.mean((2, 3)))


def residual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    in_working_folder(tmp_path, monkeypatch)
    return shaken(module_of(tmp_path).build(**SMALL))


@pytest.fixture(params=["residual", "odd"])
def net(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    return residual(tmp_path, monkeypatch) if request.param == "residual" else shaken(Odd())


def some(model: goodnet.PrunableModel) -> ChannelMask:
    return ChannelMask.of({layer.name: [0, 2] for layer in model.layers})


def test_every_way_into_the_module_is_the_pruned_network(tmp_path: Path, net: nn.Module) -> None:
    split, before = split_of(net), copy.deepcopy(net.state_dict())
    model = goodnet.from_module(net, split.clean.pixels)
    mask, badnet = some(model), PlainEvaluator(model, split)
    expected = badnet.counts(mask)
    written = write_formats(model, mask, None, tmp_path / "good", split.clean.shape)
    assert written.what("safetensors") == STATE_DICT
    assert set(measured_again(written, badnet, expected)) == set(written.models)

    loaded = copy.deepcopy(net)
    loaded.load_state_dict(load_file(written.models["safetensors"]), strict=True)
    applied = goodnet.apply_mask(net, written.mask)
    by_hand = goodnet.apply_mask(net, mask, split.clean.pixels)
    for made in (loaded, applied, by_hand):
        assert counts_of(made, split) == (expected.clean_correct, expected.attacked)
        assert counts_of(made, split) != counts_of(net, split)
        with torch.no_grad(), model.pruned(mask):
            images = torch.from_numpy(split.clean.pixels).float()
            assert torch.allclose(made(images), model.logits(images), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


def test_a_pruned_channel_puts_out_zero(net: nn.Module) -> None:
    """Behind the batch norm, or what else belongs to the convolution."""
    model = goodnet.from_module(net, IMAGE)
    made = goodnet.apply_mask(net, some(model), IMAGE)
    seen: list[torch.Tensor] = []
    for name, module in made.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert name != "unused"
            module.register_forward_hook(lambda module, given, output: seen.append(output))
    with torch.no_grad():
        made(torch.from_numpy(images_of(3)).float())
    assert seen and all((output[:, [0, 2]] == 0).all() for output in seen)


def test_the_mask_of_the_author_keeps_biases(net: nn.Module) -> None:
    model = goodnet.from_module(net, IMAGE)
    mask = ChannelMask.of({layer.name: [1] for layer in model.layers}, keep_bias=True)
    made, images = goodnet.apply_mask(net, mask, IMAGE), torch.from_numpy(images_of(5)).float()
    with torch.no_grad(), model.pruned(mask):
        assert torch.allclose(made(images), model.logits(images), rtol=1e-4, atol=1e-4)


def test_changed_weights_go_into_the_state_dict(tmp_path: Path, net: nn.Module) -> None:
    """As fine-tuning changes them; the mask alone is another network then."""
    split = split_of(net)
    model = goodnet.from_module(net, split.clean.pixels)
    changed = model.with_weights({p.name: 1.5 * p.value() for p in parameters_of(model)[-2:]})
    mask = ChannelMask.of({changed.layers[1].name: [0]})
    badnet = PlainEvaluator(changed, split)
    written = write_formats(changed, mask, None, tmp_path / "good", split.clean.shape)
    assert written.source is not None
    measured_again(written, badnet, badnet.counts(mask))


class Twice(nn.Module):
    """One convolution, called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.fc = nn.Linear(3, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(functional.relu(self.conv(x / 255))).mean((2, 3)))


def test_a_layer_that_is_called_twice_cannot_be_pruned_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = shaken(Twice())
    split = split_of(net)
    model = goodnet.from_module(net, split.clean.pixels)
    mask, badnet = ChannelMask.of({model.layers[0].name: [0]}), PlainEvaluator(model, split)
    with pytest.raises(InputError, match="conv.weight serves 2 layers"):
        goodnet.apply_mask(net, mask, IMAGE)
    written = write_formats(model, mask, None, tmp_path / "good", split.clean.shape)
    assert "not written under the module's own names: conv.weight serves 2 layers" in caplog.text
    assert written.source is None and "parameters" not in json.loads(written.mask.read_text())
    measured_again(written, badnet, badnet.counts(mask))


def test_tensors_that_share_their_memory_stay_equal(tmp_path: Path) -> None:
    net = Odd()
    net.unused = nn.Conv2d(4, 6, 3)  # type: ignore[assignment]
    net.unused.weight = net.scaled.weight
    net = shaken(net)
    split = split_of(net)
    model = goodnet.from_module(net, split.clean.pixels)
    written = write_formats(model, some(model), None, tmp_path / "good", split.clean.shape)
    state = load_file(written.models["safetensors"])
    assert (
        torch.equal(state["unused.weight"], state["scaled.weight"]) and (state["scaled.weight"][2] == 0).all()
    )


def test_result_apply_for_a_module_and_for_its_onnx_file(tmp_path: Path, net: nn.Module) -> None:
    split = split_of(net)
    torch.onnx.export(net, (torch.rand(2, *IMAGE),), str(tmp_path / "net.onnx"), dynamo=False)
    for model in (goodnet.from_module(net, (3, 32, 32)), goodnet.load(tmp_path / "net.onnx")):
        result = goodnet.prune(model, split, layers="last:2", order="l1", policy="margin", x=90)
        assert len(result.mask)
        made = result.apply(net)
        assert counts_of(made, split) == (result.counts.clean_correct, result.counts.attacked)
        files = result.save(tmp_path / "good")
        with pytest.raises(InputError, match="give an example|lacks"):
            goodnet.apply_mask(nn.Conv2d(3, 4, 3), files["mask"])
    with pytest.raises(InputError, match="expected the module"):
        result.apply(shaken(copy.deepcopy(net), seed=5))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda net: nn.ModuleDict({"module": net})])
def test_a_wrapped_module_takes_the_mask_of_the_bare_one(net: nn.Module, wrap: object) -> None:
    model = goodnet.from_module(net, IMAGE)
    from prune_core.export.state_dict import with_rows_zero, zeroed_rows

    made = with_rows_zero(wrap(net), zeroed_rows(model, some(model)), "the mask")  # type: ignore[operator]
    assert (made.state_dict()[f"module.{model.layers[0].name}.weight"][2] == 0).all()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        ("none.json", "no such file"),
        ({"pruned": {"plain": [0]}, "keep_bias": False}, "give an example"),
        ({"pruned": {"plain": [0]}}, "a channel mask must look like"),
        ({"pruned": {}, "keep_bias": False, "parameters": {"plain.weight": [0]}}, "'parameters' are damaged"),
        (
            {"pruned": {}, "keep_bias": False, "parameters": {"plain.weight": {"axis": 0, "rows": [9]}}},
            "rows up to 9 of 'plain.weight', which is (4, 3, 3, 3)",
        ),
        (
            {"pruned": {}, "keep_bias": False, "parameters": {"other.weight": {"axis": 0, "rows": [0]}}},
            "it prunes 'other.weight', which the module's state_dict lacks (1 of 1 tensors)",
        ),
        (3, "expected a NAME.mask.json"),
    ],
)
def test_masks_that_do_not_fit(mask: object, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        goodnet.apply_mask(shaken(Odd()), mask)
    assert expected in str(caught.value)


def test_from_module_leaves_the_module_as_it_was() -> None:
    net = shaken(Odd()).half().train()
    goodnet.from_module(net, np.zeros((1, *IMAGE)))
    assert net.training and net.plain.weight.dtype == torch.float16 and net.plain.weight.requires_grad


def test_of_a_compiled_module_the_one_within_is_taken() -> None:
    net = shaken(Odd())
    compiled = torch.compile(net)
    model = goodnet.from_module(compiled, IMAGE)
    assert model.digest == goodnet.from_module(net, IMAGE).digest
    made = goodnet.apply_mask(net, some(model), IMAGE)
    assert (made.scaled.weight[2] == 0).all()


@pytest.mark.parametrize("example", [3, (3, 16), np.zeros((16, 16)), (3, 0, 16), (3.0, 16, 16), "images"])
def test_examples_that_are_none(example: object) -> None:
    with pytest.raises(InputError, match="the example has shape"):
        goodnet.from_module(shaken(Odd()), example)
    with pytest.raises(InputError, match="expected a torch.nn.Module"):
        goodnet.from_module("net.pth", IMAGE)  # type: ignore[arg-type]
