"""A short run of the fuzz suite; ``make fuzz`` is the long one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.feed import CORPUS, SUFFIX, WHAT, make_corpus, read_corpus
from fuzz.make_images import unpack

from prune_core.reader import server as reader_process

ROOT = Path(__file__).resolve().parents[3]


def test_hostile_files_end_in_one_line() -> None:
    """Several hundred inputs of all kinds: no traceback, no hang, no growth, nothing outside touched."""
    count = 60 * len(SUFFIX)
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", "--count", str(count), "--seed", "7", "--json"],
        cwd=ROOT,
        # As the Makefile has it; stacks of more threads would count against the limit of memory.
        env={**os.environ, "PYTHONPATH": ".:tests:tests/nets", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sum(kind["done"] for kind in found["kinds"].values()) == count
    for kind in found["kinds"].values():
        assert kind["failed"] == 0 and kind["taken"] > 0 and kind["refused"] > 0
        assert kind["slowest_us"] < 6e6 and kind["peak_kb"] < 2**20
    assert found["outside"] == [] and found["failures"] == []


def test_the_corpus_is_what_our_code_makes(tmp_path: Path) -> None:
    """By number and size; bytes may differ where libraries pack in another way."""
    made, kept = make_corpus(tmp_path), read_corpus()
    assert kept.keys() == SUFFIX.keys() and made.keys() == kept.keys() - {"yaml"}
    for kind, files in made.items():
        sizes = [len(data) for data in kept[kind]]
        assert sizes == pytest.approx([len(data) for data in files], rel=0.05), kind


def test_the_corpus_is_read(tmp_path: Path) -> None:
    """Whole files: nearly all are taken, so that mutations get far."""
    for kind, act in WHAT.items():
        files = sorted((CORPUS / kind).iterdir())
        if kind == "folder":  # which such a file describes
            for number, described in enumerate(files):
                unpack(described.read_bytes(), tmp_path / str(number))
            files = sorted(tmp_path.iterdir())
        said = [reader_process.answer({"what": act, "path": str(path)})[0] for path in files]
        assert not any("fault" in found for found in said)
        assert sum("result" in found for found in said) >= 0.8 * len(files), said
