"""The incremental evaluator counts what the plain one counts, on any network and mask."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import nn

from prune_core.dataflow import paths
from prune_core.errors import InputError
from prune_core.evaluate import PlainEvaluator, make_evaluator
from prune_core.greedy import prune_greedily
from prune_core.images import LabeledImages, Split, make_split, read_images
from prune_core.incremental import IncrementalEvaluator
from prune_core.masks import Channel, ChannelMask
from prune_core.metrics import Ask
from prune_core.model import PrunableModel, build_model, load_model
from prune_core.output_bounds import GUARD
from prune_core.rules import POLICIES, make_rule

SHAPE = (3, 12, 10)
CLASSES = 5


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small run no faster on more, and far slower where cores are shared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Chain(nn.Module):
    """Padded and strided convolutions, both kinds of pools, two hidden ways to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 5, 3, stride=2, padding=1)
        self.c = nn.Conv2d(5, 7, 2)
        self.left, self.right = nn.Linear(30, 8), nn.Linear(14, 8)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(torch.relu(self.a(x)), 2)
        x = F.avg_pool2d(F.leaky_relu(self.b(x)), 2, stride=1, padding=1)[:, :, :3, :2]
        return self.last(torch.relu(self.left(x.flatten(1)) + self.right(torch.relu(self.c(x)).flatten(1))))


class Residual(nn.Module):
    """Blocks with batch norm that are added, and a strided shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a, self.a_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.b, self.b_norm = nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.c, self.c_norm = nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8)
        self.short = nn.Conv2d(6, 8, 1, stride=2)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(x + self.b_norm(self.b(torch.relu(self.a_norm(self.a(x))))))
        x = torch.relu(self.c_norm(self.c(x)) + self.short(x))
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Fork(nn.Module):
    """Branches that are concatenated, mixed 1 x 1, and a gate that multiplies channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.a, self.b = nn.Conv2d(4, 5, 3, padding=1), nn.Conv2d(4, 3, 1)
        self.mix = nn.Conv2d(12, 6, 1)
        self.gate = nn.Linear(6, 6)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.stem(x) * 0.5)
        x = torch.cat([x, torch.relu(self.a(x)), self.b(x)], dim=1)
        x = torch.relu(self.mix(x))
        x = x * torch.sigmoid(self.gate(x.mean(dim=(2, 3))))[:, :, None, None]
        return self.last(x.mean(dim=(2, 3)))


class Depthwise(nn.Module):
    """Depthwise convolutions (one of them with two outputs a channel) and a grouped one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 12, 3, padding=1, groups=6)
        self.norm = nn.BatchNorm2d(12)
        self.point, self.group = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 6, 3, groups=2)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.deep(torch.relu(self.stem(x)))))
        x = torch.relu(self.group(torch.relu(self.point(x))))
        return self.last(x.amax(dim=(2, 3)))


class ChannelsLast(nn.Module):
    """Transposes around every convolution, as tf2onnx writes them; channels are softmaxed once,
    for which there is no rule; two constants on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 5, 3), nn.Conv2d(5, 4, 2)
        self.scale = nn.Parameter(torch.rand(6) + 0.5)
        self.last = nn.Linear(12, CLASSES)
        self.matrix = nn.Parameter(torch.randn(12, 12) / 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).permute(0, 2, 3, 1)
        x = torch.relu(x * self.scale).permute(0, 3, 1, 2)
        x = torch.relu(self.b(F.max_pool2d(x, 2)).permute(0, 2, 3, 1))
        x = torch.softmax(x, dim=-1).permute(0, 3, 1, 2)
        x = F.pad(x, (0, 1, 1, 0))
        x = torch.relu(self.c(x).permute(0, 2, 3, 1)).flatten(1)[:, :12]
        return self.last(torch.tanh(x @ self.matrix))


