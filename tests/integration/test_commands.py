"""The commands' contract, on a small real sweep: JSON, resuming, picking, exit statuses."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from prune_core.frontier import hypervolume
from sweeps.cli import app
from sweeps.inputs.embedded_images import TRIGGER_COLUMN, TRIGGER_ROW
from sweeps.storage.record_store import RecordStore
from sweeps.storage.storage import Storage


def swept(goodnet, config, *more):
    said = goodnet("sweep", config, "--executor", "inline", "--json", *more)
    assert said.status == 0, said.err
    return said.json


def test_sweep_frontier_pick(goodnet, smoke_config, tmp_path) -> None:
    runs = tmp_path / "runs"
    first = swept(goodnet, smoke_config)
    assert set(first) == {
        "sweep",
        "trials",
        "done",
        "failed",
        "skipped",
        "frontier_size",
        "hypervolume",
        "mlflow_run_id",
        "records",
        "storage",
        "page",
        "findings",
    }
    assert (first["trials"], first["done"], first["failed"], first["skipped"]) == (8, 8, 0, 0)
    files = {p.name: p.read_bytes() for p in (runs / "trials").iterdir()}
    assert len(files) == 8

    again = swept(goodnet, smoke_config)
    assert (again["done"], again["skipped"]) == (0, 8)
    assert again == {**first, "done": 0, "skipped": 8}
    assert {p.name: p.read_bytes() for p in (runs / "trials").iterdir()} == files

    frontier = goodnet("frontier", "--storage", runs, "--json").json
    points = frontier["points"]
    assert len(points) == first["frontier_size"] > 0
    rates = np.array([[p["clean_accuracy"], p["attack_success"]] for p in points])
    assert frontier["hypervolume"] == pytest.approx(hypervolume(rates[:, 0], rates[:, 1]))
    for point in points:
        assert 0 <= point["attack_success"] <= 1 and point["test"]["clean_total"] > 0

    (listed,) = goodnet("list", "--storage", runs, "--json").json["sweeps"]
    assert (listed["sweep"], listed["state"]) == (first["sweep"], "finished")
    assert listed["trials"] == {"total": 8, "done": 8, "failed": 0, "stopped": 0, "running": 0}
    assert listed["hypervolume"] == pytest.approx(first["hypervolume"])
    assert goodnet("watch", "--storage", runs, "--json").json == listed
    (runs / "sweeps" / f"{first['sweep']}.now").unlink()  # then it is worked out from the records
    again = goodnet("watch", "--storage", runs, "--json").json
    assert {**again, "date": listed["date"]} == listed
    rows = goodnet("trials", "--storage", runs, "--csv", tmp_path / "trials.csv", "--json").json["trials"]
    assert len(rows) == 8 and len((tmp_path / "trials.csv").read_text().splitlines()) == 9

    picked = goodnet("pick", first["sweep"], "--knee", "--storage", runs, "--out", tmp_path / "out", "--json")
    assert picked.status == 0, picked.err
    paths = [file["path"] for file in picked.json["files"]]
    assert {path.rsplit(".", 1)[1] for path in paths} == {"onnx", "pt2", "h5", "safetensors"}
    assert picked.json["registered"].startswith("models:/")
    _reported(goodnet, runs, tmp_path, picked.json)

    named = ["--trial", points[-1]["trial_key"], "--step", points[-1]["step"]]
    again = goodnet("pick", *named, "--storage", runs, "--out", tmp_path / "named", "--no-register", "--json")
    assert again.status == 0, again.err
    assert again.json["point"].items() <= points[-1].items() and again.json["choice"] is None
    named[-1] = 10**6
    said = goodnet("pick", *named, "--storage", runs)
    assert said.status == 2 and "accepted no state there; the nearest are" in said.err


def _reported(goodnet, runs, folder, picked) -> None:
    """The page beside the files, and the same by a command of its own: signed off while the files are those
    that were measured."""
    facts = json.loads(Path(picked["report"]).with_suffix(".json").read_text())
    measured = {file["name"]: file for file in facts["files"]}
    for file in picked["files"]:
        told = measured[Path(file["path"]).name]
        assert (told["valid"], told["test"]) == (file["valid"], file["test"])
        assert told["sha256"] == hashlib.sha256(Path(file["path"]).read_bytes()).hexdigest()
    knee = ["report", "--storage", runs, "--picked", folder / "out", "--out", folder / "page.html", "--json"]
    again = goodnet(*knee)
    assert again.status == 0, again.err
    assert again.json["files"] == facts["files"] and again.json["chosen"]["point"] == picked["point"]
    assert (folder / "page.html").stat().st_size < 2_000_000
    with Path(picked["mask_file"]).open("a") as mask:
        mask.write(" ")
    assert goodnet(*knee).json["files"] == []


def test_every_trial_keeps_its_bound_on_the_written_file(goodnet, smoke_config, smoke_files, tmp_path):
    """X is hard: each trial's final mask, written as a file and measured, is within X points."""
    from prune_core.data.images import make_split, read_images
    from prune_core.evaluation.plain import PlainEvaluator
    from prune_core.export.zeroed import remeasured, write_goodnet
    from prune_core.model.model import load_model

    swept(goodnet, smoke_config)
    model = load_model(smoke_files.badnet)
    split = make_split(read_images(smoke_files.clean_valid), read_images(smoke_files.poisoned_valid))
    badnet = PlainEvaluator(model, split)
    store = RecordStore(Storage(str(tmp_path / "runs")))
    for name in store.storage.names("trials"):
        record = store.read(name.removesuffix(".parquet"))
        assert record is not None and record.valid is not None
        path, *_ = write_goodnet(model, record.mask, smoke_files.badnet, tmp_path / "g" / record.key)
        counts = remeasured(path, None, badnet)
        assert counts.clean_accuracy_fell(since=badnet.badnet) <= record.settings.x
        assert (counts.clean_correct, counts.attacked) == (record.valid.clean_correct, record.valid.attacked)


