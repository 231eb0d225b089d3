"""docs/api.md names everything that is public, and the site is built of it; the notebook runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import goodnet

ROOT = Path(goodnet.__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"


def test_the_page_names_every_public_name_and_no_other() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    shown = re.findall(r"^::: goodnet\.(\w+)$", page, re.M)
    assert sorted([*shown, "__version__"]) == sorted(goodnet.__all__)
    assert "`goodnet.__version__`" in page


def test_every_public_name_says_what_it_is() -> None:
    for name in set(goodnet.__all__) - {"__version__", "testing"}:
        assert len((getattr(goodnet, name).__doc__ or "").split()) > 5, name


@pytest.mark.slow
def test_the_site_is_built(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "api.html").read_text()
    for name in ("prune", "Split", "register_order", "testing"):
        assert f'id="goodnet.{name}"' in page
    assert "percentage points of clean accuracy that pruning may cost" in " ".join(page.split())
    assert not re.search(r'(src|href)="https?://fonts', page)


@pytest.mark.slow
def test_the_notebook_runs_and_shows_what_it_did(tmp_path: Path) -> None:
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    source = "\n".join(cell.source for cell in cells)
    assert sum(bool(line.strip()) for line in source.splitlines()) <= 20
    assert all(cell.outputs and cell.execution_count for cell in cells)
    # Figures differ from machine to machine (the network is trained), so their form is compared.
    ends = "\nassert result.counts.attack_success < 0.5 * result.badnet.attack_success"
    ends += "\nassert result.counts.clean_accuracy_fell(since=result.badnet) <= 4 and result.frontier()"
    done = subprocess.run(
        [sys.executable, "-c", source + ends],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    stored = "".join(o.text for cell in cells for o in cell.outputs if o.output_type == "stream")
    figures = re.compile(r"\d+\.\d")
    assert figures.sub("#", done.stdout) == figures.sub("#", stored)
