"""Scans of a net whose shortcut is built in by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from shortcut_net import TARGET, images_of, net_of

import goodnet
from prune_core.inversion import searches
from prune_core.inversion.found import FoundTrigger
from prune_core.model.model import PrunableModel


@pytest.fixture(scope="module")
def net() -> PrunableModel:
    return net_of(True)


def test_finds_the_shortcut_and_writes_it(net, tmp_path, monkeypatch) -> None:
    told: list[float] = []
    found = goodnet.scan(
        net,
        images_of(),
        kinds=["patch"],
        out=tmp_path,
        tell=lambda doing, share: told.append(share),
    )
    assert (found.verdict, found.suspected) == ("suspected", (TARGET,)), found.why
    assert told == sorted(told) and told[-1] <= 1
    first = found.rows[0]
    assert first.target == TARGET and first.anomaly_low <= first.anomaly <= first.anomaly_high
    assert first.success_low <= first.success <= first.success_high and first.starts == 3
    written = json.loads((tmp_path / "scan.json").read_text())
    assert written == found.to_json()
    assert {"model", "model_digest", "clean", "images", "held_out", "classes", "verdict", "why"} <= set(
        written
    )
    trigger = written["triggers"][0]
    for name in ("file", "pattern", "mask", "stamped"):
        assert (tmp_path / trigger[name]).is_file()
    pixels, labels = images_of()
    stamped = torch.from_numpy(found.triggers[0].on(pixels[labels != TARGET]))
    assert (net.logits(stamped).argmax(1) == TARGET).float().mean() > 0.8

    # The same call takes over all that has been searched.
    monkeypatch.setattr(searches, "invert", None)
    monkeypatch.setattr(searches, "greatest_margins", None)
    again = goodnet.scan(net, images_of(), kinds=["patch"], out=tmp_path)
    assert again.to_json() == written


def test_nothing_is_suspected_without_it() -> None:
    found = goodnet.scan(net_of(False), images_of(), kinds=["patch"])
    assert found.verdict != "suspected" and not found.suspected


def test_the_net_is_left_as_found(net) -> None:
    before = [p.clone() for p in net.graph.parameters()]
    found = goodnet.scan(net, images_of(), classes=[0, TARGET], kinds=["add"])
    assert all(torch.equal(a, b) for a, b in zip(before, net.graph.parameters(), strict=True))
    assert found.verdict == "cannot tell" and "too few" in found.why


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"classes": [8]}, "classes 0 to 7"),
        ({"classes": []}, "no class"),
        ({"kinds": ["warp"]}, "expected patch, blend, add"),
        ({"kinds": []}, "expected patch, blend, add"),
        ({"seed": -1}, "seed is -1"),
        ({"images": 3}, "images is 3"),
    ],
)
def test_bad_settings(net, how, said) -> None:
    with pytest.raises(goodnet.InputError, match=said):
        goodnet.scan(net, images_of(), **how)


def test_bad_images(net) -> None:
    pixels, labels = images_of()
    with pytest.raises(goodnet.InputError, match="needs 16 or more"):
        goodnet.scan(net, (pixels[:10], labels[:10]))
    with pytest.raises(goodnet.InputError, match="labels hold 9"):
        goodnet.scan(net, (pixels, labels + 2))
    with pytest.raises(goodnet.InputError, match="expected"):
        goodnet.scan(net, pixels)


def test_a_found_trigger_on_pixels() -> None:
    """By hand: half covered by 200, and 30 added within black and white."""
    span = np.array([[0, 255]], np.float32)
    half = np.full((1, 1), 0.5, np.float32)
    cover = FoundTrigger(0, "patch", np.full((1, 1, 1), 200, np.float32), half, 0.5, 1, 2, span)
    more = FoundTrigger(0, "add", np.full((1, 1, 1), 30, np.float32), half, 0.1, 1, 2, span)
    pixels = np.array([100, 250], np.uint8).reshape(2, 1, 1, 1)
    assert cover.on(pixels).ravel().tolist() == [150, 225]
    assert more.on(pixels).ravel().tolist() == [130, 255]
    with pytest.raises(goodnet.InputError, match="the trigger is for"):
        more.on(np.zeros((1, 3, 1, 1)))
