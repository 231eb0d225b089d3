"""Trials that change weights, end to end: record, storage, frontier, table, picture, picked files."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from conftest import Said
from small_nets import TRIGGER_CHANNEL, small_split, write_badnet

from prune_core.data.images import Split
from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from prune_core.repair.finetune import COURSES
from prune_core.repair.scaling import ScalingSettings, scale_channels
from sweeps.config.schema import load_config, make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.records.settings import TrialSettings, part_versions, trial_key
from sweeps.storage.manifest import read_manifest, read_records
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage
from sweeps.trial import run_trial

Goodnet = Callable[..., Said]


def write_files(folder: Path, truth: bool = True) -> dict[str, Any]:
    """BadNet and images; the configuration's tree."""
    write_badnet(folder / "badnet.h5")
    tree: dict[str, Any] = {
        "badnet": str(folder / "badnet.h5"),
        "data": {},
        "storage": str(folder / "runs"),
        "sweep": {
            "orders": ["index"],
            "layer_sets": [["c2"]],
            "x_thresholds": [20],
            "policies": ["margin"],
        },
    }
    for name, seed in (("valid", 1), ("test", 2)):
        split: Split = small_split(seed, truth=truth)
        for side in ("clean", "poisoned"):
            images = getattr(split, side)
            path = folder / f"{side}_{name}.h5"
            with h5py.File(path, "w") as file:
                file["data"], file["label"] = images.pixels, images.labels
                if images.true_labels is not None:
                    file["true_label"] = images.true_labels
            tree["data"][f"{side}_{name}"] = str(path)
    return tree


