"""What all trials of a sweep share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prune_core.data.images import Split
from prune_core.masks import Channel
from prune_core.methods import Inverted
from sweeps.records.settings import TrialSettings, trial_key

if TYPE_CHECKING:
    from prune_core.model.model import PrunableModel


@dataclass(frozen=True, eq=False)
class TrialInputs:
    """What all trials of a sweep share: the BadNet and both splits. ``inverted``: whether validation's
    triggers were found by inversion, for a target that was given (``class``) or found (``auto``)."""

    model: PrunableModel
    valid: Split
    test: Split
    inverted: Inverted | None = None
    # Orders computed so far: trials that differ in X or policy only share one.
    orders: dict[tuple[str, tuple[str, ...], int], list[Channel]] = field(default_factory=dict, repr=False)

    @property
    def digests(self) -> dict[str, str]:
        """Of all bytes that trials work on."""
        return {"badnet": self.model.digest, "valid": self.valid.digest, "test": self.test.digest}

    def key(self, settings: TrialSettings) -> str:
        return trial_key(settings, self.model.digest, self.valid.digest, self.test.digest)
