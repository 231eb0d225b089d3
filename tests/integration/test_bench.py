"""The benchmark runs, and compares like with like."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from prune_core.data.images import read_images
from prune_core.model.model import load_model
from tests.bench.author import as_deepid, predict
from tests.bench.lab import ROOT


@pytest.mark.acceptance
def test_the_authors_loop_runs_the_lab_network(shared_data: Path) -> None:
    model = load_model(shared_data / "csaw" / "bd_weights.h5")
    images = read_images(shared_data / "csaw" / "cl_valid.h5").keeping(range(100))
    pixels = torch.from_numpy(images.floats(0, 100))
    with torch.inference_mode():
        torch.testing.assert_close(as_deepid(model)(pixels), model.logits(pixels), rtol=1e-4, atol=1e-3)
    assert (predict(as_deepid(model), images) == images.labels).all()


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
        "--out",
        str(page),
    ]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=1500)
    text = page.read_text()
    assert "6 of 6" in text, "a shared grid must give the records of separate runs"
    assert "| ray |" in text and "| inline |" in text
    assert page.with_name("performance-scaling.png").stat().st_size > 10_000
