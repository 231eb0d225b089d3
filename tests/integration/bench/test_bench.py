"""The benchmark runs, and compares like with like."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import as_model
from torch import nn

from prune_core.data.images import read_images
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.masks import ChannelMask
from prune_core.model.model import load_model
from tests.bench import gpu
from tests.bench.__main__ import TRIALS
from tests.bench.author.loop import as_deepid, predict
from tests.bench.gpu_nets import resnet
from tests.bench.lab import ROOT
from tests.bench.nets import __main__ as nets
from tests.bench.nets import measure
from tests.bench.page import lines
from tests.bench.scaling.simulate import Costs, simulate


@pytest.mark.acceptance
def test_the_authors_loop_runs_the_lab_network(shared_data: Path) -> None:
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    images = read_images(shared_data / "csaw" / "cl_valid.h5").keeping(range(100))
    pixels = torch.from_numpy(images.floats(0, 100))
    with torch.inference_mode():
        torch.testing.assert_close(as_deepid(model)(pixels), model.logits(pixels), rtol=1e-4, atol=1e-3)
    assert (predict(as_deepid(model), images) == images.labels).all()


def test_the_simulation_of_workers_in_closed_form() -> None:
    free = Costs(driver=0.0, logging=0.0, worker=0.0, latency=0.0, driver_requests=2, worker_requests=8)
    assert simulate(1, 10.0, free).efficiency == pytest.approx(1.0)
    beside = Costs(0.0, 0.0, 0.5, 0.05, 0, 10)  # a second beside each ten of work, for one worker
    assert simulate(1, 10.0, beside, rounds=400).efficiency == pytest.approx(10 / 11, rel=5e-3)
    limit = Costs(0.02, 0.0, 0.0, 0.04, 2, 0)  # a hand-out takes 100 ms: ten a second, or 100 workers
    assert limit.most == pytest.approx(10.0)
    found = simulate(400, 10.0, limit)
    assert found.efficiency == pytest.approx(0.25, rel=0.02) and found.busy == pytest.approx(1.0, abs=0.01)
    logged = Costs(0.02, 0.08, 0.0, 0.0, 0, 0)  # MLflow's thread takes half of the core while both want it
    assert (logged.most, logged.logged) == (pytest.approx(25.0), pytest.approx(10.0))
    found = simulate(1000, 10.0, logged)
    assert found.efficiency == pytest.approx(0.25, rel=0.02) and found.behind > 0


CORE_ALONE = """
import sys
sys.modules.update(dict.fromkeys({names}))  # to import one of them fails
from tests.bench.gpu import main
sys.exit(main(sys.argv[1:]))
"""
NOT_CORE = ["sweeps", "pydantic", "omegaconf", "ray", "mlflow", "optuna", "pandas", "pyarrow", "PIL", "scipy"]


def test_the_gpu_benchmark_needs_the_core_alone(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-W", "ignore", "-c", CORE_ALONE.replace("{names}", repr(NOT_CORE))]
    given = ["--size", "tiny", "--device", "cpu", "--out", str(out)]
    done = subprocess.run([*command, *given], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.read_text())
    assert found["equal"] and set(found["nets"]) == {"DeepID", "ResNet-18"}
    for net in found["nets"].values():
        assert net["compared"]["masks"] >= 5 and net["compared"]["steps"] > 0
        assert set(net["timed"]["trials"]) == set(gpu.TRIALS) and net["timed"]["peak_gib"] > 0


def test_the_gpu_benchmark_sees_counts_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    model, pictures = resnet(4, 0, torch.device("cpu"))
    size, split = gpu.SIZES["tiny"], pictures.split(16, 1)
    assert gpu.compared(model, split, torch.device("cpu"), size)["counts_equal"]
    monkeypatch.setattr(gpu, "on", lambda model, device: resnet(4, 2, device)[0])
    found = gpu.compared(model, split, torch.device("cpu"), size)
    assert not found["counts_equal"] and found["differ"]


@pytest.mark.slow
def test_the_table_of_nets_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual loop with a hook counts as the plain evaluator does; every question is counted as by it."""
    monkeypatch.setattr(measure, "FEW", 8)
    found = measure.measured("small", 16, 1.0)
    assert [row["depth"] for row in found["layers"]] == [1, 5, 9, 12, 16, 20]
    assert all(row["equal"] for row in found["layers"])
    assert found["layers"][0]["operations"] > found["layers"][-1]["operations"]
    assert sum("| yes |" in line for line in nets.lines([found], "picture.png")) == 6
    net, split = measure.NETS["small"]().eval(), measure.PICTURES.split(16, 1)
    last = [m for m in net.modules() if isinstance(m, nn.Conv2d)][-1]
    model = as_model(net, measure.PICTURES.shape, "small")
    counts = PlainEvaluator(model, split).counts(ChannelMask.of({model.layers[-1].name: [3]}))
    assert measure.by_hooks(net, last, 3, split) == [counts.clean_correct, counts.attacked]


@pytest.mark.slow
def test_the_whole_benchmark_in_small(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    command = [
        sys.executable,
        "-m",
        "tests.bench",
        "--images",
        "64",
        "--candidates",
        "1",
        "--trials",
        "8",
        "--nets",
        "small",
        "--out",
        str(page),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=1500)
    text = page.read_text()
    assert "6 of 6" in text, "a shared grid must give the records of separate runs"
    assert "| ray |" in text and "| inline |" in text
    assert "| small | 20 of 20 |" in page.with_name("performance-nets.md").read_text()
    assert page.with_name("performance-scaling.png").stat().st_size > 10_000


def test_the_page_of_the_benchmark_holds_nothing_that_it_would_wipe_out() -> None:
    """``make bench`` writes the page whole: what is written by hand goes to docs/performance-more.md."""
    case = dict.fromkeys(
        ("wall", "steps", "accepted", "refused_early", "build", "peak_gib", "evaluations"), 1
    )
    row = (0, 1.0, 1.0, 1.0, 1.0)
    found = {
        "images": 64,
        "rate": {"flops_per_second": 1.0},
        "author": {"seconds": [1.0], "real": True},
        "keras": {"seconds": [1.0]},
        "plain": case,
        "trials": dict.fromkeys(TRIALS, case),
        "half": case,
        "counted": 64,
        "operations": dict.fromkeys(TRIALS, {"trial_per_image": 1, "plain_per_image": 1, "evaluations": 1}),
        "grid": {"trials": 27, "wall": 1.0, "separate": [(1.0, 1)], "equal": 1, "peak_gib": 1.0},
        "many": {
            "trials": 1000,
            "pure": {"cpu": 1.0, "wall": 1.0},
            **{name: {"rows": [row, row, (1000, *row[1:])], "after": 1.0} for name in ("inline", "ray")},
        },
    }
    shape = [_shape(line) for line in lines(found, "performance-scaling.png")]
    there = [_shape(line) for line in (ROOT / "docs" / "performance.md").read_text().splitlines()]
    assert [*dict.fromkeys(shape)] == [*dict.fromkeys(there)]


def _shape(line: str) -> str:
    """Without figures; of a table's row nothing but that it is one."""
    return "|" if line.startswith("|") else re.sub(r"[\d.,]+", "0", line)