def test_a_new_threshold_runs_only_what_is_new(goodnet, smoke_config) -> None:
    swept(goodnet, smoke_config)
    more = swept(goodnet, smoke_config, "--set", "sweep.x_thresholds=[4,10,20]")
    assert (more["trials"], more["done"], more["skipped"]) == (12, 4, 8)


def test_a_damaged_record_is_made_again(goodnet, smoke_config, tmp_path) -> None:
    swept(goodnet, smoke_config)
    damaged = next((tmp_path / "runs" / "trials").iterdir())
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100])
    again = swept(goodnet, smoke_config)
    assert (again["done"], again["skipped"]) == (1, 7)
    assert damaged.stat().st_size > 100


def test_prune_is_the_sweeps_trial(goodnet, smoke_config, tmp_path) -> None:
    one = [
        "--set",
        "sweep.orders=[l1]",
        "--set",
        "sweep.layer_sets=[last:2]",
        "--set",
        "sweep.x_thresholds=[10]",
    ]
    alone = goodnet("prune", smoke_config, *one, "--json")
    assert alone.status == 0, alone.err
    result = alone.json
    assert {
        "trial_key",
        "settings",
        "findings",
        "badnet",
        "valid",
        "test",
        "pruned",
        "channels_pruned",
        "channels_total",
        "steps",
    } <= set(result)
    swept(goodnet, smoke_config)
    record = RecordStore(Storage(str(tmp_path / "runs"))).read(result["trial_key"])
    assert record is not None and record.valid is not None
    assert record.mask.by_layer() == result["pruned"]
    assert json.loads(json.dumps(record.valid.to_json())) == result["valid"]
    assert sum(step["accepted"] for step in result["steps"]) == result["channels_pruned"]
    assert all(ids == sorted(ids) for ids in result["pruned"].values())
    assert "few-images" in {f["name"] for f in result["findings"]} and "warning: 66 clean" in alone.err


def test_a_failing_trial_is_recorded_and_the_sweep_goes_on(goodnet, smoke_config, monkeypatch) -> None:
    from prune_core import orders

    def broken(*given: object) -> np.ndarray:
        raise RuntimeError("no such luck")

    monkeypatch.setitem(orders.ORDERS, "l1", orders.KnownOrder(broken, "nothing"))
    result = swept(goodnet, smoke_config)
    assert (result["done"], result["failed"]) == (4, 4)
    monkeypatch.undo()
    mended = swept(goodnet, smoke_config)
    assert (mended["done"], mended["failed"], mended["skipped"]) == (4, 0, 4)


