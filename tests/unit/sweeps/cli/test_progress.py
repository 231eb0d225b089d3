"""What a person sees of a sweep: words without colour where that is asked for, nothing where quiet."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from factories import make_manifest, make_record

from sweeps.cli import app, show
from sweeps.cli.console import stderr
from sweeps.cli.progress import SweepProgress, WatchProgress
from sweeps.looking import watched
from sweeps.overview.standing import Standing, write_standing
from sweeps.progress import Progress
from sweeps.storage.manifest import write_manifest
from sweeps.storage.storage import Storage

RECORDS = [make_record("a", [(980, 250)]), make_record("b", reason="no pairs")]


@pytest.fixture(autouse=True)
def console_of_its_own() -> Iterator[None]:
    stderr.cache_clear()
    yield
    stderr.cache_clear()


def follow(progress: SweepProgress) -> None:
    with progress:
        progress.planned(make_manifest(RECORDS), [], 4)
        progress.candidates("a", Progress("pruning", 5, 20, 3))
        for record in RECORDS:
            progress.ended(record)
        progress.redraw.last = 0.0
        progress.candidates("c", Progress("pruning", 5, 20, 3))


def test_a_line_now_and_then_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    follow(SweepProgress())
    said = capsys.readouterr().err
    assert "sweep sweep-1: 4 trials" in said and "last tried 5 of 20" in said and "no pairs" in said


def test_quiet_says_only_what_is_amiss(capsys: pytest.CaptureFixture[str]) -> None:
    follow(SweepProgress(quiet=True))
    (line,) = capsys.readouterr().err.splitlines()
    assert "no pairs" in line


@pytest.mark.parametrize("colour", [True, False])
def test_no_color_is_honoured(
    colour: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    follow(SweepProgress())
    said = capsys.readouterr().err
    assert "hypervolume 0.4900, X 2: 98.00%/50.00%" in said and "1 failed" in said
    assert ("\x1b[38" in said or "\x1b[3" in said) == colour


def test_a_sweep_that_runs_elsewhere_is_followed_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, manifest = Storage(str(tmp_path)), make_manifest(RECORDS)
    write_manifest(storage, manifest)
    running = Standing(manifest.name, "running", time.time(), 4, 1, running=2)
    write_standing(storage, running)
    seen = []
    progress = WatchProgress()

    def shown(standing: dict[str, object]) -> None:
        progress(standing)
        seen.append(standing["state"])
        if len(seen) == 2:
            write_standing(storage, replace(running, state="finished", done=4))

    with progress:
        end = watched(None, str(tmp_path), False, shown, pause=0.0)
    assert seen == ["running", "running", "finished"] and end["trials"]["done"] == 4
    assert capsys.readouterr().err == "1 of 4 trials, hypervolume 0.0000, 2 running\n"


def test_one_look(goodnet, tmp_path: Path) -> None:
    storage, manifest = Storage(str(tmp_path)), make_manifest(RECORDS)
    write_manifest(storage, manifest)
    write_standing(storage, Standing(manifest.name, "running", time.time(), 4, 1, running=2))
    said = goodnet("watch", "--once", "--storage", tmp_path)
    assert said.status == 0 and said.out.startswith("sweep sweep-1, running: 1 of 4 trials") and not said.err
    assert goodnet("watch", "--once", "--json", "--storage", tmp_path).json["trials"]["running"] == 2
    assert goodnet("watch", "none", "--storage", tmp_path).status == 2


def test_what_to_do_next_can_be_copied() -> None:
    result = {
        "sweep": "s-1",
        "trials": 2,
        "done": 1,
        "skipped": 0,
        "failed": 1,
        "frontier_size": 1,
        "hypervolume": 0.5,
        "storage": "my runs",
        "page": "/my runs/sweeps/s-1.html",
    }
    lines = show.sweep(result).splitlines()
    at = lines.index("next:")
    assert [line.split("  # ")[0].strip() for line in lines[at + 1 :]] == [
        "goodnet frontier s-1 --storage 'my runs'",
        "goodnet pick s-1 --storage 'my runs' --knee",
        "goodnet trials s-1 --storage 'my runs'",
    ]
    assert "/my runs/sweeps/s-1.html" in show.sweep(result) and "why trials failed" in show.sweep(result)
    assert "--storage" not in show.sweep({**result, "storage": "runs", "failed": 0})
    assert "weakened" not in show.sweep(result)
    assert "2 stopped (sweep.stop=none goes on with them)" in show.sweep({**result, "stopped_trials": 2})
    told = show.sweep({**result, "constraint": {"expected": ["attack_success <= 0.05"], "states": 3}})
    assert "within the constraint (attack_success <= 0.05): 3 states" in told
    assert "goodnet pick s-1 --storage 'my runs' --max-attack-success 0.05 " in told
    assert "No trial weakened the attack: try more layers" in show.sweep({**result, "hypervolume": 0.0})


def test_a_shell_completes_commands_and_sweeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(Storage(str(tmp_path / "runs")), make_manifest(RECORDS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("_GOODNET_COMPLETE", "complete_bash")
    for words, expected in ((["goodnet", "fron"], "frontier"), (["goodnet", "pick", "swe"], "sweep-1")):
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        with pytest.raises(SystemExit):
            app(prog_name="goodnet", standalone_mode=True)
        assert capsys.readouterr().out.split() == [expected]
