"""Which audits there are, and their run: one piece after the other, none twice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prune_core.audits import changed_triggers as changed
from prune_core.audits.entries import Entry, Skipped, entry_key
from prune_core.audits.inverted import LIMITS, inversion_settings, inverted
from prune_core.audits.names import POISONED, SEEDS, check_audits
from prune_core.audits.perturbation import perturbation_settings, perturbed
from prune_core.audits.quantised import int8_settings, quantised
from prune_core.audits.subject import Asked, Exhibits, Subject, hits, unchanged
from prune_core.audits.tuning import clean_tuned, reactivated, tuning_settings
from prune_core.data.images import Split


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of an audit: what names its entry, and what makes it."""

    audit: str
    setting: Mapping[str, Any]
    seed: int | None
    run: Callable[[], Entry | Skipped]

    @property
    def key(self) -> str:
        return entry_key(self.audit, self.setting, self.seed)


@dataclass(frozen=True, eq=False)
class Bench:
    """What the audits of all nets of one pair of splits share.

    Attributes:
        triggers: worked out from pairs; None where they cannot be.
    """

    exhibits: Exhibits
    triggers: list[changed.FoundTrigger] | None

    @classmethod
    def of(cls, subject: Subject, valid: Split, test: Split) -> Bench:
        """``subject``: any of the nets, for the number of classes. Raises InputError."""
        classes = subject.model.check_images(valid.clean.shape, valid.clean.name)
        exhibits = Exhibits.of(valid, test, classes, subject.model.device)
        return cls(exhibits, changed.found_triggers(valid, exhibits.span, subject.model.device))


def pieces(subject: Subject, bench: Bench, audits: Sequence[str] = ()) -> tuple[list[Piece], list[Skipped]]:
    """What there is to do for one net, cheap things first, and what cannot be done."""
    asked = Asked(subject, bench.exhibits)
    found: list[Piece] = []
    skipped: list[Skipped] = []
    for name in check_audits(audits):
        if name == "changed-trigger" and bench.triggers is None:
            skipped.append(Skipped(name, NO_PAIRS))
        elif name == "perturbation" and (why := _no_clean_half(bench)):
            found += [p for p in _of(name, asked, bench) if p.setting["start"] == "trigger"]
            skipped.append(Skipped("perturbation of clean images", why))
        elif name == "changed-trigger" and any(not len(h.targets) for h in _free(bench)):
            skipped.append(Skipped(name, NO_AIM))
        elif name == "inversion" and not _single(bench):
            skipped.append(Skipped(name, NO_CLASS))
        else:
            found += _of(name, asked, bench)
    return found, skipped


NO_PAIRS = (
    "which clean image each poisoned image was made from is not known, so neither is the trigger; give it as "
    "data.triggers, or poisoned images in the order of the clean ones"
)
NO_CLASS = "the attacker wants a class for each true class, and triggers are sought for one class"
FEW = (
    "1 clean validation image that is not of the attacker's class; 2 or more are needed, to seek and to count"
)
NO_AIM = "which class the attacker wants of a clean image is not known: give field 'true_label'"


def _no_clean_half(bench: Bench) -> str | None:
    """Why no perturbation can be sought with some clean images and counted on others."""
    if any(not len(heap.targets) for heap in _free(bench)):
        return NO_AIM
    return FEW if any(len(heap.targets) < 2 for heap in bench.exhibits.free_valid) else None


def _single(bench: Bench) -> list[int]:
    """The class of each trigger that aims at one, each once."""
    heaps = bench.exhibits.valid
    found = [int(h.targets[0]) for h in heaps if bool((h.targets == h.targets[0]).all())]
    return list(dict.fromkeys(found))


def _free(bench: Bench) -> tuple[Any, ...]:
    return (*bench.exhibits.free_valid, *bench.exhibits.free_test)


def _of(name: str, asked: Asked, bench: Bench) -> Iterator[Piece]:
    if name == "as-it-is":
        yield Piece(name, {}, None, lambda: as_it_is(asked))
    elif name == "int8":
        setting = int8_settings()
        yield Piece(name, setting, None, lambda: quantised(asked, setting))
    elif name == "inversion":
        for target in _single(bench):
            for kind in LIMITS:
                for seed in SEEDS:
                    setting = inversion_settings(kind, target)
                    yield Piece(name, setting, seed, _bound(inverted, asked, setting, seed))
    elif name == "changed-trigger":
        for number, trigger in enumerate(bench.triggers or ()):
            for setting, made in changed.settings(asked, number, trigger):
                yield Piece(name, setting, None, _bound(changed.entry, asked, number, setting, made))
    elif name == "perturbation":
        for seed in SEEDS:
            for start in ("trigger", "clean"):
                setting = perturbation_settings(start)
                yield Piece(name, setting, seed, _bound(perturbed, asked, setting, seed))
    else:
        tune = clean_tuned if name == "clean-tuning" else reactivated
        for images in (0,) if name == "clean-tuning" else POISONED:
            for seed in SEEDS:
                setting = tuning_settings(images)
                yield Piece(name, setting, seed, _bound(tune, asked, setting, seed))


def _bound(function: Callable[..., Entry], *args: Any) -> Callable[[], Entry]:
    return lambda: function(*args)


def as_it_is(asked: Asked) -> Entry:
    """No attack but the first."""
    with asked.subject.model.pruned(asked.subject.mask) as net:
        return Entry(
            "as-it-is",
            {},
            None,
            clean=asked.clean,
            attacked=hits(net, asked.exhibits.test, unchanged),
            valid=hits(net, asked.exhibits.valid, unchanged),
            before=asked.clean,
            assumed="the trigger",
        )