def test_a_trigger_picture_stands_in_for_poisoned_files(goodnet, smoke_config, smoke_files) -> None:
    import h5py

    with h5py.File(smoke_files.poisoned_valid) as file:
        target = int(file["label"][0])
    trigger = (
        f"{{picture: {smoke_files.trigger}, row: {TRIGGER_ROW}, column: {TRIGGER_COLUMN}, target: {target}}}"
    )
    one = [
        "--set",
        "sweep.orders=[l1]",
        "--set",
        "sweep.layer_sets=[last:2]",
        "--set",
        "sweep.x_thresholds=[10]",
    ]
    by_file = goodnet("prune", smoke_config, *one, "--json").json
    stamped = goodnet(
        "prune",
        smoke_config,
        *one,
        "--json",
        "--set",
        "data.poisoned_valid=null",
        "--set",
        "data.poisoned_test=null",
        "--set",
        f"data.trigger={trigger}",
    )
    assert stamped.status == 0, stamped.err
    assert stamped.json["valid"] == by_file["valid"] and stamped.json["pruned"] == by_file["pruned"]


def test_inspect_and_evaluate_speak_to_people_too(goodnet, smoke_files) -> None:
    said = goodnet("inspect", smoke_files.badnet, "--against", smoke_files.badnet)
    assert said.status == 0 and "conv_1" in said.out
    said = goodnet(
        "evaluate",
        smoke_files.badnet,
        "--clean",
        smoke_files.clean_test,
        "--poisoned",
        smoke_files.poisoned_test,
        "--against",
        smoke_files.badnet,
    )
    assert said.status == 0 and "does not mean that the network is clean" in said.out


def test_evaluate_reads_images_in_any_form(goodnet, smoke_files, tmp_path) -> None:
    """The same images as NHWC of 0 to 1 under names of their own, and as HDF5 in the usual form."""

    def evaluated(clean: object, poisoned: object, *how: str) -> dict[str, object]:
        said = goodnet(
            "evaluate", smoke_files.badnet, "--clean", clean, "--poisoned", poisoned, *how, "--json"
        )
        assert said.status == 0, said.err
        return {key: said.json[key] for key in ("clean_correct", "clean_total", "attacked", "poisoned_total")}

    other = []
    for path in (smoke_files.clean_test, smoke_files.poisoned_test):
        with h5py.File(path) as file:
            pixels, labels = file["data"][:], file["label"][:]
        other.append(tmp_path / f"{path.stem}.npz")
        np.savez(other[-1], faces=pixels.transpose(0, 2, 3, 1) / 255.0, who=labels)
    how = ["--layout", "NHWC", "--keys", "images=faces", "--keys", "label=who", "--scale", "255"]
    assert evaluated(*other, *how) == evaluated(smoke_files.clean_test, smoke_files.poisoned_test)
    said = goodnet(
        "evaluate", smoke_files.badnet, "--clean", other[0], "--poisoned", other[1], "--keys", "x=y"
    )
    assert said.status == 2 and "keys has no role 'x'" in said.err


def test_doctor(goodnet, smoke_config) -> None:
    said = goodnet("doctor", smoke_config, "--executor", "inline", "--json")
    assert said.status == 0, said.out
    assert {"name", "ok", "detail"} <= set(said.json["checks"][0])
    said = goodnet("doctor", smoke_config, "--executor", "inline", "--set", "badnet=no.h5")
    assert said.status == 2 and "FAIL" in said.out


def test_help_teaches_every_command(goodnet) -> None:
    commands = {c.name or c.callback.__name__ for c in app.registered_commands}
    known = {"init", "inspect", "evaluate", "prune", "sweep", "study", "frontier", "pick", "doctor"}
    known |= {"audit", "list", "report", "scan", "trials", "watch"}
    assert commands == known
    for name in commands:
        said = goodnet(name, "--help")
        assert said.status == 0 and "--json" in said.out


