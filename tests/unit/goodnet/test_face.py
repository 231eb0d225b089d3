"""import goodnet: light, complete, and every name is what it says."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import goodnet
from prune_core.testing.net import images_for, tiny_net

ROOT = Path(goodnet.__file__).resolve().parents[1]
HEAVY = ("torch", "numpy", "onnx", "ray", "mlflow", "pydantic", "pyarrow")


def test_importing_it_is_light() -> None:
    program = (
        "import sys, time; begun = time.process_time(); import goodnet; dir(goodnet); "
        "print(time.process_time() - begun); print(*[n for n in sys.argv[1:] if n in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", program, *HEAVY], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.splitlines()
    assert float(said[0]) < 0.2 and said[1] == ""


def test_every_name_is_there_and_the_same_for_type_checkers() -> None:
    assert all(getattr(goodnet, name) is not None for name in goodnet.__all__)
    assert set(goodnet.__all__) <= set(dir(goodnet))
    tree = ast.parse(Path(goodnet.__file__).read_text())
    typed = next(n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")
    imported = {alias.asname: f"{n.module}:{alias.name}" for n in typed.body for alias in n.names}
    assert imported == {**goodnet._FROM, "testing": "goodnet:testing"}
    with pytest.raises(AttributeError, match="no attribute 'prun'"):
        goodnet.prun  # noqa: B018


def test_python_m_goodnet_is_the_command() -> None:
    said = subprocess.run(
        [sys.executable, "-m", "goodnet", "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert said.returncode == 0 and "frontier" in said.stdout


@pytest.fixture(scope="module")
def pruned() -> goodnet.PruneResult:
    return goodnet.prune(tiny_net(), images_for("true"), layers=["first", "second"], order="l1", x=20)


def test_a_trial_in_memory(pruned: goodnet.PruneResult) -> None:
    assert len(pruned.mask) > 0 and pruned.counts.attacked < pruned.badnet.attacked
    assert pruned.counts.clean_accuracy_fell(since=pruned.badnet) <= 20
    assert pruned.steps[-1].mask == pruned.mask and pruned.counts.margin is not None
    rows = pruned.frontier()
    assert rows and all(pruned.steps[row["step"] - 1].mask.by_layer() == row["mask"] for row in rows)
    assert [r["clean_accuracy"] for r in rows] == sorted((r["clean_accuracy"] for r in rows), reverse=True)
    assert [r["attack_success"] for r in rows] == sorted((r["attack_success"] for r in rows), reverse=True)


def test_what_is_saved_is_what_was_counted(pruned: goodnet.PruneResult, tmp_path: Path) -> None:
    files = pruned.save(tmp_path / "made" / "mine")
    assert sorted(files) == ["goodnet-onnx", "mask", "onnx", "pt2", "safetensors", "small-onnx"]
    assert all(path.is_file() for path in files.values())
    again = goodnet.prune(
        goodnet.load(files["onnx"]), pruned.data, layers=["first"], order="index", policy="margin", x=0
    )
    assert again.badnet.clean_correct == pruned.counts.clean_correct
    assert again.badnet.attacked == pruned.counts.attacked


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"net": "net.onnx"}, "net is a str; expected what goodnet.load"),
        ({"data": (1, 2)}, "data is a tuple; expected a Split"),
        ({"x": 101}, "x is 101; expected percentage points of clean accuracy, 0 to 100"),
        ({"x": float("nan")}, "x is nan; expected percentage points"),
        ({"order": "across:tailor"}, "'across:tailor' is unknown; did you mean 'taylor'"),
        ({"order": "across:index"}, "write 'index', which goes layer by layer"),
        ({"policy": "best-frist"}, "'best-frist' is unknown; did you mean 'best-first'"),
        ({"policy": "scale"}, "'scale' makes networks otherwise than by pruning"),
        ({"layers": "last:9"}, "K in last:K must be 1 to 3"),
        ({"layers": ["fourth"]}, "no convolution named 'fourth'; it has first, second, third"),
        ({"seed": -1}, "seed is -1; expected a whole number"),
        ({"evaluator": "fast"}, "evaluator 'fast' is unknown"),
    ],
)
def test_a_mistake_is_one_line(change: dict, line: str) -> None:
    given = {"net": tiny_net(), "data": images_for("true"), "layers": "last:1", "order": "l1", **change}
    with pytest.raises(goodnet.InputError, match=line) as error:
        goodnet.prune(given.pop("net"), given.pop("data"), **given)
    assert "\n" not in str(error.value)


def test_a_target_that_the_network_has_not_is_told() -> None:
    pixels = np.zeros((4, 2, 6, 6), np.float32)
    for given, line in (
        (([0, 1, 2, 0], pixels, 7), "the target is 7, but tiny net has 3 classes"),
        (([0, 1, 5, 0], pixels, 1), "labels of clean_x hold 5, but tiny net has 3 classes"),
    ):
        with pytest.raises(goodnet.InputError, match=line):
            goodnet.prune(tiny_net(), goodnet.Split.from_arrays(pixels, *given), layers="last:1")
    with pytest.raises(goodnet.InputError, match="images are .* takes"):
        wide = np.zeros((4, 2, 6, 7), np.float32)
        goodnet.prune(tiny_net(), goodnet.Split.from_arrays(wide, [0, 1, 2, 0], wide), layers="last:1")
