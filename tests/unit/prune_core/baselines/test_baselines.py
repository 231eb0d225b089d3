"""Published baselines: what each is given, what it prunes, and that it leaves things as found."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_nets import TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.baselines import BASELINES
from prune_core.baselines.anp import AnpSettings, anp
from prune_core.files.constants import weights_digest
from prune_core.masks import Channel
from prune_core.methods import CLEAN, NET_POLICIES, WEIGHTS_ALONE, method_of
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import parameters_of
from prune_core.repair.nets import Given, MadeNet
from sweeps.records.settings import TrialSettings, trial_key

LAYERS = [("c2", list(range(5))), ("c1", list(range(3)))]
PUBLISHED = [name for name in BASELINES if name.count(":") == 1]


def nets(name: str, model: PrunableModel, seed: int = 0, poison: int = 1) -> list[MadeNet]:
    """``poison`` chooses other poisoned images with the same clean ones."""
    split = small_split(1)
    poisoned = small_split(poison).poisoned
    given = Given(model, type(split)(split.clean, poisoned), seed)
    return list(BASELINES[name](given, LAYERS, lambda done, total, what: None))


@pytest.fixture
def shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less training, and fewer shares; what the tests below look at is the same."""
    module = importlib.import_module("prune_core.baselines.fine_pruning")
    monkeypatch.setattr(module, "SHARES", (0.2, 0.6))
    monkeypatch.setitem(BASELINES, "baseline:anp", partial(anp, settings=AnpSettings(steps=10)))


@pytest.mark.usefixtures("shorter")
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_baseline(tmp_path: Path, name: str) -> None:
    """Its nets prune more and more channels of the layer set; the BadNet is left as found; the same
    seed gives the same nets; poisoned images have no part in it."""
    model = small_badnet(tmp_path)
    before = weights_digest({p.name: p.value() for p in parameters_of(model)})
    made = nets(name, model)
    assert made
    assert all(a.mask.channels <= b.mask.channels for a, b in zip(made, made[1:], strict=False))
    assert {c.layer for net in made for c in net.mask} <= {"c1", "c2"}
    assert weights_digest({p.name: p.value() for p in parameters_of(model)}) == before
    assert not any(p.requires_grad for p in model.graph.parameters())
    for other in (nets(name, model), nets(name, model, poison=7)):
        assert [n.mask for n in other] == [n.mask for n in made]
        assert [weights_digest(n.weights) for n in other] == [weights_digest(n.weights) for n in made]


def test_what_each_takes() -> None:
    takes = {name: method_of(name).assumption for name in BASELINES}
    assert takes.pop("baseline:clp") == WEIGHTS_ALONE
    assert set(takes.values()) == {CLEAN}
    assert {method_of(name).kind for name in BASELINES} == {"baseline"}
    assert set(BASELINES) == {name for name in NET_POLICIES if name.startswith("baseline:")}


def test_methods_that_have_settings_have_as_many_of_them() -> None:
    of = [name.split(":")[1] for name in BASELINES]
    assert {of.count(name) for name in ("fine-pruning", "anp", "rnp")} == {4}


def test_results_that_changed_have_keys_of_their_own() -> None:
    """The first are those of version 0.1 and 0.2, as worked out then."""
    before = {"baseline:clp": "8bdaceccca13c78a2edb", "baseline:rnp": "f893f9efa7df8af43ef1"}
    for policy, key in before.items():
        settings = TrialSettings("none", ("conv_1",), 4.0, policy)
        assert trial_key(settings, "badnet", "valid", "test") != key


def test_clp_prunes_an_outlier_first(tmp_path: Path) -> None:
    """A kernel ten times as large has a bound ten times as large."""
    model = small_badnet(tmp_path)
    kernel = model.kernels()["c2"]
    kernel[2] *= 10
    first = nets("baseline:clp", model.with_weights({"c2/kernel": kernel}))[0]
    assert first.mask.by_layer()["c2"] == [2]


def test_clp_deviates_by_n_less_one(tmp_path: Path) -> None:
    """Bounds 1, 1, 1, 1 and b lie sqrt(n - 1) = 2 standard deviations from their mean with n, and
    (n - 1) / sqrt(n) = 1.79 with n - 1, whatever b is: so u = 1.75 is where it goes, not 2."""
    model = small_badnet(tmp_path)
    kernel = np.zeros_like(model.kernels()["c2"])
    kernel[:, 0, 0, 0] = [1, 1, 3, 1, 1]
    first = next(
        n for n in nets("baseline:clp", model.with_weights({"c2/kernel": kernel})) if n.mask.only("c2")
    )
    assert first.mask.by_layer()["c2"] == [2]
    assert "minus u as threshold -1.75" in first.note


@pytest.mark.usefixtures("shorter")
def test_fine_pruning_prunes_what_clean_images_do_not_use(tmp_path: Path) -> None:
    """The trigger's channel is silent on clean images; pruned rows are zero in its weights; and what was
    pruned alone is a state beside what was fine-tuned from there."""
    model = small_badnet(tmp_path)
    made = nets("baseline:fine-pruning", model)
    assert made[0].mask.by_layer() == {"c2": [TRIGGER_CHANNEL]}
    assert [bool(net.weights) for net in made] == [False, True] * 2
    for net in made[1::2]:
        kernels = model.with_weights(net.weights).kernels()
        assert not kernels["c2"][net.mask.by_layer()["c2"]].any()


@pytest.mark.usefixtures("shorter")
def test_a_neuron_that_anp_prunes_is_left_its_clean_mean(tmp_path: Path) -> None:
    """Batch norm was folded, so it is put back: what stays of a pruned channel is its shift, which is the
    mean of what it puts out on clean images."""
    model = small_badnet(tmp_path)
    last = nets("baseline:anp", model)[-1]
    assert last.mask.keep_bias
    clean = small_split(1).clean.pixels
    means = clean.mean(axis=(0, 2, 3))  # c1's kernel is 1 x 1: its outputs' means follow by hand
    kernel, bias = model.kernels()["c1"][:, :, 0, 0], np.zeros(3)
    rows = last.mask.by_layer()["c1"]
    held = next(v for k, v in last.weights.items() if k.startswith("c1"))
    assert np.allclose(held[rows], (kernel @ means + bias)[rows], atol=1e-4)
    assert Channel("c1", rows[0]) in last.mask.channels
