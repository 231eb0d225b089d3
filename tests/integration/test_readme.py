"""The README's commands do what they say."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sweeps.config.schema import make_config

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()


def shell_lines() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.S | re.M)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_configuration_shown_is_one() -> None:
    import yaml

    (block,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.S | re.M)
    assert make_config({"name": "readme", **yaml.safe_load(block)}, "README").badnet


def test_every_configuration_shipped_is_one(monkeypatch) -> None:
    from sweeps.config.schema import load_config

    names = {path.stem: load_config(path).name for path in (ROOT / "configs").glob("*.yaml")}
    assert {"default", "csaw", "seed-table", "stand-in", "smoke"} <= set(names)


@pytest.mark.slow
def test_the_python_shown_runs(tmp_path: Path, monkeypatch) -> None:
    """From arrays and a file to a saved GoodNet and a sweep's pick, as it stands there."""
    pytest.importorskip("goodnet")
    from prune_core.testing.net import images_for, tiny_net

    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.S | re.M)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    split = images_for("clean and poisoned images")
    (tmp_path / "bd_net.onnx").write_bytes(tiny_net().proto.SerializeToString())
    clean, poisoned = split.clean, split.poisoned
    names = {"clean_x": clean.pixels, "clean_y": clean.labels, "poisoned_x": poisoned.pixels}
    exec(compile(block, "README.md", "exec"), names)
    assert names["result"].counts.clean_total == len(split.clean)
    assert list((tmp_path / "goodnets").glob("mine*.onnx")) and names["sweep"].frontier()


@pytest.mark.slow
def test_the_commands_run_in_order_on_a_fresh_copy(tmp_path) -> None:
    """All of them but `make test`, which is what runs this."""
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    copy = tmp_path / "goodnet"
    for name in tracked.stdout.splitlines():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    (copy / ".venv").symlink_to(ROOT / ".venv")
    # The environment that is there is up to date.
    for name in ("pyproject.toml", "constraints.txt", "infra/torchvision_hook.py"):
        os.utime(copy / name, (0, 0))
    lines = [line for line in shell_lines() if line != "make test"]
    assert "make sweep" in lines
    for line in lines:
        done = subprocess.run(
            shlex.split(line),
            cwd=copy,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(copy)},
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
