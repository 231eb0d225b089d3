"""The table of families: what the product does with the networks of the field, by each way in.

``make families`` (``python -m family_table``) runs what is not yet in ``--lines``, each in a process of its
own, and writes the page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from every_file import CHECKS, Checks
from families import FAMILIES, WAYS, family, file_of, split_of

PAGE = Path("docs/families.md")
HEAD = """# Families of networks

What goodnet does with the networks of the field, by each way in: `default` is `torch.onnx.export(net, x)`,
`dynamo=False` the exporter before, `state_dict` a `.pth` with `architecture`. Weights are random, with batch
norms that hold the statistics of noise and a last layer that calls every class; images are small; where
it says *slim* the network has fewer channels, in the same operators. `make families` writes this page.
EfficientNet v2-s with random weights magnifies differences in the seventh digit of a weight to several units
of its logits on some images; trained weights were not tried. Logits therefore count as equal where they
differ by less than 2e-4 of the largest, or by less than 20 times what rounding the module's own weights to
float32 does to those of the same image, which is measured.

- **read**: `goodnet.load` takes the file.
- **classes**: on 200 images, each class is the module's own (in float64).
- **counts**: of the incremental evaluator and of the plain one, under three random masks, are equal.
- **pruned**: under each mask, logits are those of the module with these channels set to zero.
- **small**: the network with pruned channels taken out gives the same logits in ONNX Runtime.
- **files**: every file of `goodnet pick` is counted again, and does in ONNX Runtime what the module does.

*s* is processor seconds for a row, the export apart. *taken out* is channels that compaction removed, beside
those that the third mask prunes: what a depthwise convolution makes of one goes with it, and so does what is
constant anyway; a channel that a sum, a group or a layer norm needs stays, as a zero.

| family | images | way | convolutions | read | classes | counts | pruned | small | files | taken out | s |
|---|---|---|---|---|---|---|---|---|---|---|---|
"""
SAID = {"dynamo": "default", "torchscript": "`dynamo=False`", "state_dict": "`state_dict`"}


def seconds() -> float:
    """Processor seconds of this process and those that it has waited for."""
    return sum(os.times()[:4])


def cell(name: str, way: str) -> dict[str, Any]:
    """One row: of every check its seconds and whether it passed, or how it failed."""
    torch.set_num_threads(1)
    row: dict[str, Any] = {"family": name, "way": way, "checks": {}}

    def timed(what: str, act: Callable[[], Any]) -> Any:
        start = seconds()
        try:
            return act()
        except Exception as error:
            row.setdefault("failed", {})[what] = (
                f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            )
        finally:
            row["checks"][what] = round(seconds() - start, 1)

    def sound() -> bool:
        """Nothing failed on which the files would depend."""
        return not row.get("failed", {}).keys() - {"counts"}

    with tempfile.TemporaryDirectory() as folder:
        net, side = family(name)
        row["side"] = side
        given = timed("export", lambda: file_of(name, net, way, Path(folder)))
        if given is not None:
            checks = Checks(net, side, given, split_of(net, side, 100), split_of(net, side, 20))
            for what, check in checks:
                if what not in ("compaction", "files") or sound():
                    timed(what, check)
            if sound():
                row |= checks.told()
    return row


def failed(name: str, way: str, what: str, why: str) -> dict[str, Any]:
    return {"family": name, "way": way, "checks": {}, "failed": {what: why}}


def page(rows: list[dict[str, Any]]) -> str:
    order = {(name, way): place for place, (name, way) in enumerate((n, w) for n in FAMILIES for w in WAYS)}
    lines = []
    rows = list({(row["family"], row["way"]): row for row in rows}.values())  # the last of each
    for row in sorted(rows, key=lambda row: order[row["family"], row["way"]]):
        lost = row.get("failed", {})
        marks = ["no" if what in lost else "yes" if what in row["checks"] else "–" for what in CHECKS]
        spent = sum(s for what, s in row["checks"].items() if what != "export")
        gone = f"{row['removed']} of {row['pruned']}" if "removed" in row else "–"
        side, slim = row.get("side", "–"), " (slim)" if FAMILIES[row["family"]].slim else ""
        cells = [f"{FAMILIES[row['family']].said}{slim}", f"{side} x {side}", SAID[row["way"]]]
        cells += [str(row.get("convolutions", "–")), *marks, gone, f"{spent:.0f}"]
        lines.append(f"| {' | '.join(cells)} |\n")
    notes = [
        f"- {row['family']}, {SAID[row['way']]}: {what}: {why}\n"
        for row in rows
        for what, why in row.get("failed", {}).items()
    ]
    there = {(row["family"], row["way"]) for row in rows}
    away = ", ".join(f"{FAMILIES[n].said} {SAID[w]}" for n, w in order if (n, w) not in there)
    lines += [f"\nNot run for this page: {away}.\n"] if away else []
    return HEAD + "".join(lines) + ("\nWhat failed:\n\n" + "".join(notes) if notes else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument(
        "--lines", type=Path, default=Path("build/families.jsonl"), help="what is done, a line each"
    )
    parser.add_argument("--limit", type=float, default=1800, help="seconds for one cell")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--cell", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(*options.cell)))
        return
    rows = (
        [json.loads(line) for line in options.lines.read_text().splitlines()]
        if options.lines.exists()
        else []
    )
    done = {(row["family"], row["way"]) for row in rows}
    for name, way in [(n, w) for n in options.only for w in options.ways if (n, w) not in done]:
        command = [sys.executable, "-m", "family_table", "--cell", name, way]
        try:
            found = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
            row = json.loads(found.stdout.splitlines()[-1])
        except subprocess.TimeoutExpired:
            row = {
                "family": name,
                "way": way,
                "checks": {},
                "failed": {"time": f"more than {options.limit:g} s"},
            }
        except (IndexError, ValueError):
            said = (found.stderr.strip().splitlines() or ["nothing"])[-1][:300]
            row = failed(name, way, "process", said)
        rows.append(row)
        with options.lines.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(name, way, row.get("failed", "all right"), flush=True)
    options.page.write_text(page(rows))


if __name__ == "__main__":
    main()
