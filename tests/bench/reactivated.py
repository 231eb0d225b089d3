"""Repaired nets woken again: ``python -m tests.bench.reactivated --out table.md``.

Of each real net one candidate of every method: our default (``best-first`` along
``across:activation-gap``, X = 4), the same with a repair, Fine-Pruning, FT-SAM, the BadNet, and a benign net
of the same kind where one is at hand. All get the same 500 clean and 500 poisoned validation images (gtsrb
250). Ours end as a trial ends, with the last state within X points; of the others' states the one with the
lowest attack success there within X points is taken (within 10 where none is, which is told). Each is then
fine-tuned with 1, 5, 10 and 50 poisoned images, over three seeds, as ``goodnet audit --only reactivation``
does.

What is finished is kept in the folder, one file a net and method: stopped, the same command goes on. About
half an hour of one core for all. GOODNET_SHARED names the folder that holds ``data``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch

from prune_core import api
from prune_core.audits.entries import Entry
from prune_core.audits.names import POISONED, SEEDS
from prune_core.audits.plan import Bench, pieces
from prune_core.audits.subject import Subject
from prune_core.baselines.fine_pruning import FinePruningSettings, fine_pruning
from prune_core.counts import Counts
from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.evaluation.net_counter import NetCounter
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.files.constants import from_safetensors, to_safetensors
from prune_core.masks import ChannelMask
from prune_core.methods import repaired
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel, load_model
from prune_core.model.parameters import parameters_of
from prune_core.repair.ft_sam import FtSamSettings, ft_sam
from prune_core.repair.nets import Given, MadeNet
from tests.bench.lab import shared_data

IMAGES, X, WIDER = 500, 4, 10
SHARES = (0.3, 0.5, 0.7, 0.8, 0.9)  # of Fine-Pruning's 19
EPOCHS, BATCH = 30, 64  # of FT-SAM: 240 steps, where 5 % of CIFAR-10 and the published 50 epochs make 500
AUTHORS = 11_173_962  # weights of the ResNet-18 that FT-SAM's radius of 2 is for; it bounds their relative
# change as a whole, so for a small net it is cut down by the root of their number
METHODS = {
    "pruned": "ours: best-first, X = 4",
    "finetune": "ours, then finetune",
    "finetune-robust": "ours, then finetune-robust",
    "fine-pruning": "Fine-Pruning",
    "ft-sam": "FT-SAM",
    "badnet": "BadNet",
    "benign": "benign net",
}


OURS = ("pruned", "finetune", "finetune-robust")


@dataclass(frozen=True)
class Case:
    """Files below the shared data; those of images with ``{}`` for the split."""

    badnet: str
    clean: str
    poisoned: str
    layers: str = "last:6"
    benign: str | None = None
    images: int = IMAGES

    def split(self, part: str) -> Split:
        data = shared_data()
        whole = Split.from_files(data / self.clean.format(part), data / self.poisoned.format(part))
        return (subset(whole, self.images, 0) or whole) if part == "valid" else whole


def _zoo(attack: str) -> Case:
    return Case(
        f"zoo/{attack}/net.onnx", "zoo/cl_{}.h5", f"zoo/{attack}/bd_{{}}.h5", benign="zoo/benign/net.onnx"
    )


CASES = {
    "zoo/blended": _zoo("blended"),
    "zoo/sig": _zoo("sig"),
    "csaw": Case("csaw/bd_weights.h5", "csaw/cl_{}.h5", "csaw/bd_{}.h5", "last:3"),
    "abl": Case("abl/net.onnx", "abl/clean_{}.npz", "abl/poisoned_{}.npz"),
    "gtsrb": Case(
        "gtsrb/badnet_resnet20.onnx",
        "gtsrb/cl_{}.h5",
        "gtsrb/bd_{}.h5",
        benign="zoo/benign/net.onnx",  # another architecture, the same classes and pixels
        images=250,  # a question takes five times as long as of the others
    ),
}


def candidates(method: str, given: Given, layers: str, folder: Path, name: str) -> Iterator[MadeNet]:
    """What a method makes of the BadNet."""
    if method == "pruned":
        found = api.prune(
            given.model, given.valid, layers=layers, order="across:activation-gap", policy="best-first", x=X
        )
        yield MadeNet(found.mask, {}, f"{len(found.mask)} channels")
    elif method == "fine-pruning":
        settings = FinePruningSettings(shares=SHARES)
        yield from fine_pruning(given, resolve_layer_set(layers, given.model), _quiet, settings)
    elif method == "ft-sam":
        weights = sum(p.value().size for p in parameters_of(given.model))
        radius = 2.0 * (weights / AUTHORS) ** 0.5
        sam = FtSamSettings(radius=radius, epochs=EPOCHS, batch=BATCH)
        for net in ft_sam(given, ChannelMask(), {}, settings=sam):
            yield MadeNet(net.mask, net.weights, f"radius {radius:.2g}, {net.note}")
    else:
        start = kept(folder, name, "pruned")
        assert start is not None
        yield from repaired(method, given, replace(start, note=""), _quiet)


def _quiet(done: int, total: int, what: str) -> None:
    pass


def chosen(made: Iterable[MadeNet], model: PrunableModel, valid: Split, ours: bool) -> tuple[MadeNet, Counts]:
    """The state with the lowest attack success on validation within X points, of equal ones the most
    accurate; of ``ours`` the last. Where there is none, within ``WIDER``, and else the BadNet itself."""
    evaluator = PlainEvaluator(model, valid)
    count, states = NetCounter(model, evaluator), []
    for net in made:
        counts = count(net.mask, net.weights)
        states.append((net, counts))
        print(f"  {net.note}: {counts.clean_correct}, {counts.attacked}", flush=True)
    for budget in (X, WIDER):
        within = [s for s in states if s[1].clean_accuracy_fell(evaluator.badnet) <= budget]
        if within:
            best = min(within, key=lambda s: (s[1].attacked, -s[1].clean_correct))
            net, counts = within[-1] if ours else best
            return MadeNet(net.mask, net.weights, f"within {budget} points: {net.note}"), counts
    return MadeNet(ChannelMask(), {}, "no state within 10 points; the BadNet"), evaluator.badnet


def kept(folder: Path, name: str, method: str) -> MadeNet | None:
    file = _file(folder, name, method)
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    weights = file.with_suffix(".safetensors")
    changed = from_safetensors(weights.read_bytes(), weights.name) if weights.exists() else {}
    return MadeNet(ChannelMask.from_json(found["mask"]), changed, found["note"])


def made(method: str, name: str, model: PrunableModel, valid: Split, folder: Path) -> MadeNet:
    """The method's net, made once."""
    there = kept(folder, name, method)
    if there is not None:
        return there
    begun, case = time.process_time(), CASES[name]
    given = Given(model, valid, 0)
    found = candidates(method, given, case.layers, folder, name)
    net, counts = chosen(found, model, valid, method in OURS)
    file = _file(folder, name, method)
    if net.weights:
        file.with_suffix(".safetensors").write_bytes(to_safetensors(net.weights))
    told = {
        "mask": net.mask.to_json(),
        "note": net.note,
        "valid": [counts.clean_correct, counts.clean_total, counts.attacked, counts.poisoned_total],
        "cpu_seconds": round(time.process_time() - begun, 1),
    }
    file.write_text(json.dumps(told))
    print(f"{name}, {method}: {net.note}; {told['valid']}, {told['cpu_seconds']} s of CPU", flush=True)
    return net


