"""goodnet without its extras. Passes with them installed too: what is not there is hidden."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from hand_nets import sign_net

HIDDEN = ("ray", "optuna", "mlflow", "matplotlib", "plotly", "sklearn")
START = f"""
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {HIDDEN}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Hidden())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name in {HIDDEN} else real(name, package)
from sweeps.cli import main
main()
"""


def goodnet(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net of two channels, and images that each of them sees."""
    folder = tmp_path_factory.mktemp("core")
    sign_net(folder / "net.onnx", [1, -1], [0, 0])
    rng = np.random.default_rng(0)
    for split in ("valid", "test"):
        clean = rng.normal(size=(40, 1, 2, 2)).astype(np.float32)
        stamped = clean.copy()
        stamped[:, :, 0, 0] = 8
        for name, images, labels in (
            ("clean", clean, (clean.sum((1, 2, 3)) < 0).astype(int)),
            ("poisoned", stamped, np.zeros(40)),
        ):
            with h5py.File(folder / f"{name}_{split}.h5", "w") as file:
                file["data"], file["label"] = images, labels
    keys = "".join(
        f"  {kind}_{split}: {folder}/{kind}_{split}.h5\n"
        for kind in ("clean", "poisoned")
        for split in ("valid", "test")
    )
    path = folder / "core.yaml"
    path.write_text(
        f"badnet: {folder}/net.onnx\ndata:\n{keys}sweep:\n  layer_sets: ['last:1']\n  x_thresholds: [50]\n"
        f"storage: {folder}/runs\n"
    )
    return path


def test_a_sweep_in_this_process_says_what_is_left_out(config: Path) -> None:
    said = goodnet("sweep", config, "--executor", "inline", "--json")
    assert said.returncode == 0, said.stderr
    assert "nothing is logged to MLflow" in said.stderr and "'goodnet[tracking]'" in said.stderr
    found = json.loads(said.stdout)
    assert found["done"] + found["skipped"] == 1 and found["mlflow_run_id"] is None


def test_one_trial_and_looking_at_files(config: Path) -> None:
    for arguments in (
        ("prune", config),
        ("inspect", config.parent / "net.onnx"),
        ("evaluate", config.parent / "net.onnx", "--clean", config.parent / "clean_test.h5")
        + ("--poisoned", config.parent / "poisoned_test.h5"),
    ):
        said = goodnet(*arguments, "--json")
        assert said.returncode == 0, said.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("sweep", "CONFIG"), "sweep"),
        (
            (
                "sweep",
                "CONFIG",
                "--executor",
                "inline",
                "--set",
                "sweep.search=optuna",
                "--set",
                "sweep.samples=2",
            ),
            "sweep",
        ),
        (("sweep", "EMBEDDED", "--executor", "inline"), "embedded"),
        (("study", "CONFIG", "--executor", "inline"), "plots"),
    ],
)
def test_what_needs_an_extra_names_it(
    config: Path, tmp_path: Path, arguments: tuple[str, ...], extra: str
) -> None:
    embedded = tmp_path / "embedded.yaml"
    embedded.write_text(f"badnet: embedded-smoke\nstorage: {tmp_path}/runs\n")
    files = {"CONFIG": config, "EMBEDDED": embedded}
    said = goodnet(*(files.get(a, a) for a in arguments))
    assert said.returncode == 2, said.stderr
    assert f"pip install 'goodnet[{extra}]'" in said.stderr.splitlines()[-1]