@pytest.fixture(autouse=True)
def short_courses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What courses come to is asked elsewhere (``test_finetune``, ``test_repair_figures``)."""
    monkeypatch.setattr(
        "prune_core.repair.finetune.COURSES", [replace(course, rounds=3) for course in COURSES]
    )


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    tree = write_files(tmp_path)
    tree["sweep"] |= {"policies": ["margin", "scale"], "repair": ["none", "finetune"]}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def run(tree: dict[str, Any], **settings: Any) -> Any:
    config = make_config({"name": "small", **tree}, "a test")
    inputs = load_inputs(input_files(config), config.sweep.repair)
    evaluators = Evaluators.of(inputs, "plain", config.resources.memory_gb)
    given = {"order": "index", "layers": ("c2",), "x": 20.0, "policy": "margin", **settings}
    return run_trial(TrialSettings(**given), inputs, evaluators), inputs


def test_trials_and_their_keys(tmp_path: Path) -> None:
    """Policies without an order have one trial for all orders; a repair is part of the key, and
    trials without one have the form that they had before there were repairs."""
    tree = write_files(tmp_path)
    tree["sweep"] |= {
        "policies": ["margin", "scale"],
        "orders": ["index", "l1"],
        "seeds": [0, 1],
        "repair": ["none", "finetune"],
    }
    config = make_config({"name": "small", **tree}, "a test")
    inputs = load_inputs(input_files(config), config.sweep.repair)
    trials = trials_of(config.sweep, inputs.model)
    # margin: 2 orders (no chance in it); scale: 2 seeds; repaired margin: 2 x 2; repaired scale: 2
    assert len(trials) == 2 + 2 + 4 + 2 == len({inputs.key(t) for t in trials})
    assert {t.order for t in trials if t.policy == "scale"} == {"none"}
    plain = TrialSettings("index", ("c2",), 20.0, "margin")
    assert plain.to_json() == {"order": "index", "layers": ["c2"], "x": 20.0, "policy": "margin", "seed": 0}
    tuned = replace(plain, repair="finetune")
    assert TrialSettings.from_json(tuned.to_json()) == tuned != plain
    assert str(tuned).startswith("margin, then finetune, index, seed 0")


def test_a_repair_that_has_changed_makes_other_keys_and_only_that() -> None:
    """Worked out by the version before: scaling alone is what it was, fine-tuning after it is not."""
    scaled = TrialSettings("none", ("c2",), 4.0, "scale")
    assert trial_key(scaled, "badnet", "valid", "test") == "a7353074cfe4ddc39736"
    tuned = trial_key(replace(scaled, repair="finetune"), "badnet", "valid", "test")
    assert tuned != "a373addbdf1a270f4aed"
    assert part_versions(["index"], ["margin"], ["none"]) == {}


def test_one_repair_is_a_list_too_and_unknown_ones_are_named(tmp_path: Path) -> None:
    tree = write_files(tmp_path)
    tree["sweep"]["repair"] = "unlearn"
    assert make_config({"name": "n", **tree}, "f").sweep.repair == ("unlearn",)
    tree["sweep"]["repair"] = ["finetun"]
    with pytest.raises(InputError, match="f: 'sweep.repair': repair 'finetun' is unknown; did you mean "):
        make_config({"name": "n", **tree}, "f")


def test_a_scaling_trial(tmp_path: Path) -> None:
    """Each stage within X is a state; the record comes back from the storage with its weights."""
    record, inputs = run(write_files(tmp_path), policy="scale", order="none")
    assert record.status == "done", record.reason
    assert record.steps == () and len(record.states()) >= 2
    store = RecordStore(Storage(str(tmp_path / "runs")))
    store.write(record)
    back = store.read(record.key)
    assert back == record and [n.weights for n in back.nets] == [None] * len(back.nets)
    state = back.states()[-1]
    assert state.weights is not None and state.settings == record.settings
    weights = store.weights(record.key, state.weights)
    made = {record.number(n): n for n in record.nets}[state.step]
    assert weights.keys() == made.weights.keys()
    assert all(np.array_equal(weights[k], made.weights[k]) for k in weights)
    assert record.valid.attacked < record.badnet_valid.attacked


def test_states_beyond_x_are_none(tmp_path: Path) -> None:
    """X is a hard bound for nets too: with a bound that nothing can meet there is no state."""
    record, _ = run(write_files(tmp_path), policy="scale", order="none", x=0.0)
    fell = [n.counts.clean_accuracy_fell(since=record.badnet_valid) for n in record.nets]
    assert [n.accepted for n in record.nets] == [f <= 0 for f in fell]


def test_a_repaired_trial_holds_its_mask(tmp_path: Path) -> None:
    """Its states are repaired nets alone; what was pruned is still zero in each."""
    record, inputs = run(write_files(tmp_path), repair="finetune")
    assert record.status == "done", record.reason
    assert record.steps and record.nets
    assert ChannelMask.of({"c2": [TRIGGER_CHANNEL]}).channels <= record.mask.channels
    assert [s.step for s in record.states()] == [
        len(record.steps) + 1 + n for n, net in enumerate(record.nets) if net.accepted
    ]
    for net in record.nets:
        assert net.mask == record.mask
        if net.weights:
            kernels = inputs.model.with_weights(net.weights).kernels()["c2"]
            assert not kernels[record.mask.by_layer()["c2"]].any()


def test_what_is_zero_is_in_the_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a net that was scaled, mildly, before its repair: a channel is gone in the weights if and
    only if the mask, which is what is reported, says so; whatever round is taken."""
    mild = ScalingSettings(pressures=(0.5,), epochs=5)
    monkeypatch.setattr("prune_core.repair.scaling.scale_channels", partial(scale_channels, settings=mild))
    monkeypatch.setattr("prune_core.repair.finetune._not_beaten", lambda nets: list(range(len(nets))))
    record, inputs = run(write_files(tmp_path), policy="scale", order="none", repair="finetune")
    assert record.status == "done", record.reason
    assert len(record.nets) > 5
    for net in record.nets:
        kernels = inputs.model.with_weights(net.weights or {}).kernels()["c2"]
        zero = [channel for channel, kernel in enumerate(kernels) if not kernel.any()]
        assert zero == net.mask.by_layer().get("c2", [])


def test_unlearning_needs_true_labels(tmp_path: Path, goodnet: Goodnet) -> None:
    """Refused in one line before a trial begins; done, and marked, where they are known."""
    (tmp_path / "without").mkdir()
    for folder, known in ((tmp_path, True), (tmp_path / "without", False)):
        tree = write_files(folder, truth=known)
        tree["sweep"]["repair"] = "unlearn"
        (folder / "c.yaml").write_text(yaml.safe_dump(tree))
        for command in (["prune"], ["sweep", "--executor", "inline"]):
            said = goodnet(*command[:1], folder / "c.yaml", *command[1:], "--json")
            if known:
                assert said.status == 0, said.err
            else:
                assert said.status == 2 and "Traceback" not in said.err
                assert "repair unlearn needs the true labels of poisoned images" in said.err
                assert "poisoned_valid.h5 has no field 'true_label'" in said.err
    found = goodnet("prune", tmp_path / "c.yaml", "--json").json
    assert found["kind"] == "unlearn"
    assert found["assumption"] == "poisoned images with their true labels"


