"""The trials of configurations: the keys, and their order, that version 0.1 gave them; of published
baselines and of repairs, which have changed since, the keys of their later versions."""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from prune_core.keras_files.h5 import write_keras
from prune_core.model.model import PrunableModel, load_model
from sweeps.config.schema import load_config
from sweeps.config.sweep import SweepConfig
from sweeps.inputs.embedded_training import DeepIDNet, keras_config, keras_weights
from sweeps.planning.plan import listed
from sweeps.records.settings import trial_key

ROOT = Path(__file__).resolve().parents[4]
CONFIGS = sorted(ROOT.glob("configs/**/*.yaml"))
WIDTHS = (8, 12, 16, 12, 48)
# Recorded from version 0.1: how many trials, the first and last key, and a digest of all keys in turn.
KNOWN = json.loads(Path(__file__).with_name("grids.json").read_text())
ODD = {
    "repairs-first": (
        "sweep.orders=[random,l1,index,l1]",
        "sweep.layer_sets=['last:3',[conv_3,conv_4],'last:1',conv_4]",
        "sweep.x_thresholds=[10,2,4.125,2]",
        "sweep.policies=[final-layer,'baseline:anp',scale,margin,'baseline:clp',seed]",
        "sweep.repair=[finetune,none,unlearn]",
        "sweep.seeds=[3,0,1]",
    ),
    "ranges": (
        "sweep.layer_sets=['conv_3[0-4,7]','last:2']",
        "sweep.policies=[final-layer,best-first]",
        "sweep.x_thresholds=[100,4]",
    ),
    "drawn-range": (
        "sweep.search=random",
        "sweep.samples=9",
        "sweep.x_thresholds={from: 1, to: 12}",
        "sweep.policies=[final-layer,margin]",
    ),
    "drawn": ("sweep.search=random", "sweep.samples=7", "sweep.seeds=[5]"),
}


@lru_cache
def deepid() -> PrunableModel:
    """Four convolutions, conv_1 to conv_4; keys tell layers by name."""
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "deepid.h5"
        write_keras(path, keras_config(WIDTHS), keras_weights(DeepIDNet(WIDTHS)))
        return load_model(path)


def described(sweep: SweepConfig) -> dict[str, object]:
    keys = [trial_key(s, "badnet", "valid", "test") for s in listed(sweep, deepid())]
    digest = hashlib.sha256(" ".join(keys).encode()).hexdigest()
    return {"trials": len(keys), "first": keys[0], "last": keys[-1], "all": digest}


def test_every_configuration_is_known() -> None:
    assert {str(path.relative_to(ROOT)) for path in CONFIGS} | set(ODD) == set(KNOWN)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_keep_their_trials(path: Path) -> None:
    """Sets of six and more layers are asked of a network that has four: its four."""
    fewer = ["sweep.layer_sets=['last:4']"] if re.search(r"last:(6|15|21)\b", path.read_text()) else []
    assert described(load_config(path, fewer).sweep) == KNOWN[str(path.relative_to(ROOT))]


@pytest.mark.parametrize("name", ODD)
def test_odd_ones_keep_their_trials(name: str) -> None:
    """Repeats, X that does not rise, repairs in front of none, X = 100 twice, draws."""
    assert described(load_config(ROOT / "configs/default.yaml", ODD[name]).sweep) == KNOWN[name]
