"""The choice by hand, and what is handed over: files that do what the record says."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import factories
import numpy as np
import pytest

from prune_core.counts import Counts
from prune_core.data.images import LabeledImages, Split, make_split
from prune_core.errors import InputError
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.zeroed import ExportMismatch
from prune_core.keras_files.h5 import write_keras
from prune_core.masks import ChannelMask
from prune_core.model.model import load_model
from sweeps.choosing.criteria import Knee, MaxAccuracyDrop, criterion_of
from sweeps.choosing.named import Named, with_state
from sweeps.pick import choose, pick, register
from sweeps.records.trial_record import State
from sweeps.reports.model_card import card, cost_tags, in_torch_first
from sweeps.results import Frontier, FrontierPoint
from sweeps.storage.manifest import Manifest

BADNET = factories.make_counts(1000, 500)  # of 1000 clean and 500 poisoned images


def frontier(*points: tuple[int, int, int]) -> Frontier:
    """Of (clean correct, attacked, channels); on test 5 fewer are right and 10 more attacked."""
    made = []
    for number, (correct, attacked, pruned) in enumerate(points):
        counts = factories.make_counts(correct, attacked)
        mask = ChannelMask.of({"conv_4": range(pruned)})
        test = factories.shifted(counts, (-5, 10))
        made.append(FrontierPoint(f"trial-{number}", number, mask, counts, test))
    return Frontier(tuple(made), 0.5)


FOUR = frontier((995, 480, 1), (971, 200, 5), (960, 25, 9), (700, 5, 30))


def chosen(points: Frontier = FOUR, **criterion: Any) -> str:
    return choose(points, BADNET, criterion_of(**criterion))[0].trial_key


@pytest.mark.parametrize(
    ("points", "trial"),
    [
        (0.5, "trial-0"),
        (2.89, "trial-0"),
        (2.9, "trial-1"),  # 29 of 1000 are 2.9 points; as floats, 100 * (1 - 0.971) is more
        (4, "trial-2"),
        (100, "trial-3"),
    ],
)
def test_largest_accuracy_drop(points: float, trial: str) -> None:
    assert chosen(max_accuracy_drop=points) == trial


@pytest.mark.parametrize(
    ("rate", "trial"), [(1, "trial-0"), (0.4, "trial-1"), (0.05, "trial-2"), (0.01, "trial-3")]
)
def test_largest_attack_success(rate: float, trial: str) -> None:
    assert chosen(max_attack_success=rate) == trial


def test_knee() -> None:
    """0.960 - 0.05 = 0.91 is more than 0.571, 0.035 and 0.69."""
    assert chosen(knee=True) == "trial-2"


def test_a_drop_that_looks_like_a_fraction_is_asked_about() -> None:
    said = choose(FOUR, BADNET, criterion_of(max_accuracy_drop=0.5))[1]
    assert "0.5 of a percentage point; if a fraction was meant, that is 50" in said
    assert "fraction" not in choose(FOUR, BADNET, criterion_of(max_accuracy_drop=4))[1]


def test_ties_go_to_accuracy_and_then_to_fewer_channels() -> None:
    equal = frontier((960, 100, 9), (970, 100, 9), (970, 100, 7))
    assert chosen(equal, max_accuracy_drop=5) == "trial-2"
    assert chosen(equal, max_attack_success=0.5) == "trial-2"


@pytest.mark.parametrize(
    ("criterion", "says"),
    [
        ({"max_accuracy_drop": 0.4}, r"nearest loses 0.500 points.*--max-accuracy-drop 0.5 admits"),
        ({"max_attack_success": 0.005}, r"nearest has 0.0100 .*--max-attack-success 0.01 admits"),
        ({"max_accuracy_drop": -1.0}, "0 to 100"),
        ({"max_accuracy_drop": float("nan")}, "0 to 100"),
        ({"max_accuracy_drop": 101.0}, "0 to 100"),
        ({"max_attack_success": 5.0}, r"from 0 to 1 \(5 per cent is 0.05\)"),
        ({"max_attack_success": float("nan")}, "from 0 to 1"),
        ({}, "no criteria"),
        ({"knee": True, "max_accuracy_drop": 4.0}, "2 criteria.*exactly one"),
        ({"trial": "trial-1"}, "give both"),
        ({"trial": "trial-1", "step": 99}, "not a state of the frontier"),
        ({"knee": True, "trial": "trial-1", "step": 1}, "2 criteria"),
    ],
)
def test_a_choice_that_cannot_be_made(criterion: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        choose(FOUR, BADNET, criterion_of(**criterion))


@pytest.mark.parametrize("option", ["max_accuracy_drop", "max_attack_success"])
def test_the_value_that_an_error_names_does_admit_the_point(option: str) -> None:
    """33.33.. points and 0.3333..: rounded to the nearest, the value would fail again."""
    badnet = factories.make_counts(3, 3, clean_total=3, poisoned_total=3)
    counts = factories.make_counts(2, 1, clean_total=3, poisoned_total=3)
    one = Frontier((FrontierPoint("t", 0, ChannelMask(), counts, counts),), 0.0)
    with pytest.raises(InputError) as refused:
        choose(one, badnet, criterion_of(**{option: 0.0}))
    named = str(refused.value).removesuffix(" admits it").split()[-1]
    assert named in ("33.34", "0.3334")
    assert choose(one, badnet, criterion_of(**{option: float(named)}))[0] is one.points[0]


def test_a_state_is_named_by_trial_and_step() -> None:
    point, why = choose(FOUR, BADNET, criterion_of(trial=FOUR.points[1].trial_key, step=FOUR.points[1].step))
    assert point is FOUR.points[1] and "as asked for" in why


def test_a_named_state_need_not_be_on_the_frontier() -> None:
    better = factories.make_record("a", [(985, 100)])
    worse = factories.make_record("b", [(980, 300), None, (970, 90)])
    found = factories.make_frontier([better, worse])
    assert [p.trial_key for p in found.points] == ["a", "b"]
    asked: list[int] = []

    def test(state: State) -> Counts:
        asked.append(state.step)
        return factories.make_counts(977, 301)

    wider = with_state(found, [better, worse], Named("b", 1), test)
    point, _ = choose(wider, BADNET, Named("b", 1))
    assert asked == [1] and (point.valid.clean_correct, point.test.clean_correct) == (980, 977)
    assert with_state(found, [better, worse], Named("b", 3), test) is found and asked == [1]
    with pytest.raises(InputError, match="accepted no state there; the nearest are 1, 3"):
        with_state(found, [better, worse], Named("b", 2), test)
    with pytest.raises(InputError, match="no such trial"):
        with_state(found, [better, worse], Named("zz", 2), test)


def test_an_empty_frontier() -> None:
    with pytest.raises(InputError, match="no points"):
        choose(Frontier((), 0.0), BADNET, Knee())


def test_why_is_honest() -> None:
    """Intervals by hand, Wilson at 95 %: 25 of 500 is 3.41 to 7.28 per cent."""
    _, why = choose(FOUR, BADNET, MaxAccuracyDrop(4.0))
    assert "lowest attack success among the 3 of 4 frontier points that lose at most 4 po" in why
    assert "96.00 % (960 of 1000;" in why and "4.00 points below the BadNet's" in why
    assert "5.00 % (25 of 500; 95 % interval 3.41 to 7.28)" in why
    assert "On test, which had no part in the choice: clean accuracy 95.50 % (955 of 1000;" in why
    assert "7.00 % (35 of 500;" in why
    assert why.endswith("it does not show that the network is clean.") and "this one trigger" in why
    assert "still succeeds" not in why
    _, weak = choose(FOUR, BADNET, MaxAccuracyDrop(0.5))
    assert "still succeeds on half of the test images or more" in weak


class Case:
    """A small random BadNet, its splits, and a frontier whose counts were measured on it."""

    def __init__(self, folder: Path, keep_bias: bool = False) -> None:
        self.badnet = folder / "bad.h5"
        write_badnet(self.badnet)
        model = load_model(self.badnet)
        self.valid = PlainEvaluator(model, random_split(1))
        self.test = PlainEvaluator(model, random_split(2))
        self.masks = [
            ChannelMask.of(pruned, keep_bias)
            for pruned in ({"c2": [1]}, {"c2": [1, 2]}, {"c1": [0, 2], "c2": [1, 2]})
        ]
        points = [
            FrontierPoint("trial-a", number, mask, self.valid.counts(mask), self.test.counts(mask))
            for number, mask in enumerate(self.masks)
        ]
        self.frontier = Frontier(tuple(points), 0.5)
        made = factories.make_manifest([factories.make_record("trial-a")])
        digests = {"badnet": model.digest, "valid": self.valid.split.digest, "test": self.test.split.digest}
        self.manifest = replace(made, digests=digests)

    def pick(self, out: Path, **changes: Any) -> dict[str, Any]:
        given: dict[str, Any] = {
            "manifest": self.manifest,
            "frontier": self.frontier,
            "valid": self.valid,
            "test": self.test,
            "badnet_path": self.badnet,
            "out": out,
        }
        return pick(**{**given, "criterion": MaxAccuracyDrop(100.0), **changes})


def write_badnet(path: Path) -> None:
    """Two convolutions of 4 channels on 5 x 5 grey images, 4 classes; random weights."""

    def layer(class_name: str, name: str, **config: object) -> dict[str, object]:
        return {"class_name": class_name, "config": {"name": name, **config}}

    conv = {"filters": 4, "kernel_size": [2, 2], "activation": "relu"}
    layers = [
        layer("InputLayer", "in", batch_input_shape=[None, 5, 5, 1]),
        layer("Conv2D", "c1", **conv),
        layer("Conv2D", "c2", **conv),
        layer("Flatten", "flat"),
        layer("Dense", "out", units=4, activation="softmax"),
    ]
    rng = np.random.default_rng(0)
    shapes: dict[str, Sequence[int]] = {"c1": (2, 2, 1, 4), "c2": (2, 2, 4, 4), "out": (36, 4)}
    weights = {
        name: {"kernel": rng.normal(size=shape), "bias": rng.normal(size=4)} for name, shape in shapes.items()
    }
    write_keras(path, {"class_name": "Sequential", "config": {"name": "n", "layers": layers}}, weights)


def random_split(seed: int) -> Split:
    rng = np.random.default_rng(seed)
    pixels = rng.normal(size=(60, 1, 5, 5)).astype(np.float32)
    clean = LabeledImages(pixels, rng.integers(0, 4, 60), name="clean")
    return make_split(clean, LabeledImages(pixels + 2, np.zeros(60, np.int64), name="poisoned"))


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, dict[str, Any]]:
    """A pick, seconds of work, for tests that only look at it."""
    folder = tmp_path_factory.mktemp("picked")
    case = Case(folder)
    return case, case.pick(folder / "out")


@pytest.fixture
def found(handed_over: tuple[Case, dict[str, Any]]) -> dict[str, Any]:
    return copy.deepcopy(handed_over[1])


@pytest.mark.parametrize("keep_bias", [False, True])
def test_files_are_measured_again(tmp_path: Path, keep_bias: bool) -> None:
    case = Case(tmp_path, keep_bias)
    found = case.pick(tmp_path / "out")
    point = choose(case.frontier, case.valid.badnet, MaxAccuracyDrop(100.0))[0]
    assert found["point"] == point.to_json() and found["registered"] is None
    kinds = {file["kind"]: file for file in found["files"]}
    assert list(kinds) == ["onnx", "small-onnx", "pt2", "goodnet-onnx", "keras", "safetensors"]
    for kind, file in kinds.items():
        for split, expected in (("valid", point.valid), ("test", point.test)):
            if kind == "goodnet-onnx":
                assert file[split]["attacked"] <= expected.attacked
                continue
            again = Counts.from_json(file[split])
            assert replace(again, margin=0) == replace(expected, margin=0)
            assert (again.margin is None) == (kind == "pt2")
        if kind not in ("safetensors", "keras"):
            assert {file[split]["outside"]["images"] for split in ("valid", "test")} == {120}
        if kind not in ("safetensors", "pt2"):
            assert load_model(file["path"]).layers[0].name == "c1"
    assert ChannelMask.from_json(json.loads(Path(found["mask_file"]).read_text())) == point.mask
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert json.loads(json.dumps(found))["why"] == found["why"]


def test_the_card_tells_what_the_files_do(found: dict[str, Any]) -> None:
    text = Path(found["card"]).read_text()
    attacked = found["files"][0]["test"]["attacked"]
    assert found["why"] in text and found["badnet"]["sha256"] in text
    assert text.count(f"({attacked}/60)") >= 2  # once a file
    assert "- `c2`: 1" in text and str(Path(found["card"]).parent) not in text
    small = found["cost"]["small"]
    assert f"| {small['parameters']:,} |" in text and f"| {small['multiply_adds']:,} |" in text
    assert small["parameters"] < found["cost"]["pruned"]["parameters"]
    for file in found["files"]:
        assert text.count(f"`{Path(file['path']).name}`") >= 2  # its figures, and what it is
    tags = cost_tags(found["cost"])
    assert tags["small.parameters"] == str(small["parameters"]) and len(tags) == 10


def test_the_card_tells_whether_anybody_has_attacked_it_again(found: dict[str, Any]) -> None:
    point = found["point"]
    command = f"`goodnet audit {found['sweep']} --trial {point['trial_key']} --step {point['step']}`"
    assert f"It was not attacked again when these files were written; {command} does that" in card(found)
    assert f"It was attacked again (int8): {command}" in card({**found, "audits": ["int8"]})


def test_names_from_files_make_no_markup(found: dict[str, Any]) -> None:
    evil = "a`|\n# <script>"
    found["point"]["mask"]["pruned"] = {evil: [1]}
    found["badnet"]["file"] = evil
    found["settings"] |= {"layers": [evil], "policy": evil, "order": evil, "repair": evil}
    found["point"] |= {"trial_key": evil, "kind": evil, "assumption": evil, "weights": None}
    found |= {"sweep": evil, "why": evil}
    found["cost"]["held_back"] = {evil: {f"{evil} pads": [2]}}
    text = card(found)
    assert "\n# <script>" not in text and "a`|" not in text
    assert "<script>" not in re.sub("`[^`\n]*`", "", text)
    assert "- `a   # <script>`: 1" in text and "`a   # <script>` keeps 2" in text


def test_the_card_tells_what_pixels_are_multiplied_by(found: dict[str, Any]) -> None:
    assert "pixels as in the image files; for Keras" in card(found)
    text = card({**found, "scale": 1 / 255})
    assert "pixels as in the image files times 0.00392156863; for Keras" in text


def test_the_card_tells_how_to_load(
    handed_over: tuple[Case, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three lines for each format run, and the networks say what ours says."""
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    case, found = handed_over
    images = case.valid.split.clean.floats(0, 60)
    expected = case.valid.reply(case.valid.split.clean, ChannelMask.from_json(found["point"]["mask"])).classes
    blocks = re.findall(r"```python\n(.*?)```", Path(found["card"]).read_text(), re.S)
    assert len(blocks) == len(found["files"])
    monkeypatch.chdir(Path(found["card"]).parent)
    files = in_torch_first(found["files"])
    assert [file["kind"] for file in files[:3]] == ["pt2", "safetensors", "onnx"]
    for block, file in zip(blocks, files, strict=True):
        assert len(block.strip().splitlines()) == 3
        names: dict[str, Any] = {"images": images}
        exec(block, names)
        if file["kind"] == "safetensors":
            assert set(names["weights"]) >= {"c1/kernel", "out/bias"}
        elif file["kind"] == "goodnet-onnx":
            same = names["classes"] == expected
            assert same.any() and set(names["classes"][~same]) <= {4}
        else:
            np.testing.assert_array_equal(names["classes"], expected)