class OnlyConvolutions(nn.Module):
    """No linear layer at the end, and classes 1 and 3 are copies: ties on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3), nn.Conv2d(6, CLASSES, 3)
        with torch.no_grad():
            self.b.weight[3], self.b.bias[3] = self.b.weight[1], self.b.bias[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(self.b(torch.relu(self.a(x))), 1).flatten(1)


class Ties(nn.Module):
    """Copies of classes behind an output layer without bias, so that a dead net says all zero."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 3, 3, bias=False)
        self.last = nn.Linear(3, CLASSES, bias=False)
        with torch.no_grad():
            self.last.weight[4] = self.last.weight[2]
            self.last.weight[3] = self.last.weight[0]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.b(torch.relu(self.a(x)))).mean(dim=(2, 3)))


NETS: dict[str, Callable[[], nn.Module]] = {
    net.__name__: net
    for net in (Chain, Residual, Fork, Depthwise, ChannelsLast, OnlyConvolutions, Ties)
}


def as_model(net: nn.Module, shape: tuple[int, int, int], name: str) -> PrunableModel:
    buffer = io.BytesIO()
    torch.onnx.export(
        net.eval(), (torch.zeros(1, *shape),), buffer, dynamo=False, opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        input_names=["images"], dynamic_axes={"images": {0: "n"}},
    )  # fmt: skip
    return build_model(onnx.load_from_string(buffer.getvalue()), name, name)


@lru_cache(maxsize=64)
def made(kind: str, seed: int) -> tuple[PrunableModel, Split]:
    """A random network, and images that it labels itself, with a few wrong labels."""
    torch.manual_seed(seed)
    net = NETS[kind]()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    model = as_model(net, SHAPE, kind)
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(90, *SHAPE)).astype(np.float32)
    labels = model.logits(torch.from_numpy(pixels)).argmax(dim=1).numpy()
    labels[::7] = rng.integers(0, CLASSES, len(labels[::7]))
    truth = rng.integers(1, CLASSES, 40)
    poisoned = LabeledImages(pixels[50:], np.zeros(40, np.int64), truth if seed % 2 else None)
    return model, make_split(LabeledImages(pixels[:50], labels[:50]), poisoned)


def random_masks(model: PrunableModel, seed: int, keep_bias: bool) -> Iterable[ChannelMask]:
    """A walk like a pruner's, with candidates turned down, far jumps, and the empty mask."""
    rng = np.random.default_rng(seed)
    every = [Channel(la.name, c) for la in model.layers for c in range(la.channels)]
    mask = ChannelMask(keep_bias=keep_bias)
    for step in range(12):
        for _ in range(2):
            yield mask.adding(every[rng.integers(len(every))])
        mask = mask.adding(every[rng.integers(len(every))])
        yield mask
        if step == 5:
            picks = rng.permutation(len(every))[: len(every) // 2]
            yield ChannelMask(frozenset(every[i] for i in picks), keep_bias)
            yield mask.only(model.layers[-1].name)
        if step == 8:
            mask = mask.only(model.layers[0].name)
    yield ChannelMask(frozenset(every), keep_bias)


@settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(
    kind=st.sampled_from(sorted(NETS)),
    seed=st.integers(0, 3),
    walk=st.integers(0, 10**6),
    keep_bias=st.booleans(),
    memory_gb=st.sampled_from((4.0, 0.7503, 0.0)),
)
def test_counts_are_those_of_the_plain_evaluator(
    kind: str, seed: int, walk: int, keep_bias: bool, memory_gb: float
) -> None:
    model, split = made(kind, seed)
    before = {k: v.clone() for k, v in model.graph.state_dict().items()}
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split, memory_gb)
    assert fast._plain is None
    assert fast.badnet == plain.badnet and fast.margin_unit == plain.margin_unit
    assert (fast.badnet_classes == plain.badnet_classes).all()
    for position, mask in enumerate(random_masks(model, walk, keep_bias)):
        ask = Ask(margin=position % 3 != 1)
        assert fast.counts(mask, ask) == plain.counts(mask, ask), (position, mask)
    after = model.graph.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize("kind", sorted(NETS))
