"""Triggers that are found take the place of poisoned images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from shortcut_net import TARGET, images_of, net_of

from prune_core.errors import InputError
from prune_core.evaluation.look import look
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.inversion import searches
from prune_core.methods import CLEAN_AND_TARGET
from sweeps.config.schema import Config, make_config
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.plan import listed
from sweeps.records.settings import TrialSettings

SOUGHT = {"invert": True, "target": TARGET}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(net_of(True).proto, "net.onnx")
    pixels, labels = images_of(192)
    for split, rows in (("valid", slice(0, 96)), ("test", slice(96, 192))):
        np.savez(f"cl_{split}.npz", images=pixels[rows], label=labels[rows])
    marked = pixels[96:].copy()
    marked[:, 0, 0, 0] = marked[:, 0, 7, 7] = 1.0
    np.savez("bd_test.npz", images=marked, label=np.full(96, TARGET), true_label=labels[96:])
    return tmp_path


def config(*triggers: dict[str, Any], sweep: dict[str, Any] | None = None, **data: Any) -> Config:
    files = {"clean_valid": "cl_valid.npz", "clean_test": "cl_test.npz", "layout": "NCHW", **data}
    tree = {"name": "a", "badnet": "net.onnx", "data": {**files, "triggers": list(triggers)}}
    tree |= {"sweep": sweep or {}}
    return make_config(tree, "a.yaml")


def test_one_of_each_kind_is_put_on_clean_images(folder, monkeypatch) -> None:
    told: list[str] = []
    inputs = load_inputs(input_files(config(SOUGHT), lambda doing, share: told.append(doing)))
    goals = set(inputs.valid.goals)
    assert goals == {TARGET} and len(inputs.valid.goals) >= 2 and inputs.test.goals == inputs.valid.goals
    assert any(f"trigger for class {TARGET}" in doing for doing in told)
    assert (inputs.valid.poisoned.true_labels != TARGET).all()
    assert PlainEvaluator(inputs.model, inputs.valid).badnet.attack_success > 0.8
    said = [f for f in look(inputs.model, inputs.valid) if f.name == "inverted-triggers"]
    assert said and said[0].level == "note"

    assert inputs.inverted == "class"
    for repair in ("none", "unlearn"):
        sweep = config(SOUGHT, sweep={"layer_sets": ["last:1"], "repair": [repair]}).sweep
        (trial, *_) = listed(sweep, inputs.model, inputs.inverted)
        assert trial.method.assumption == CLEAN_AND_TARGET
        assert "inverted" not in replace(trial, inverted=None).to_json()
        assert TrialSettings.from_json(trial.to_json()) == trial

    # What is searched once is kept in the storage; true poisoned images of test are only reported.
    monkeypatch.setattr(searches, "invert", None)
    again = load_inputs(input_files(config(SOUGHT, poisoned_test="bd_test.npz")))
    assert again.valid.digest == inputs.valid.digest
    assert len(again.test.goals) == 1 and again.test.poisoned.name.endswith("bd_test.npz")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"invert": True, "target": "next"}, "leads to one class, or auto"),
        ({"add": "a.npy", "target": "auto"}, "goes with invert: true"),
        ({"invert": True, "add": "a.npy", "target": 1}, "add and invert; expected one of"),
        ({"invert": True, "target": -1}, "target is -1"),
        ({"invert": False, "target": 1}, "no trigger; expected one of"),
    ],
)
def test_bad_settings(given, said) -> None:
    with pytest.raises(InputError, match=said):
        config(given)


def test_a_class_that_is_not_there(folder) -> None:
    with pytest.raises(InputError, match="classes 0 to 7"):
        load_inputs(input_files(config({"invert": True, "target": 8})))