def test_the_registry_is_asked_last(tmp_path: Path) -> None:
    seen: list[Any] = []

    def register(path: Path, result: dict[str, Any]) -> str:
        seen.extend([path, Path(result["card"]).is_file()])
        return "models:/goodnet/1"

    found = Case(tmp_path).pick(tmp_path / "out", register=register)
    assert found["registered"] == "models:/goodnet/1"
    assert seen == [Path(found["files"][0]["path"]), True]


def test_a_record_that_the_file_does_not_bear_out(tmp_path: Path) -> None:
    case = Case(tmp_path)
    wrong = tuple(
        replace(p, test=replace(p.test, clean_correct=p.test.clean_correct + 1)) for p in case.frontier.points
    )
    with pytest.raises(ExportMismatch, match="the pruned network gave"):
        case.pick(tmp_path / "out", frontier=Frontier(wrong, 0.5))
    assert [p.suffix for p in (tmp_path / "out").iterdir()] == [".json"]  # the mask, which is right


@pytest.mark.parametrize(
    ("key", "name"), [("badnet", "the BadNet"), ("valid", "the validation"), ("test", "the test")]
)
def test_other_files_than_the_sweeps_are_refused(tmp_path: Path, key: str, name: str) -> None:
    case = Case(tmp_path)
    manifest: Manifest = replace(case.manifest, digests={**case.manifest.digests, key: "other"})
    with pytest.raises(InputError, match=f"{name}.* is not the one that the sweep used"):
        case.pick(tmp_path / "out", manifest=manifest)
    assert not (tmp_path / "out").exists()


def test_the_registry_keeps_the_report_beside_the_model(tmp_path: Path) -> None:
    kept: dict[str, bytes] = {}

    class Registry:
        def register(self, *args: Any) -> str:
            kept.update(args[6])
            return "1"

    files = {name: tmp_path / name for name in ("net.onnx", "net.md", "net.json", "net-report.html")}
    for name, path in files.items():
        path.write_text(name)
    result = {
        "point": {"trial_key": "t", "step": 3},
        "why": "it is",
        "cost": {"pruned": {}, "small": {}},
        "files": [],
        "card": str(files["net.md"]),
        "mask_file": str(files["net.json"]),
        "report": str(files["net-report.html"]),
    }
    assert register(Registry(), factories.make_manifest(), files["net.onnx"], result).endswith("/1")
    assert kept == {name: name.encode() for name in ("net.md", "net.json", "net-report.html")}
