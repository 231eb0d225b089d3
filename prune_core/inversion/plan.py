"""How much is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prune_core.inversion.search import Effort

SCREENED = 64  # classes; of more, only the easiest are searched in full, and as many others
STEPS = 100
AT_ONCE = 344  # images of a step over all classes, at least 8 and at most 32 for each class
SCREEN = Effort(steps=12, images=6)
EASIEST, OTHERS = 24, 24
CANDIDATES = 3  # of a kind
STARTS = 3
ODD = 2.5  # anomaly from which a class is a candidate


@dataclass(frozen=True)
class Plan:
    """What is searched; ``passes``: images through the network, forth and back, at most."""

    targets: tuple[int, ...]
    kinds: tuple[str, ...]
    images: int
    screened: bool

    @property
    def pool(self) -> int:
        """Classes that are searched in full."""
        return min(len(self.targets), EASIEST + OTHERS) if self.screened else len(self.targets)

    @property
    def effort(self) -> Effort:
        """Of a search in full: the fewer classes, the more images for each, since sizes of few tell less."""
        return Effort(STEPS, min(self.images, max(8, min(32, AT_ONCE // self.pool))))

    @property
    def passes(self) -> int:
        full = STEPS * self.effort.images
        first = len(self.targets) * SCREEN.steps * min(SCREEN.images, self.images) if self.screened else 0
        more = CANDIDATES * STARTS  # other starts, and the copy
        return len(self.kinds) * (first + full * (self.pool + more))

    def to_json(self) -> dict[str, Any]:
        """What a scan of the same plan repeats."""
        return {
            "kinds": list(self.kinds),
            "classes_searched": len(self.targets),
            "screened": self.screened,
            "steps": STEPS,
            "batch": self.effort.images,
            "starts": STARTS,
        }
