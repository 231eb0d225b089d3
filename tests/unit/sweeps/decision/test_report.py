"""The page for who decides: every figure is in the facts, and the facts are what was counted."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import make_counts, make_manifest
from reported import TRIALS, facts_of, figures_of, rest_of, small_report, words_of
from small_nets import small_split

from prune_core.counts import Counts
from prune_core.data.checks.findings import Finding
from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.errors import InputError
from prune_core.methods import CLEAN, CLEAN_AND_TARGET, POISONED, WEIGHTS_ALONE
from sweeps.choosing.criteria import MaxAccuracyDrop
from sweeps.config.schema import make_config
from sweeps.config.triggers import inverted_for
from sweeps.decision.audits import audit_rows
from sweeps.decision.evidence import Evidence, evidence_of, read_scan
from sweeps.decision.facts import Given, Told
from sweeps.decision.figures import FORMS, looked_up
from sweeps.decision.images import black_and_white, png
from sweeps.decision.ladder import RUNGS, ladder, takes
from sweeps.decision.page import report_html
from sweeps.records.settings import TrialSettings
from sweeps.storage.storage import Storage

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}$\\frac"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, Given]:
    return small_report(tmp_path_factory.mktemp("report"))


def checked(told: Told) -> str:
    """The page, having checked that whatever it says in figures is in its facts."""
    page = report_html(told)
    facts = json.loads(json.dumps(told.facts))
    assert facts_of(page) == facts
    figures = figures_of(page)
    assert len(figures) > 40
    for path, form, text in figures:
        assert FORMS[form](looked_up(facts, path)) == text
    for path, text in words_of(page):
        assert text.startswith(str(looked_up(facts, path)))
    rest = rest_of(page).replace("95 %", "").replace("SHA-256", "")
    assert not re.findall(r".{0,30}\d.{0,30}", rest), "a figure that is not marked as one"
    for outside in re.findall(r'(?:src|href)="(.{0,12})', page):
        assert outside.startswith("data:image/")
    return page


def test_every_figure_is_in_the_facts(small: tuple[Told, Given]) -> None:
    page = checked(small[0])
    assert "Is <code>badnet.h5</code> safe to use" in page and "default-src 'none'" in page
    assert len(page.encode()) < 400_000


def test_the_facts_are_what_the_records_hold(small: tuple[Told, Given]) -> None:
    told, given = small
    facts, records = told.facts, {r.key: r for r in given.records}
    for split in ("valid", "test"):
        assert Counts.from_json(facts["badnet"][split]) == getattr(given.records[0], f"badnet_{split}")
    point = facts["chosen"]["point"]
    tried = 0
    for entry in [point, *(rung["best"] for rung in (*facts["ladder"], *facts["methods"]) if rung["best"])]:
        states = {s.step: s for s in records[entry["trial_key"]].states()}
        state = states[entry["step"]]
        assert Counts.from_json(entry["valid"]) == state.counts
        again = given.test.counts(state.mask)
        assert Counts.from_json(entry["test"]).with_margins_of(again) == again
        tried += 1
    assert tried >= 4
    assert facts["trials"]["done"] == len(given.records) == 3
    assert facts["data"]["valid"]["clean"] == len(given.valid.split.clean) == 96
    assert facts["repeat"]["digests"] == dict(given.manifest.digests)


def test_the_trigger_is_shown_beside_the_picture_that_it_was_put_on(small: tuple[Told, Given]) -> None:
    told, given = small
    assert len(told.facts["examples"]) == len(told.examples) == 4
    for one, pictures in zip(told.facts["examples"], told.examples, strict=True):
        assert pictures.clean is not None and pictures.difference is not None
        assert one["target"] == 3 == one["badnet"]["triggered"] and one["shows"] == one["badnet"]["clean"]
        assert one["goodnet"]["triggered"] != 3
    rows = [one["row"] for one in told.facts["examples"]]
    assert rows[0] == 0 and rows[-1] == len(given.test.split.poisoned) - 1


def test_the_channel_of_the_trigger_has_the_largest_gap(small: tuple[Told, Given]) -> None:
    channels = small[0].facts["channels"]
    (first, *_) = channels["named"]
    assert (first["layer"], first["channel"], first["rank"]) == ("c2", 4, 1)
    assert [layer["name"] for layer in channels["layers"]][-1] == "c2"
    assert all(len(layer["gaps"]) == layer["channels"] for layer in channels["layers"])


def test_a_rung_without_trials_says_how_to_fill_it(small: tuple[Told, Given]) -> None:
    rungs = small[0].facts["ladder"]
    assert [rung["trials"] for rung in rungs] == [1, 0, 0, 2, 0]
    page = report_html(small[0])
    assert page.count("not tried; this would:") == 3


@pytest.mark.parametrize("rung", [r for r in RUNGS if r.takes != CLEAN_AND_TARGET])
def test_what_is_said_to_fill_a_rung_does(rung: Any) -> None:
    """Trials of such a configuration, and of no other assumption unless the sweep's policies bring it."""
    (fill,) = rung.fill
    key, _, value = fill.partition("=")
    names = [name.strip() for name in value.strip("[]").split(",")]
    sweep = {"orders": ["l1"], key.partition(".")[2]: names}
    config = make_config({"name": "s", "badnet": "embedded", "sweep": sweep}, "a test").sweep
    for policy in config.policies:
        for repair in config.repair:
            assert TrialSettings("l1", ("c",), 4.0, policy, 0, repair).method.assumption == rung.takes


