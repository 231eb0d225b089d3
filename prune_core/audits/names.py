"""The audits by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prune_core.errors import InputError
from prune_core.plugins.names import unknown

SEEDS = (0, 1, 2)
POISONED = (1, 5, 10, 50)  # images that an attacker has

AUDITS: Mapping[str, str] = {
    "as-it-is": "the attack as it was, on the images of the other audits",
    "reactivation": "fine-tuned with 1, 5, 10, 50 poisoned images among clean ones",
    "clean-tuning": "fine-tuned on clean images alone",
    "perturbation": "a small perturbation of all images beside the trigger, and without it",
    "changed-trigger": "the trigger moved, resized, fainter, of the opposite colour, blended",
    "inversion": "the smallest trigger for the attacker's class, sought in the net",
    "int8": "quantised to eight bits",
}


def check_audits(names: Sequence[str]) -> tuple[str, ...]:
    """The names, in the order of ``AUDITS``; all of them where none is given. Raises InputError for one that
    is not there."""
    for name in names:
        if name not in AUDITS:
            raise InputError(unknown("audit", name, AUDITS))
    return tuple(name for name in AUDITS if not names or name in names)