def test_every_kind_of_network(kind: str) -> None:
    model, split = made(kind, 0)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    for keep_bias in (False, True):
        for mask in random_masks(model, 1, keep_bias):
            assert fast.counts(mask) == plain.counts(mask)


def test_masks_that_treat_the_bias_differently_do_not_mix() -> None:
    model, split = made("Residual", 1)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    pairs = zip(random_masks(model, 2, True), random_masks(model, 2, False), strict=True)
    for mask in (m for pair in pairs for m in pair):
        assert fast.counts(mask) == plain.counts(mask)


def test_paths_tell_how_far_a_channel_stays_one() -> None:
    told = {kind: list(paths(made(kind, 0)[0], SHAPE).values()) for kind in NETS}
    assert all("one channel to" in way for ways in told.values() for way in ways)
    assert told["Residual"][0].count("node_") == 4  # ReLU, then three convolutions of two blocks
    assert "whole" in told["Ties"][-1] or "its part of" in told["Ties"][-1]


def test_channels_stay_pieces_where_the_paths_say_so() -> None:
    """The product of the predicate: a linear layer behind a chain is never run whole again."""
    model, split = made("Chain", 0)
    fast = IncrementalEvaluator(model, split)
    calls: list[str] = []
    hooks = [
        module.register_forward_hook(lambda m, a, o: calls.append(type(m).__name__))
        for module in model.graph.modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    fast.counts(ChannelMask.of({model.layers[-1].name: [2]}), Ask(margin=False))
    for hook in hooks:
        hook.remove()
    assert calls == []


@pytest.mark.parametrize("policy", sorted(POLICIES))
@pytest.mark.parametrize("kind", ["Chain", "Residual", "Ties"])
def test_walks_decide_the_same(policy: str, kind: str) -> None:
    """Refusals that stop early say what whole counts would."""
    model, split = made(kind, 2)
    order = [Channel(la.name, c) for la in reversed(model.layers) for c in range(la.channels)]
    same_walk(model, split, order, policy, 10.0)


def same_walk(
    model: PrunableModel, split: Split, order: list[Channel], policy: str, x: float
) -> IncrementalEvaluator:
    plain, fast = PlainEvaluator(model, split), make_evaluator(model, split)
    assert isinstance(fast, IncrementalEvaluator)
    rule = make_rule(policy, x)
    steps = zip(
        prune_greedily(plain, order, rule), prune_greedily(fast, order, rule), strict=True
    )
    for slow, quick in steps:
        assert quick == slow and quick.now.complete
    return fast


def test_counts_after_an_interruption() -> None:
    model, split = made("Chain", 1)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    masks = list(random_masks(model, 3, False))
    for position, mask in enumerate(masks):
        if position == 6:
            run, fast.run = fast.run, interrupt  # type: ignore[method-assign, assignment]
            with pytest.raises(KeyboardInterrupt):
                fast.counts(mask)
            fast.run = run  # type: ignore[method-assign]
        assert fast.counts(mask) == plain.counts(mask)


def interrupt(*args: object) -> None:
    raise KeyboardInterrupt


def test_a_network_that_overflows_is_counted_plainly() -> None:
    model, split = made("Chain", 0)
    split = make_split(replace(split.clean, scale=1e38), split.poisoned)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split)
    mask = ChannelMask.of({model.layers[0].name: [1]})
    assert fast.badnet == plain.badnet and fast.counts(mask) == plain.counts(mask)


def test_an_unknown_evaluator_is_refused() -> None:
    model, split = made("Ties", 0)
    with pytest.raises(InputError, match="incremental, plain"):
        make_evaluator(model, split, "exact")