@pytest.mark.parametrize(("target", "rung"), [("auto", CLEAN), (3, CLEAN_AND_TARGET)])
def test_triggers_that_were_found_take_no_poisoned_image(target: Any, rung: str) -> None:
    data = {"clean_valid": "c.npz", "clean_test": "t.npz", "triggers": [{"invert": True, "target": target}]}
    config = make_config({"name": "s", "badnet": "net.onnx", "data": data}, "a test")
    found = inverted_for(config.data.triggers)
    assert takes(TRIALS[0], found) == rung and takes(TRIALS[2], found) == WEIGHTS_ALONE
    assert replace(TRIALS[0], inverted=found).method.assumption == rung
    assert takes(TRIALS[0], inverted_for(make_manifest().config.data.triggers)) == POISONED


def test_the_best_of_a_rung_is_chosen_on_validation(small: tuple[Told, Given]) -> None:
    given = small[1]
    asked = []

    def count(state: Any) -> Counts:
        asked.append(state)
        return make_counts()

    rungs = ladder(given.records, given.valid.badnet, MaxAccuracyDrop(0.0), count)
    assert len(asked) == sum(rung["best"] is not None for rung in rungs)
    for rung in rungs:
        if rung["best"] is not None:
            assert rung["best"]["valid"]["clean_correct"] >= given.valid.badnet.clean_correct


def two_triggers(seed: int) -> Split:
    one = small_split(seed)
    other = one.poisoned.pixels.copy()
    other[:, 1, :2, :2] = 3
    again = LabeledImages(other, one.poisoned.labels, one.poisoned.true_labels, "poisoned-again")
    return make_split(one.clean, [one.poisoned, again])


def all_to_all(seed: int) -> Split:
    one = small_split(seed, truth=False)
    pixels = one.clean.pixels.copy()
    pixels[:, 1, 4:, 4:] = 3
    truth = one.clean.labels
    return make_split(one.clean, LabeledImages(pixels, (truth + 1) % 4, truth, "next"), "next", 4)


@pytest.mark.parametrize("made", [two_triggers, all_to_all])
def test_several_triggers_and_no_single_target(made: Any, tmp_path: Path) -> None:
    told, _ = small_report(tmp_path, (made(1), made(2)), trials=TRIALS[:1])
    page = checked(told)
    if made is two_triggers:
        assert "the worst of the triggers" in page and "each trigger:" in page
    else:
        assert "the class after the true one" in page


def test_pictures_that_are_no_pairs_are_shown_alone(tmp_path: Path) -> None:
    splits = []
    for seed in (1, 2):
        one = small_split(seed, truth=False)
        mixed = np.roll(np.arange(len(one.poisoned)), 5)
        splits.append(make_split(one.clean, replace(one.poisoned.keeping(mixed), true_labels=None)))
    told, _ = small_report(tmp_path, (splits[0], splits[1]), trials=TRIALS[:1])
    page = checked(told)
    assert told.facts["examples"][0]["shows"] is None and told.examples[0].clean is None
    assert "is not known, so it is shown alone" in page and "may rightly be of the attacker" in page


@pytest.mark.parametrize(
    ("attacked", "says"),
    [
        (0, "this trigger works"),
        (20, "The repair is not sure:"),
        (60, "Nor is the network proposed here:"),
    ],
)
def test_the_answer_is_as_sure_as_the_counts(small: tuple[Told, Given], attacked: int, says: str) -> None:
    facts = json.loads(json.dumps(small[0].facts))
    facts["chosen"]["point"]["test"] = make_counts(95, attacked, 96, 73 if attacked else 400).to_json()
    page = checked(replace(small[0], facts=facts))
    answers = ("this trigger works", "The repair is not sure:", "Nor is the network proposed here:")
    assert [words for words in answers if words in page] == [says]


