"""The attack of a configuration: poisoned files, or triggers that are put on the clean images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prune_core.data.attack import Target
from prune_core.data.form import ImageForm
from prune_core.data.images import LabeledImages, Split, make_split, read_poisoned
from prune_core.data.patterns import Pattern, read_add, read_blend, read_warp, stamped
from prune_core.data.triggers import Trigger, read_trigger
from sweeps.config.triggers import OneTriggerConfig, TriggerConfig
from sweeps.inputs.fetch import local_file

Triggers = Sequence[TriggerConfig | OneTriggerConfig]


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
    heaps = [
        stamped(read(one), clean, one.target, classes, f"trigger {number}")
        for number, one in enumerate(triggers)
    ]
    return make_split(clean, heaps, sure=True)


def read(given: TriggerConfig | OneTriggerConfig) -> Trigger | Pattern:
    """The trigger that a configuration names. Raises InputError when it is none."""
    if isinstance(given, OneTriggerConfig):
        if given.blend is not None:
            return read_blend(local_file(given.blend), given.alpha or 1.0)
        if given.add is not None:
            return read_add(local_file(given.add))
        if given.warp is not None:
            return read_warp(local_file(given.warp))
    assert given.picture is not None and given.row is not None and given.column is not None
    return read_trigger(local_file(given.picture), given.row, given.column)