def test_the_core_never_learns_of_the_cluster() -> None:
    code = (
        "import pkgutil, sys, importlib, prune_core\n"
        "for m in pkgutil.iter_modules(prune_core.__path__):\n"
        "    importlib.import_module('prune_core.' + m.name)\n"
        "print([m for m in sys.modules if m.split('.')[0] in ('ray', 'mlflow', 'sweeps')])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_price_stands_with_every_figure(goodnet, smoke_config, tmp_path) -> None:
    """The BadNet, what is lost on test, how far the sweep is, and what was found in the data."""
    first = swept(goodnet, smoke_config)
    said = goodnet("frontier", "--storage", tmp_path / "runs", "--json").json
    assert said["sweep"] == first["sweep"] and said["trials"] == {
        "total": 8,
        "done": 8,
        "failed": 0,
        "stopped": 0,
    }
    badnet = said["badnet"]["test"]["clean_correct"]
    for point in said["points"]:
        assert point["price"]["test"]["lost"] == badnet - point["test"]["clean_correct"]
    assert said["findings"] == first["findings"] and "few-images" in {f["name"] for f in said["findings"]}
    shown = goodnet("frontier", "--storage", tmp_path / "runs").out
    assert "8 of 8 trials done" in shown and "\nBadNet " in shown and "warning: 66 clean" in shown
    out = tmp_path / "out"
    picked = goodnet("pick", "--knee", "--storage", tmp_path / "runs", "--out", out, "--json").json
    assert picked["price"]["test"]["images"] == 66 and "On test accuracy is" in picked["why"]
    card = next(out.glob("*.md")).read_text()
    assert "- Clean accuracy on test is" in card and "What was found in the data" in card


def test_an_error_in_the_data_stops_a_sweep_before_its_first_trial(
    goodnet, smoke_config, smoke_files
) -> None:
    same = [f"data.{kind}_test={getattr(smoke_files, f'{kind}_valid')}" for kind in ("clean", "poisoned")]
    options = [option for one in same for option in ("--set", one)]
    said = goodnet("sweep", smoke_config, "--executor", "inline", "--json", *options)
    assert said.status == 2 and "the same file given twice?" in said.json["error"]["message"]
    assert not list((smoke_config.parent / "runs").rglob("*.parquet"))
    one = [
        part
        for key in ("orders=[l1]", "layer_sets=[last:1]", "x_thresholds=[4]")
        for part in ("--set", f"sweep.{key}")
    ]
    alone = goodnet("prune", smoke_config, "--json", *one, *options)
    assert alone.status == 2 and alone.json["error"] == said.json["error"]
    checks = goodnet("doctor", smoke_config, "--executor", "inline", "--json", *options)
    found = {c["name"]: c["level"] for c in checks.json["checks"]}
    assert checks.status == 2 and found["shared-images"] == "error"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("sweep.layer_sets=[[no_such_layer]]", "no_such_layer"),
        ("sweep.layer_sets=['last:9']", "last:9"),
    ],
)
def test_doctor_tries_the_search_space(change, says, goodnet, smoke_config) -> None:
    said = goodnet("doctor", smoke_config, "--executor", "inline", "--json", "--set", change)
    found = {c["name"]: c for c in said.json["checks"]}
    assert said.status == 2 and found["search space"]["level"] == "error"
    assert says in found["search space"]["detail"]


def test_doctor_tells_what_a_sweep_will_take(goodnet, smoke_config) -> None:
    said = goodnet("doctor", smoke_config, "--executor", "inline", "--json").json
    found = {c["name"]: c for c in said["checks"]}
    assert "8 trials" in found["search space"]["detail"]
    assert "on one worker" in found["effort"]["detail"] and "GiB" in found["effort"]["detail"]


def test_fractions_of_points_are_asked_about(goodnet, smoke_config) -> None:
    found = swept(goodnet, smoke_config, "--set", "sweep.x_thresholds=[0.04]")["findings"]
    assert "if 0.04 was meant as a fraction, write 4" in next(
        f["detail"] for f in found if f["name"] == "x-below-one"
    )