def test_nothing_to_repair(tmp_path: Path) -> None:
    """A control: poisoned images that no backdoor answers to."""
    splits = []
    for seed in (1, 2):
        one = small_split(seed)
        plain = one.clean.keeping(one.clean.labels != 3)
        target = np.full(len(plain), 3)
        splits.append(make_split(one.clean, LabeledImages(plain.pixels, target, plain.labels, "unmarked")))
    told, _ = small_report(tmp_path, (splits[0], splits[1]), trials=TRIALS[:1])
    page = checked(told)
    assert told.facts["chosen"] is None and "No backdoor was seen" in page and 'id="price"' not in page


@pytest.mark.slow
def test_changed_weights_are_said(tmp_path: Path) -> None:
    settings = (TrialSettings("none", ("c2",), 100.0, "baseline:fine-pruning"),)
    told, _ = small_report(tmp_path, trials=settings)
    page = checked(told)
    assert "This is not pruning alone." in page and "published defence" in page
    if told.facts["chosen"]["point"]["weights"] is not None:
        assert "Weights were trained on validation pictures" in page


def entry(audit: str, setting: Any, seed: int, rate: float, light: str) -> dict[str, Any]:
    return {
        "audit": audit,
        "setting": setting,
        "seed": seed,
        "clean": [90, 96],
        "attacked": [round(70 * rate), 70],
        "attack_success": rate,
        "low": rate / 2,
        "high": (1 + rate) / 2,
        "light": light,
        "why": HOSTILE,
    }


SCAN: dict[str, Any] = {
    "model": HOSTILE,
    "images": 96,
    "held_out": 48,
    "classes": 4,
    "verdict": "suspected",
    "why": HOSTILE,
    "suspected": [3],
    "triggers": [
        {"class": 3, "kind": "patch", "size": 4.0, "success": 0.97},
        {"class": 1, "kind": "add", "size": 0.125, "success": 0.5},
    ],
}
AUDIT = {
    "sweep": "small-1",
    "trial": "t",
    "step": 1,
    "subjects": {
        "goodnet": [
            entry("finetune", {"poisoned_images": 5, "steps": 40}, 0, 0.1, "amber"),
            entry("finetune", {"poisoned_images": 5, "steps": 40}, 1, 0.6, "red"),
            entry("changed-trigger", {"change": HOSTILE}, 0, 0.0, "green"),
            entry("changed-trigger", {"change": "moved"}, 0, 0.0, "green"),
        ],
        "badnet": [entry("finetune", {"poisoned_images": 5, "steps": 40}, 0, 0.9, "red")],
    },
    "skipped": [{"audit": "int8", "why": HOSTILE}],
}


def test_scan_and_audits_stand_on_the_page(small: tuple[Told, Given]) -> None:
    picture = png(np.zeros((3, 6, 6)), 0, 1)
    drawn = {(0, "pattern"): picture, (1, "mask"): picture, (1, "stamped"): picture}
    evidence = Evidence(SCAN, drawn, AUDIT)
    more = {"scan": SCAN, "audit": AUDIT, "lights": audit_rows(AUDIT)["count"]}
    told = replace(small[0], evidence=evidence, facts={**small[0].facts, **more})
    page = checked(told)
    assert "<script>alert" not in page and "<img src=x" not in page
    rows = re.findall(r"<tr>(?:(?!</tr>).)*?class=\"light.*?</tr>", page, re.S)
    assert len(rows) == 3 and "red" in rows[0] and rows[0].count("attack_success") == 3
    assert "97.00 %" in page and 'alt="trigger found"' in page and 'alt="where it lies"' in page
    assert more["lights"] == {"green": 2, "amber": 0, "red": 1}
    assert "Nobody has attacked" not in page and "Nobody has searched" not in page


def test_an_attack_that_the_network_as_handed_in_holds_too_says_nothing() -> None:
    held, broken = (entry("int8", {}, 0, rate, light) for rate, light in ((0.0, "green"), (0.9, "red")))
    for badnet, light, green in ((broken, "green", 1), (held, "idle", 0)):
        found = audit_rows({"subjects": {"goodnet": [held], "badnet": [badnet]}, "skipped": []})
        assert [row["light"] for row in found["rows"]] == [light] and found["count"]["green"] == green


def test_the_answer_says_that_the_backdoor_wakes_up_again(small: tuple[Told, Given]) -> None:
    told = small[0]
    woken = {"audit": AUDIT, "lights": audit_rows(AUDIT)["count"]}
    assert "can be woken again" in checked(replace(told, facts={**told.facts, **woken}))
    calm = {**AUDIT, "subjects": {"goodnet": [entry("int8", {}, 0, 0.0, "green")], "badnet": []}}
    found = {"audit": calm, "lights": audit_rows(calm)["count"]}
    assert "can be woken again" not in checked(replace(told, facts={**told.facts, **found}))


