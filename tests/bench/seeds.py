"""What other seeds make of the embedded default: ``python -m tests.bench.seeds --out range.md``.

The product trains its BadNet with one seed; figures about it are one draw. Here the images are dealt and
the BadNet is trained again for each seed, and two trials of the default sweep are run on it. The number
of threads changes nothing (``prune_core/threads.py``); ``ATEN_CPU_CAPABILITY``, which chooses the
kernels as other processors would, may: set it before the command to see. A minute or two a seed.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch.backends import cpu

from prune_core.counts import Counts
from sweeps.config.schema import make_config
from sweeps.evaluators import Evaluators
from sweeps.inputs import embedded
from sweeps.inputs.load import input_files, load_inputs
from sweeps.planning.grid import trials_of
from sweeps.trial import run_trial

TRIALS = (("across:activation-gap", "best-first"), ("index", "margin"))
NETS = ("BadNet", *(f"{policy}, {order}" for order, policy in TRIALS))
HEAD = f"| seed | kernels | {' | '.join(NETS)} |\n|---|---|{'---|' * len(NETS)}\n"

Found = list[tuple[Counts, Counts]]  # of each of NETS: counts on validation, on test


def of_seed(seed: int, folder: Path, x: float, smoke: bool) -> Found:
    """The BadNet of a seed, and the nets that the trials end with, bound ``x`` points."""
    files = embedded.EmbeddedFiles.of(folder)
    recipe = replace(embedded.SMOKE if smoke else embedded.DEFAULT, seed=seed)
    embedded._write_set(files, recipe, lambda what, share: None)
    data = {
        f"{side}_{split}": str(getattr(files, f"{side}_{split}"))
        for side in ("clean", "poisoned")
        for split in ("valid", "test")
    }
    found: Found = []
    inputs = evaluators = None
    for order, policy in TRIALS:
        sweep = {"orders": [order], "layer_sets": ["last:3"], "x_thresholds": [x], "policies": [policy]}
        config = make_config(
            {"name": "s", "badnet": str(files.badnet), "data": data, "sweep": sweep}, "seeds"
        )
        inputs = inputs or load_inputs(input_files(config), config.sweep.repair)
        evaluators = evaluators or Evaluators.of(inputs, "incremental", config.resources.memory_gb)
        (trial,) = trials_of(config.sweep, inputs.model)
        record = run_trial(trial, inputs, evaluators)
        assert record.valid is not None and record.test is not None, record.reason
        found = found or [(evaluators.valid.badnet, evaluators.test.badnet)]
        found.append((record.valid, record.test))
    return found


def row(seed: int, found: Found) -> str:
    cells = ["; ".join(f"{_percent(c)}" for c in counts) for counts in found]
    return f"| {seed} | {cpu.get_cpu_capability()} | {' | '.join(cells)} |\n"


def ranges(found: Sequence[Found]) -> str:
    """A line a net: the least and the most of each rate over the seeds."""
    lines = []
    for number, name in enumerate(NETS):
        parts = []
        for split, side in (("validation", 0), ("test", 1)):
            for rate, words in (("clean_accuracy", "clean accuracy"), ("attack_success", "attack success")):
                seen = [100 * getattr(of[number][side], rate) for of in found]
                parts.append(f"{words} on {split} {min(seen):.1f} to {max(seen):.1f} %")
        lines.append(f"- {name}: {', '.join(parts)}")
    return "\n".join(lines) + "\n"


def _percent(counts: Counts) -> str:
    return f"{100 * counts.clean_accuracy:.1f} / {100 * counts.attack_success:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(1, 11)))
    parser.add_argument("--x", type=float, default=4.0, help="points of clean accuracy that may be lost")
    parser.add_argument("--smoke", action="store_true", help="the thin net, in seconds")
    parser.add_argument("--out", type=Path, help="a file for the table, written as it grows")
    asked = parser.parse_args()
    text, found = "Clean accuracy / attack success in %, on validation; on test.\n\n" + HEAD, []
    for seed in asked.seeds:
        with tempfile.TemporaryDirectory() as folder:
            found.append(of_seed(seed, Path(folder), asked.x, asked.smoke))
        text += row(seed, found[-1])
        print(f"seed {seed} of {asked.seeds}", flush=True)
        if asked.out:
            asked.out.write_text(f"{text}\n{ranges(found)}")
    print(f"{text}\n{ranges(found)}")


if __name__ == "__main__":
    main()