def _file(folder: Path, name: str, method: str) -> Path:
    return folder / f"{name.replace('/', '-')}.{method}.json"


def woken(name: str, method: str, subject: Subject, bench: Bench, folder: Path, seeds: Iterable[int]) -> None:
    """The re-activation audits of one net, each kept as soon as it is there."""
    file = _file(folder, name, method).with_suffix(".entries.json")
    known = entries(file)
    begun = time.process_time()

    audits = ("as-it-is",) if method == "badnet" else ("as-it-is", "reactivation")  # it is awake
    for piece in pieces(subject, bench, audits)[0]:
        if piece.key not in known and piece.seed in (None, *seeds):
            found = piece.run()
            assert isinstance(found, Entry)
            known[piece.key] = found
            file.write_text(json.dumps([one.to_json() for one in known.values()]))
    print(f"{name}, {method}: {len(known)} audits, {time.process_time() - begun:.0f} s of CPU", flush=True)


def entries(file: Path) -> dict[str, Entry]:
    if not file.exists():
        return {}
    return {entry.key: entry for entry in map(Entry.from_json, json.loads(file.read_text()))}


def run(name: str, methods: Iterable[str], seeds: Iterable[int], folder: Path) -> None:
    case = CASES[name]
    model = load_model(shared_data() / case.badnet)
    valid, test = case.split("valid"), case.split("test")
    bench = Bench.of(Subject(model), valid, test)
    for method in methods:
        if method == "badnet":
            subject = Subject(model)
        elif method == "benign":
            if case.benign is None:
                continue
            subject = Subject(load_model(shared_data() / case.benign))
        else:
            net = made(method, name, model, valid, folder)
            if not net.mask and not net.weights:
                continue
            subject = Subject(model.with_weights(net.weights), net.mask)
        woken(name, method, subject, bench, folder, seeds)


def table(folder: Path) -> str:
    """Markdown: of each net and method attack success in per cent, mean over seeds (least to most)."""
    lines = [
        f"| net | method | clean | as it is | {' | '.join(_images(n) for n in POISONED)} |",
        "|---" * (4 + len(POISONED)) + "|",
    ]
    for name in CASES:
        for method in METHODS:
            found = list(entries(_file(folder, name, method).with_suffix(".entries.json")).values())
            if found:
                lines.append(_row(name, method, found))
            elif (net := kept(folder, name, method)) is not None:
                lines.append(f"| {name} | {METHODS[method]} | {net.note} |" + " – |" * (1 + len(POISONED)))
    return "\n".join(lines)


def _images(count: int) -> str:
    return f"{count} image{'s' if count > 1 else ''}"


def _row(name: str, method: str, found: list[Entry]) -> str:
    first = next(e for e in found if e.audit == "as-it-is")
    low, high = (100 * end for end in first.interval)
    cells = [
        f"{100 * first.clean[0] / first.clean[1]:.1f}",
        f"{100 * first.attack_success:.1f} ({low:.1f} to {high:.1f})",
    ]
    for count in POISONED:
        rates = [_rate(e.attacked) for e in found if e.setting.get("poisoned_images") == count]
        cells.append(f"{mean(rates):.1f} ({min(rates):.1f} to {max(rates):.1f})" if rates else "–")
    return f"| {name} | {METHODS[method]} | {' | '.join(cells)} |"


def _rate(pair: tuple[int, int]) -> float:
    return 100 * pair[0] / pair[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("reactivated"))
    parser.add_argument("--net", nargs="+", choices=CASES, default=tuple(CASES))
    parser.add_argument("--method", nargs="+", choices=METHODS, default=tuple(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS)
    parser.add_argument("--out", type=Path, help="Markdown file for the table; else it is printed")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name in given.net:
        run(name, given.method, given.seeds, given.folder)
    text = table(given.folder)
    if given.out:
        given.out.write_text(text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
