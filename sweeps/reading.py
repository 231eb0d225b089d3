"""What commands say of files: a network counted on images, a network's kernels looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prune_core.counts import Counts
from prune_core.data.attack import Target
from prune_core.data.checks.findings import Finding, sure
from prune_core.data.form import USUAL, ImageForm
from prune_core.data.images import Files, Split, make_split, read_images, read_poisoned
from prune_core.data.told import attack_json, triggers_json
from prune_core.errors import InputError
from prune_core.evaluation.look import look
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.export.audit import inspect_model
from prune_core.export.n_plus_one import count_goodnet
from prune_core.model.model import PrunableModel, load_model

# Of a BadNet these say that something is wrong with the images; of a repaired network they are its repair.
_OF_A_BADNET = ("weak-attack", "labels-contradicted", "low-accuracy")
_SAME = Finding(
    "warning",
    "same-network",
    "the network is the BadNet that it is compared with: nothing is repaired in it, and the network of N + 1 "
    "classes detects nothing; give --against the BadNet, and first the network that was made from it",
)


def inspect_files(
    model: str | Path,
    against: str | Path | None = None,
    layers: Sequence[str] | None = None,
    architecture: str | None = None,
    architecture_args: Mapping[str, Any] | None = None,
    image: tuple[int, int, int] | None = None,
) -> dict[str, Any]:
    """``audit.inspect_model`` of files; ``architecture``, its arguments and the images' (C, H, W) go for
    both. Raises InputError."""
    how: dict[str, Any] = {"architecture_args": architecture_args, "image": image}
    badnet = None if against is None else load_model(against, architecture, **how)
    return inspect_model(load_model(model, architecture, **how), badnet, layers)


def evaluate_files(
    model: str | Path,
    clean: Files,
    poisoned: Files,
    against: str | Path | None = None,
    architecture: str | None = None,
    form: ImageForm = USUAL,
    target: Target | None = None,
    architecture_args: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Counts, rates (fractions) and 95 % intervals of a network on clean and poisoned images.

    With ``against`` (the BadNet) also those of the N+1-class net of both: rates
    ``goodnet_clean_accuracy``, ``goodnet_attack_success`` and ``detected_poisoned`` (the fraction
    of poisoned images that it calls backdoored), and its counts under ``goodnet``.

    ``findings``: of the look at the data, each with ``level``, ``name``, ``detail`` and ``counts``; an error
    among them is told here, not raised, since measuring a network that is not right is what this is for.

    ``target`` and what goes with it are those of ``told.attack_json``. ``poisoned`` may be several files, one
    for each trigger: then the worst trigger's counts stand first, and those of each under ``triggers``.

    ``architecture`` and its arguments go for both files; ``form``: how the images are read; ``target``: a
    class or ``next``, which the poisoned files have to agree with. Raises InputError.
    """
    first = read_images(clean, form)
    how: dict[str, Any] = {"architecture_args": architecture_args, "image": first.shape}
    net = load_model(model, architecture, **how)
    classes = net.check_images(first.shape, first.name)
    form = form if target is None else replace(form, target=target)
    split = make_split(first, read_poisoned(poisoned, form, first.classes), target, classes)
    evaluator = PlainEvaluator(net, split)
    found: dict[str, Any] = {"model": net.name, **attack_json(split)}
    found |= triggers_json(split, evaluator.badnet.to_json())
    if against is None:
        found["findings"] = [f.to_json() for f in _looked_at(net, split)]
        del found["attacked_agreeing"]  # that is with the BadNet, which has not been named
        return found
    badnet = load_model(against, architecture, **how)
    shape, name = split.clean.shape, split.clean.name
    classes, others = net.check_images(shape, name), badnet.check_images(shape, name)
    if classes != others:
        raise InputError(
            f"{net.name} has {classes} classes and {badnet.name} has {others}; "
            "--against takes the BadNet that the network was made from"
        )
    findings = look(badnet, split)
    before = PlainEvaluator(badnet, split)
    if net.digest == badnet.digest:
        findings = (_SAME, *findings)
    findings = (*_exchanged(evaluator.badnet, before.badnet), *findings)
    found["findings"] = [f.to_json() for f in findings]
    both = count_goodnet(before, evaluator)
    right, attack, detected = both.rates()
    found |= {
        "against": badnet.name,
        "attacked_agreeing": both.attacked,
        "goodnet_clean_accuracy": right.rate,
        "goodnet_attack_success": attack.rate,
        "detected_poisoned": detected.rate,
        "goodnet": {
            "clean_correct": right.hits,
            "clean_accuracy_interval": right.interval,
            "attacked": attack.hits,
            "attack_success_interval": attack.interval,
            "detected": detected.hits,
            "detected_interval": detected.interval,
            **both.triggers_json(),
        },
    }
    return found


def scan_files(
    model: str | Path,
    clean: Files,
    architecture: str | None = None,
    form: ImageForm = USUAL,
    architecture_args: Mapping[str, Any] | None = None,
    **how: Any,
) -> dict[str, Any]:
    """``inversion.scan`` of files, as JSON; ``how`` goes to it. Raises InputError."""
    from prune_core.inversion.scan import scan

    images = read_images(clean, form)
    net = load_model(model, architecture, architecture_args=architecture_args, image=images.shape)
    return scan(net, images, **how).to_json()


def _exchanged(net: Counts, badnet: Counts) -> list[Finding]:
    """That the network is attacked more often than the BadNet, and surely so."""
    ours, theirs = (sure(counts.attacked, counts.poisoned_total) for counts in (net, badnet))
    if ours[0] <= theirs[1]:
        return []
    said = (
        f"{net.attacked} of {net.poisoned_total} poisoned images get the target from the network, and "
        f"{badnet.attacked} of {badnet.poisoned_total} from the BadNet that it is compared with: were the "
        "two exchanged? --against takes the BadNet"
    )
    counts = {"attacked": net.attacked, "badnet": badnet.attacked, "images": net.poisoned_total}
    return [Finding("warning", "networks-exchanged", said, counts)]


def _looked_at(net: PrunableModel, split: Split) -> list[Finding]:
    """The look at the data through a network that may be a BadNet or a repaired one."""
    return [
        replace(finding, level="note") if finding.name in _OF_A_BADNET else finding
        for finding in look(net, split)
    ]