def largest_error(fast: IncrementalEvaluator) -> float:
    """Of leads in the base's net as it has come about by differences, against float64; relative to
    what ``GUARD`` is relative to."""
    base = fast.bases[-1]
    worst = 0.0
    with fast.exact.model.pruned(base.mask) as exact:
        for rows in fast.images.slices(64):
            hidden = fast.run(base.mask, base.mask, rows).old(fast.output.goal)
            logits = fast.output.logits(hidden).double()
            true = exact.logits(fast.images.pixels(rows).double())
            scale = torch.maximum(logits.abs().amax(dim=1), fast._scale[rows].double())
            label = fast.labels[rows][:, :1]
            lead = logits - logits.gather(1, label)
            error = (lead - (true - true.gather(1, label))).abs().amax(dim=1)
            worst = max(worst, float((error / scale).max()))
    return worst


@pytest.mark.parametrize("kind", ["Chain", "Residual", "Fork", "Depthwise"])
def test_errors_stay_far_below_the_guard(kind: str) -> None:
    model, split = made(kind, 0)
    fast = IncrementalEvaluator(model, split)
    mask = ChannelMask()
    every = [Channel(la.name, c) for la in model.layers[1:] for c in range(la.channels)]
    order = np.random.default_rng(0).permutation(len(every))
    for position in order[: len(order) * 2 // 3]:
        mask = mask.adding(every[position])
        fast.counts(mask)
    assert len(fast.bases[-1].mask) >= len(mask) - 1
    assert largest_error(fast) <= GUARD / 5


def subset(folder: Path, count: int) -> Split:
    clean, poisoned = (read_images(folder / f"{name}_valid.h5") for name in ("cl", "bd"))
    rows = np.arange(count)
    return make_split(clean.keeping(rows), poisoned.keeping(rows))


@pytest.mark.acceptance
@pytest.mark.parametrize(("policy", "x"), [("margin", 4), ("attack-success", 10), ("seed", 10)])
def test_walks_through_the_lab_network(shared_data: Path, policy: str, x: float) -> None:
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    split = subset(shared_data / "csaw", 70)
    picks = {"conv_4": range(0, 80, 10), "conv_3": range(1, 60, 7), "conv_2": range(2, 40, 6)}
    order = [Channel(layer, c) for layer, channels in picks.items() for c in channels]
    fast = same_walk(model, split, order, policy, x)
    assert largest_error(fast) <= GUARD / 5


@pytest.mark.acceptance
def test_errors_stay_far_below_the_guard_on_a_long_walk(shared_data: Path) -> None:
    """A hundred accepted channels, one after another, on the lab's network."""
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    fast = IncrementalEvaluator(model, subset(shared_data / "csaw", 64))
    mask = ChannelMask(keep_bias=True)
    for layer, count in (("conv_4", 45), ("conv_3", 40), ("conv_2", 15)):
        for channel in range(count):
            mask = mask.adding(Channel(layer, channel))
            fast.counts(mask, Ask(margin=False))
    assert len(fast.bases[-1].mask) == 99
    assert largest_error(fast) <= GUARD / 5


@pytest.mark.acceptance
@pytest.mark.parametrize("memory_gb", [4.0, 0.78])
def test_walk_through_the_traffic_sign_network(shared_data: Path, memory_gb: float) -> None:
    model = load_model(shared_data / "gtsrb" / "badnet_resnet20.onnx")
    split = subset(shared_data / "gtsrb", 30)
    plain, fast = PlainEvaluator(model, split), IncrementalEvaluator(model, split, memory_gb)
    assert fast.badnet == plain.badnet
    for keep_bias in (False, True):
        mask = ChannelMask(keep_bias=keep_bias)
        for layer in [*model.layers[-1::-6], model.layers[0]]:
            mask = mask.adding(Channel(layer.name, 3))
            candidate = mask.adding(Channel(layer.name, 5))
            assert fast.counts(mask) == plain.counts(mask)
            assert fast.counts(candidate) == plain.counts(candidate)
