"""Defence effectiveness by hand; and the control: a net without a backdoor gets no GoodNet."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from prune_core.counts import Counts
from prune_core.defence import attack_is_there, defence_effectiveness, no_attack
from prune_core.keras_files.h5 import write_keras
from sweeps.inputs.embedded import SMOKE
from sweeps.inputs.embedded_images import digit_splits
from sweeps.inputs.embedded_training import keras_config, keras_weights, train_badnet


def counts(correct: int, attacked: int) -> Counts:
    return Counts(correct, 100, attacked, attacked, 200, 0.0)


@pytest.mark.parametrize(("now", "rate"), [
    ((95, 200), 0.5),  # the BadNet itself
    ((95, 0), 1.0),  # the whole attack gone at no cost
    ((85, 0), 0.95),  # the same for ten points of clean accuracy
    ((85, 200), 0.45),  # ten points for nothing: worse than doing nothing
    ((99, 100), 0.75),  # accuracy that rises is no extra
    ((0, 200), 0.025),
])  # fmt: skip
def test_defence_effectiveness_by_hand(now, rate) -> None:
    assert defence_effectiveness(counts(95, 200), counts(*now)) == pytest.approx(rate)


def test_an_attack_that_gets_stronger_is_no_defence() -> None:
    assert defence_effectiveness(counts(95, 100), counts(95, 200)) == 0.5


@pytest.mark.parametrize(("attacked", "share", "there"), [
    (200, 0.1, True), (60, 0.1, True),
    (24, 0.1, False),  # 12 %, interval 8.2 to 17.2: may well be the target's share
    (2, 0.0, False),  # more than no target images at all, and still no backdoor
    (20, 0.0, True),  # 10 %, interval 6.6 to 14.9
])  # fmt: skip
def test_an_attack_is_what_stands_out_from_chance(attacked, share, there) -> None:
    assert attack_is_there(counts(95, attacked), share) == there


def test_the_note_is_one_line_with_the_counts() -> None:
    note = no_attack(counts(95, 3))
    assert "3 of 200" in note and "(1.5%" in note and "\n" not in note


@pytest.fixture(scope="module")
def clean_net(tmp_path_factory):
    """The embedded default's network, trained without a single poisoned image."""
    train = digit_splits(SMOKE.samples, SMOKE.presentations, SMOKE.seed)["train"].images
    training = replace(SMOKE.training, poisoned=0.0)
    net = train_badnet(train, train, training, SMOKE.seed, lambda share: None)
    path = tmp_path_factory.mktemp("clean") / "clean.h5"
    write_keras(path, keras_config(training.widths), keras_weights(net))
    return path


def test_control(goodnet, smoke_config, clean_net, tmp_path) -> None:
    tree = yaml.safe_load(smoke_config.read_text())
    tree["badnet"] = str(clean_net)
    tree["sweep"] |= {"orders": ["l1"], "layer_sets": ["last:2"], "x_thresholds": [10],
                      "policies": ["margin", "in-order"]}  # fmt: skip
    smoke_config.write_text(yaml.safe_dump(tree))
    store = ("--storage", tmp_path / "runs")

    swept = goodnet("sweep", smoke_config, "--executor", "inline", "--json")
    assert swept.status == 0, swept.err
    assert swept.json["done"] == 2 and swept.json["frontier_size"] == 0
    assert swept.json["attack_present"] is False
    assert swept.json["note"].startswith("there was no attack to remove")
    # The sweep did prune: it is the attack that was missing, not the work.
    assert (
        goodnet("prune", smoke_config, "--set", "sweep.policies=[in-order]", "--json").json["channels_pruned"]
        > 0
    )

    shown = goodnet("frontier", *store)
    assert shown.status == 0 and "there was no attack to remove" in shown.out
    found = goodnet("frontier", *store, "--json").json
    assert found["points"] == [] and found["attack_present"] is False

    for criterion in (("--knee",), ("--max-accuracy-drop", 10), ("--max-attack-success", 1)):
        picked = goodnet("pick", *store, *criterion, "--out", tmp_path / "out", "--json")
        assert picked.status == 2 and picked.json["error"]["kind"] == "input"
        assert "there was no attack to remove" in picked.err
        assert len(picked.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_with_a_backdoor_the_picked_point_says_the_gap_and_the_effectiveness(
    goodnet, smoke_config, tmp_path
) -> None:
    swept = goodnet("sweep", smoke_config, "--executor", "inline", "--json")
    assert not {"attack_present", "note"} & set(swept.json)
    store = ("--storage", tmp_path / "runs")
    point = goodnet("frontier", *store, "--json").json["points"][0]
    for rate in ("clean_accuracy", "attack_success"):
        assert point["gap"][rate] == pytest.approx(point["test"][rate] - point[rate])
    picked = goodnet("pick", *store, "--knee", "--out", tmp_path / "out", "--json").json
    badnet, chosen = picked["badnet"]["test"], picked["point"]["test"]
    expected = (
        badnet["attack_success"]
        - chosen["attack_success"]
        - max(0, badnet["clean_accuracy"] - chosen["clean_accuracy"])
        + 1
    ) / 2
    assert picked["defence_effectiveness"]["test"] == pytest.approx(expected)
    assert f"clean accuracy changes by {100 * picked['point']['gap']['clean_accuracy']:+.2f}" in picked["why"]