@pytest.mark.parametrize(
    ("given", "says"), [(True, "The trigger that was given works"), (False, "found by another search")]
)
def test_a_trigger_that_was_found_is_not_called_given(
    small: tuple[Told, Given], given: bool, says: str
) -> None:
    told = small[0]
    data = {**told.facts["data"], "inverted": "clean images", "test_given": given}
    scan = {**SCAN, "verdict": "nothing found", "suspected": []}
    page = checked(replace(told, facts={**told.facts, "data": data, "scan": scan}))
    assert says in page and ("trigger that was given works" in page) == given
    assert ("not to be trusted" in page) != given and ("the trigger works." in page) == given


def test_names_from_files_are_only_text(tmp_path: Path) -> None:
    named = [replace(s, clean=replace(s.clean, classes=(HOSTILE,) * 4)) for s in map(small_split, (1, 2))]
    told, _ = small_report(
        tmp_path, (named[0], named[1]), trials=TRIALS[:1], findings=(Finding("warning", "few", HOSTILE),)
    )
    facts = told.facts
    facts["model"] |= {"file": HOSTILE, "architecture": HOSTILE}
    facts["channels"]["layers"][0]["name"] = HOSTILE
    page = report_html(told)
    assert "<script>alert" not in page and "<img src=x" not in page and "49$" not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(1)") > 5


def test_the_page_stays_small_with_many_classes_and_layers(small: tuple[Told, Given]) -> None:
    told = small[0]
    rng = np.random.default_rng(0)
    layers = [
        {"name": f"layer{n}", "channels": 512, "pruned": list(range(0, 512, 2)),
         "gaps": rng.normal(size=512).tolist()}
        for n in range(12)
    ]  # fmt: skip
    classes = [{"class": c, "images": 9, "badnet": 9, "goodnet": 1} for c in range(1283)]
    facts = json.loads(json.dumps(told.facts))
    facts["channels"]["layers"] = layers
    facts["chosen"]["price"]["classes"] = classes
    page = report_html(replace(told, facts=facts))
    assert len(page.encode()) < 3_000_000
    assert "More classes lose" in page


def test_black_and_white_of_the_usual_ranges() -> None:
    assert black_and_white(np.array([0.0, 0.3])) == (0.0, 1.0)
    assert black_and_white(np.array([0, 255], np.uint8)) == (0.0, 255.0)
    assert black_and_white(np.array([-2.0, 2.5])) == (-2.0, 2.5)
    big = png(np.full((3, 300, 200), np.nan), 0, 1)
    assert big.startswith(b"\x89PNG") and len(big) < 2000


def scan_file(folder: Path, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "stamped.png").write_bytes(png(np.full((3, 6, 6), 0.5), 0, 1))
    (folder / "mask.png").write_bytes(b"no picture")
    (folder.parent / "outside.png").write_bytes(png(np.zeros((3, 6, 6)), 0, 1))
    first, second = SCAN["triggers"]
    pictures = {"pattern": "../outside.png", "mask": "mask.png", "stamped": "stamped.png"}
    theirs = {"model_digest": "b" * 8, "triggers": [{**first, **pictures}, second], "rows": [1]}
    (folder / "scan.json").write_text(json.dumps({**SCAN, **theirs, **changes}))
    return folder / "scan.json"


def test_a_scan_is_read_with_the_pictures_that_lie_beside_it(tmp_path: Path) -> None:
    told, pictures = read_scan(scan_file(tmp_path / "scan"), "b" * 8)
    assert told == SCAN and list(pictures) == [(0, "stamped")]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_digest": "another"}, "a scan of another network"),
        ({"verdict": "clean"}, "not a scan"),
        ({"triggers": 3}, "not a scan"),
        ({"suspected": ["3"]}, "not a scan"),
        ({"triggers": [{"class": 1, "kind": "patch", "size": float("nan"), "success": 1}]}, "not a scan"),
    ],
)
def test_what_is_no_scan_of_this_network(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says):
        read_scan(scan_file(tmp_path / "scan", **changes), "b" * 8)
    with pytest.raises(InputError, match="not a scan"):
        read_scan(tmp_path / "none.json", "b" * 8)


def test_a_scan_in_the_storage_is_found_where_it_is_of_this_network(tmp_path: Path) -> None:
    storage, manifest = Storage(str(tmp_path)), make_manifest()
    assert evidence_of(storage, manifest, None, None) == Evidence()
    scan_file(tmp_path / "scan")
    found = evidence_of(storage, manifest, None, None)
    assert found.scan == SCAN and len(found.pictures) == 1
    scan_file(tmp_path / "scan", model_digest="another")
    assert evidence_of(storage, manifest, None, None) == Evidence()