def test_a_sweep_tells_what_was_done_and_hands_it_over(
    config_file: Path, tmp_path: Path, goodnet: Goodnet
) -> None:
    """Every point names kind and assumption; a picked net with changed weights is written in every
    format and measured again; a second sweep does nothing; lost weights are one clear line."""
    assert goodnet("sweep", config_file, "--executor", "inline", "--json").status == 0
    storage = Storage(str(tmp_path / "runs"))
    manifest = read_manifest(storage, None)
    records = read_records(storage, manifest.trials)
    assert {r.settings.procedure for r in records} == {
        "margin",
        "scale",
        "margin, then finetune",
        "scale, then finetune",
    }
    said = goodnet("frontier", "--storage", tmp_path / "runs", "--json").json
    kinds = {(p["kind"], p["policy"], p["repair"], p["assumption"]) for p in said["points"]}
    poisoned = "poisoned images, true labels not used"
    assert kinds <= {
        ("pruning", "margin", "none", poisoned),
        ("scaling", "scale", "none", poisoned),
        ("finetune", "margin", "finetune", poisoned),
        ("finetune", "scale", "finetune", poisoned),
    }
    assert set(said["hypervolume_by_kind"]) == {"pruning", "scaling", "finetune"}
    again = goodnet("sweep", config_file, "--executor", "inline", "--json").json
    assert again["done"] == 0 and again["skipped"] == again["trials"] == len(records)

    only_scaled = ["--set", "sweep.policies=[scale]", "--set", "sweep.repair=none"]
    assert goodnet("sweep", config_file, "--executor", "inline", "--json", *only_scaled).status == 0
    picked = goodnet(
        "pick", "--knee", "--storage", tmp_path / "runs", "--out", tmp_path / "out", "--no-register", "--json"
    )
    assert picked.status == 0, picked.err
    point = picked.json["point"]
    assert point["kind"] == "scaling" and point["weights"]
    assert "This is not pruning alone (scaling: scale)" in picked.json["why"]
    assert "flatter" in picked.json["why"]
    for file in picked.json["files"]:
        if "goodnet" not in Path(file["path"]).stem[-8:]:  # the N+1-class net is another net
            assert file["test"]["clean_correct"] == point["test"]["clean_correct"]
            assert file["test"]["attacked"] == point["test"]["attacked"]
    found = goodnet(
        "inspect", picked.json["files"][0]["path"], "--against", tmp_path / "badnet.h5", "--json"
    ).json
    assert TRIGGER_CHANNEL in found["changed"]["c2"]

    lost = tmp_path / "runs" / "weights" / f"{point['trial_key']}.safetensors"
    whole = lost.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")  # every number another one
    lost.write_bytes(whole[:start] + bytes(b ^ 1 for b in whole[start:]))
    pick = ["pick", "--knee", "--storage", tmp_path / "runs", "--out", tmp_path / "other", "--no-register"]
    said = goodnet(*pick)
    assert said.status == 2 and f"{lost.name}: not the weights that the trial made" in said.err
    lost.unlink()
    said = goodnet(*pick)
    assert said.status == 2 and f"{lost.name}: no such file" in said.err
    assert not (tmp_path / "other").exists()


def test_a_sweep_with_repairs_is_drawn(config_file: Path, tmp_path: Path, goodnet: Goodnet) -> None:
    from sweeps.reports.frontier_html import frontier_page
    from sweeps.reports.frontier_png import frontier_png
    from sweeps.reports.seed_table import seed_table, to_markdown
    from sweeps.results import measured_frontier
    from sweeps.sweep import TestCounter
    from sweeps.tracking.trial_files import stepped_metrics, trial_files

    assert goodnet("sweep", config_file, "--executor", "inline", "--json").status == 0
    config = load_config(config_file)
    storage, inputs = Storage(config.storage), load_inputs(input_files(config), config.sweep.repair)
    manifest = read_manifest(storage, None)
    records = read_records(storage, manifest.trials)
    counter = TestCounter(inputs, config.evaluator, config.resources.memory_gb, storage)
    scaled = [r for r in records if r.settings.policy == "scale" and r.settings.repair == "none"]
    frontier = measured_frontier(storage, "scaled", scaled, counter)
    page = frontier_page(records, frontier, "small")
    assert '"triangle-up"' in page and "scaling" in page
    assert "poisoned images, true labels not used" in page
    assert frontier_png(records, frontier, "small").startswith(b"\x89PNG")
    table = to_markdown(seed_table(records, {"c2": 5}))
    assert "scale (scaling; poisoned images, true labels not used), X = 20%" in table
    for record in scaled:
        told = json.loads(trial_files(record)["trial.json"])
        assert told["kind"] == "scaling" and len(told["nets"]) == len(record.nets)
        steps = [m.step for m in stepped_metrics(record) if m.name == "attack_success"]
        assert steps == sorted(set(steps)) and len(steps) == len(record.states()) + 1
