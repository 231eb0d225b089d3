"""Exported GoodNets: right by hand, equal in ONNX Runtime and torch, whole or not there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hand_nets import keras_badnet, random_split, two_branches
from onnx import helper

from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.zeroed import (
    BADNET_KEY,
    MASK_KEY,
    ExportMismatch,
    pruned_onnx,
    remeasured,
    verified,
    write_goodnet,
)
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel, build_model, load_model


def runtime(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    """A second opinion."""
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (output,) = session.run(None, {session.get_inputs()[0].name: images})
    return output


ONES = np.ones((2, 1, 2, 2), np.float32)


@pytest.mark.parametrize("ir_version", [3, 8])
@pytest.mark.parametrize(
    ("pruned", "keep_bias", "logits"),
    [
        ({}, False, [17, 34]),
        ({"right": [1]}, False, [17, 22]),  # left, which shares the kernel, keeps its 22
        ({"right": [1]}, True, [17, 26]),  # the batch norm makes 0 * 4 + 4 of it
        ({"left": [0]}, False, [6, 34]),
        ({"left": [0]}, True, [16, 34]),  # the bias of 10 is left
        ({"left": [0, 1], "right": [0, 1]}, False, [0, 0]),
    ],
)
def test_pruned_onnx_by_hand(
    pruned: dict[str, list[int]], keep_bias: bool, logits: list[float], ir_version: int
) -> None:
    model = build_model(two_branches(ir_version), "digest", "net")
    before = model.proto.SerializeToString()
    mask = ChannelMask.of(pruned, keep_bias)
    exported = pruned_onnx(model, mask)
    onnx.checker.check_model(exported)
    np.testing.assert_array_equal(
        build_model(exported, "", "copy").logits(torch.from_numpy(ONES)).numpy(), [logits, logits]
    )
    with model.pruned(mask) as net:
        np.testing.assert_array_equal(net.logits(torch.from_numpy(ONES)).numpy(), [logits, logits])
    softmax = np.exp(np.array(logits) - max(logits))
    expected = np.stack([softmax / softmax.sum()] * 2)
    np.testing.assert_allclose(runtime(exported, ONES), expected, rtol=1e-6)
    assert model.proto.SerializeToString() == before


def test_provenance_is_kept_in_the_file_and_replaces_an_earlier_one() -> None:
    proto = two_branches()
    helper.set_model_props(proto, {"author": "someone", MASK_KEY: "old"})
    mask = ChannelMask.of({"left": [1]}, keep_bias=True)
    exported = pruned_onnx(build_model(proto, "abc", "net"), mask)
    found = {entry.key: entry.value for entry in exported.metadata_props}
    assert found["author"] == "someone" and found[BADNET_KEY] == "abc"
    assert ChannelMask.from_json(json.loads(found[MASK_KEY])) == mask
    assert len(exported.metadata_props) == 3


@pytest.mark.parametrize("pruned", [{"middle": [0]}, {"left": [2]}, {"left": [-1]}])
def test_a_mask_that_does_not_fit_is_the_callers_mistake(pruned: dict[str, list[int]]) -> None:
    with pytest.raises(InputError, match="net: "):
        pruned_onnx(build_model(two_branches(), "", "net"), ChannelMask.of(pruned))


@pytest.mark.parametrize("keep_bias", [False, True])
def test_every_file_of_a_keras_badnet_does_what_the_mask_did(tmp_path: Path, keep_bias: bool) -> None:
    badnet = keras_badnet(tmp_path / "bad.h5")
    model = load_model(badnet)
    mask = ChannelMask.of({"c1": [0, 3], "c2": [1]}, keep_bias)
    written = write_goodnet(model, mask, badnet, tmp_path / "made" / "good.v1")
    assert [p.name for p in written] == ["good.v1.onnx", "good.v1.h5", "good.v1.mask.json"]
    assert len(list((tmp_path / "made").iterdir())) == 3  # nothing temporary is left
    assert ChannelMask.from_json(json.loads(written[2].read_text())) == mask

    evaluator = PlainEvaluator(model, random_split((2, 6, 5), 5))
    expected = evaluator.counts(mask)
    images = evaluator.split.clean.floats(0, 40)
    with model.pruned(mask) as net:
        logits = net.logits(torch.from_numpy(images))
    for path in written[:2]:
        torch.testing.assert_close(load_model(path).logits(torch.from_numpy(images)), logits)
        assert verified(path, None, evaluator, expected).attacked == expected.attacked
    probabilities = runtime(onnx.load(written[0]), images)
    np.testing.assert_allclose(probabilities, logits.softmax(dim=1).numpy(), rtol=1e-4, atol=1e-6)


def test_an_onnx_badnet_gives_no_h5(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    onnx.save(two_branches(), path)
    written = write_goodnet(load_model(path), ChannelMask(), path, tmp_path / "good")
    assert [p.name for p in written] == ["good.onnx", "good.mask.json"]


def test_agreement_is_with_the_badnet(tmp_path: Path) -> None:
    """The BadNet calls every image 1, the file calls every image 0: 0 is the target, and none of
    these successes agrees with the BadNet."""
    path = tmp_path / "bad.onnx"
    onnx.save(two_branches(), path)
    badnet = PlainEvaluator(load_model(path), ones_split())
    mask = ChannelMask.of({"left": [1], "right": [1]})
    assert badnet.badnet.attacked == 0
    onnx_file, _ = write_goodnet(badnet.model, mask, path, tmp_path / "good")
    found = remeasured(onnx_file, None, badnet)
    assert (found.attacked, found.attacked_agreeing, found.poisoned_total) == (3, 0, 3)
    assert replace(found, margin=0) == replace(badnet.counts(mask), margin=0)


def test_a_file_that_does_something_else_is_our_fault(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    onnx.save(two_branches(), path)
    badnet = PlainEvaluator(load_model(path), ones_split())
    expected = badnet.counts(ChannelMask.of({"left": [1], "right": [1]}))
    with pytest.raises(ExportMismatch, match=r"0 \(0 with the BadNet\) of 3 .*gave .*3 \(0 with"):
        verified(path, None, badnet, expected)
    assert not issubclass(ExportMismatch, InputError)


def test_another_badnet_is_refused(tmp_path: Path) -> None:
    model = load_model(keras_badnet(tmp_path / "bad.h5"))
    keras_badnet(tmp_path / "bad.h5", seed=1)
    with pytest.raises(InputError, match="its digest differs"):
        write_goodnet(model, ChannelMask(), tmp_path / "bad.h5", tmp_path / "good")
    with pytest.raises(InputError, match="no such file"):
        write_goodnet(model, ChannelMask(), tmp_path / "gone.h5", tmp_path / "good")


def test_a_place_that_cannot_be_written_is_the_callers_mistake(tmp_path: Path) -> None:
    badnet = keras_badnet(tmp_path / "bad.h5")
    with pytest.raises(InputError, match="cannot be written"):
        write_goodnet(load_model(badnet), ChannelMask(), badnet, badnet / "good")


def ones_split() -> Split:
    images = np.ones((3, 1, 2, 2), np.float32)
    clean = LabeledImages(2 * images, np.array([1, 1, 0]), name="clean")  # no pairs
    return make_split(clean, LabeledImages(images, np.zeros(3, np.int64), name="bad"))


def random_mask(model: PrunableModel, seed: int, keep_bias: bool) -> ChannelMask:
    """About one channel in ten, of all layers."""
    rng = np.random.default_rng(seed)
    pruned = {la.name: np.flatnonzero(rng.random(la.channels) < 0.1) for la in model.layers}
    return ChannelMask.of(pruned, keep_bias)


@pytest.mark.acceptance
@pytest.mark.parametrize("keep_bias", [False, True])
@pytest.mark.parametrize(
    ("badnet", "images"), [("csaw/bd_weights.h5", "csaw"), ("gtsrb/badnet_resnet20.onnx", "gtsrb")]
)
def test_round_trip_of_real_networks(
    shared_data: Path, tmp_path: Path, badnet: str, images: str, keep_bias: bool
) -> None:
    model = load_model(shared_data / badnet)
    clean, poisoned = (
        read_images(shared_data / images / f"{kind}_valid.h5").keeping(np.arange(80)) for kind in ("cl", "bd")
    )
    evaluator = PlainEvaluator(model, make_split(clean, poisoned))
    mask = random_mask(model, 3, keep_bias)
    expected = evaluator.counts(mask)
    assert expected.clean_correct < evaluator.badnet.clean_correct
    *models, _ = write_goodnet(model, mask, shared_data / badnet, tmp_path / "good")
    assert len(models) == (2 if badnet.endswith(".h5") else 1)
    for path in models:
        verified(path, None, evaluator, expected)
    with model.pruned(mask) as net:
        logits = net.logits(torch.from_numpy(clean.floats(0, 50)))
    output = runtime(onnx.load(models[0]), clean.floats(0, 50))
    assert (output.argmax(axis=1) == logits.argmax(dim=1).numpy()).all()
    if "csaw" in badnet:
        logits = logits.softmax(dim=1)
    np.testing.assert_allclose(output, logits.numpy(), rtol=1e-3, atol=1e-3)


def test_only_the_reader_process_opens_the_badnets_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for the copy in Keras form: the HDF5 library may crash on a stranger's file."""
    path = tmp_path / "bad.h5"
    keras_badnet(path)
    model = load_model(path)

    def opened(*given: object, **named: object) -> None:
        raise AssertionError(f"opened here: {given}")

    monkeypatch.setattr(h5py, "File", opened)
    mask = ChannelMask.of({model.layers[-1].name: [0]})
    paths = write_goodnet(model, mask, path, tmp_path / "out" / "good")
    assert {p.name for p in paths} == {"good.onnx", "good.h5", "good.mask.json"}
    assert set(paths) == set((tmp_path / "out").iterdir())
