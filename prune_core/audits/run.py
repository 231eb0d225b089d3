"""The audits of one net, kept as they are made, so that a run that was stopped goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from prune_core.audits.entries import Entry, Skipped
from prune_core.audits.plan import Bench, Piece, pieces
from prune_core.audits.subject import Subject
from prune_core.audits.tuning import BATCH
from prune_core.threads import fixed_threads

# (pieces done, of how many, what comes next)
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Audited:
    """What the audits of a net have found, in the order of ``names.AUDITS``."""

    entries: tuple[Entry, ...]
    skipped: tuple[Skipped, ...]


def audited(
    subject: Subject,
    bench: Bench,
    audits: Sequence[str] = (),
    known: Mapping[str, Entry] | None = None,
    keep: Callable[[Entry], None] = lambda entry: None,
    tell: Tell = lambda done, total, what: None,
) -> Audited:
    """Make the audits of a net that are not ``known`` yet.

    The same net, images and settings give the same counts on the same machine.

    Args:
        subject: the net; left as found.
        bench: the images.
        audits: names of ``names.AUDITS``; all where none is given.
        known: entries made before, by their key.
        keep: is given each new entry as soon as it is there.

    Raises InputError for an unknown audit.
    """
    todo, skipped = pieces(subject, bench, audits)
    there, found = dict(known or {}), []
    for done, piece in enumerate(todo):
        tell(done, len(todo), words(piece))
        entry: Entry | Skipped = there[piece.key] if piece.key in there else piece.run()
        if isinstance(entry, Skipped):
            skipped.append(entry)
            continue
        if piece.key not in there:
            keep(entry)
        found.append(entry)
    tell(len(todo), len(todo), "")
    return Audited(tuple(found), tuple(skipped))


def words(piece: Piece) -> str:
    """``reactivation, 5 poisoned images, seed 1``."""
    images = piece.setting.get("poisoned_images")
    told = [piece.audit]
    if images:
        told.append(f"{images} poisoned image{'s' if images > 1 else ''}")
    told += [str(piece.setting[name]) for name in ("start", "change") if name in piece.setting]
    if piece.seed is not None:
        told.append(f"seed {piece.seed}")
    return ", ".join(told)


@fixed_threads()
def expected_seconds(subject: Subject, bench: Bench, todo: Sequence[Piece]) -> float:
    """About how long these pieces take, from the time of one step of training."""
    steps = sum(piece.setting.get("steps", 0) for piece in todo)
    shown = bench.exhibits
    images = len(shown.clean_test[1]) + sum(len(h.targets) for h in (*shown.valid, *shown.test))
    passes = images / BATCH * len(todo)
    return _step(subject, bench) * (steps + passes / 3)  # a pass forward is a third of a step


def _step(subject: Subject, bench: Bench) -> float:
    """Seconds of one step of training; the second, as the first one sets things up."""
    pixels, labels = (part[:BATCH] for part in bench.exhibits.clean)
    taken = 0.0
    for _ in range(2):
        begun = time.perf_counter()
        seen = pixels.clone().requires_grad_(True)
        logits = subject.model.graph(subject.model.arranged(seen))
        torch.autograd.grad(functional.cross_entropy(logits, labels), seen)
        taken = time.perf_counter() - begun
    return 1.5 * taken  # of the weights' gradients there is the second half
