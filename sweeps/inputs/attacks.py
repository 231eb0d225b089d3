"""The attack of a configuration: poisoned files, or triggers that are put on the clean images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from prune_core.data.attack import Target
from prune_core.data.checks.poison import INVERTED
from prune_core.data.form import ImageForm
from prune_core.data.images import LabeledImages, Split, make_split, read_poisoned
from prune_core.data.patterns import Pattern, read_add, read_blend, read_warp, stamped
from prune_core.data.triggers import Trigger, read_trigger
from prune_core.inversion.found import FoundTrigger
from prune_core.inversion.triggers import found_triggers
from prune_core.model.model import PrunableModel
from sweeps.config.triggers import OneTriggerConfig, TriggerConfig
from sweeps.inputs.fetch import local_file

Triggers = Sequence[TriggerConfig | OneTriggerConfig | FoundTrigger]


def attacked_split(
    clean: LabeledImages,
    poisoned: Sequence[Path],
    triggers: Triggers,
    form: ImageForm,
    target: Target | None,
    classes: int,
) -> Split:
    """A split of clean images and one heap of poisoned ones for each file, or for each trigger.

    Args:
        target: what the labels of files have to agree with.
        classes: of the network.

    Raises:
        InputError: a file that cannot be read, or images that do not fit.
    """
    if poisoned:
        return make_split(clean, read_poisoned(poisoned, form, clean.classes), target, classes)
    heaps = []
    for number, one in enumerate(triggers):
        assert one.target != "auto"  # found before
        name = f"{INVERTED if isinstance(one, FoundTrigger) else 'trigger'} {number}"
        heaps.append(stamped(read(one), clean, one.target, classes, name))
    return make_split(clean, heaps, sure=True)


def inverted(
    triggers: Triggers,
    model: PrunableModel,
    clean: LabeledImages,
    folder: Path | None,
    tell: Callable[[str, float], None],
) -> Triggers:
    """The triggers, each ``invert`` replaced by those that are found: one of each kind that works, for every
    target.

    Args:
        clean: validation images, which they are sought on.
        folder: where finished searches are kept.

    Raises:
        InputError: none is found.
    """
    made: list[TriggerConfig | OneTriggerConfig | FoundTrigger] = []
    for one in triggers:
        if isinstance(one, OneTriggerConfig) and one.invert:
            target = one.target if isinstance(one.target, int) else None
            made += found_triggers(model, clean, target, out=folder, tell=tell)
        else:
            made.append(one)
    return made


def read(given: TriggerConfig | OneTriggerConfig | FoundTrigger) -> Trigger | Pattern:
    """The trigger that a configuration names. Raises InputError when it is none."""
    if isinstance(given, FoundTrigger):
        return given
    if isinstance(given, OneTriggerConfig):
        if given.blend is not None:
            return read_blend(local_file(given.blend), given.alpha or 1.0)
        if given.add is not None:
            return read_add(local_file(given.add))
        if given.warp is not None:
            return read_warp(local_file(given.warp))
    assert given.picture is not None and given.row is not None and given.column is not None
    return read_trigger(local_file(given.picture), given.row, given.column)
