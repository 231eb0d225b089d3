"""How much is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prune_core.inversion import margins
from prune_core.inversion.search import Effort
from prune_core.inversion.windows import A_SIDE, look_passes

SCREENED = 64  # classes; of more, only the easiest are searched in full, and as many others
STEPS, MOST_STEPS = 100, 250
IMAGES, MOST_IMAGES = 8, 16  # of a step, for each class
PASSES = 34_400  # images through the network that are shared out among the classes
SCREEN = Effort(steps=12, images=6)
EASIEST, OTHERS = 24, 24
CANDIDATES = 3  # of a kind
STARTS = 3
ODD = 2.5  # anomaly from which a class is a candidate


@dataclass(frozen=True)
class Plan:
    """What is searched; ``passes``: images through the network, forth and back, at most;
    ``windows``: places that a patch is also sought in (``windows_of``)."""

    targets: tuple[int, ...]
    kinds: tuple[str, ...]
    images: int
    screened: bool
    windows: int = A_SIDE * A_SIDE

    @property
    def pool(self) -> int:
        """Classes that are searched in full."""
        return min(len(self.targets), EASIEST + OTHERS) if self.screened else len(self.targets)

    @property
    def effort(self) -> Effort:
        """Of a search in full: the fewer classes, the more images and steps for each, since sizes of few
        tell less, and those of a search that is cut short tell less, too."""
        each = PASSES // self.pool
        images = max(IMAGES, min(MOST_IMAGES, each // STEPS))
        return Effort(max(STEPS, min(MOST_STEPS, each // images)), min(self.images, images))

    @property
    def passes(self) -> int:
        full = self.effort.steps * self.effort.images
        first = len(self.targets) * SCREEN.steps * min(SCREEN.images, self.images) if self.screened else 0
        more = CANDIDATES * STARTS  # other starts, and the copy
        free = first + full * (self.pool + more)
        near = (self.pool + more) * (full + self.windows * look_passes(self.images))
        climbed = self.pool * margins.STARTS * margins.STEPS
        if self.screened:
            climbed += len(self.targets) * margins.SHORT
        return climbed + sum(free + near if kind == "patch" else free for kind in self.kinds)

    def to_json(self) -> dict[str, Any]:
        """What a scan of the same plan repeats."""
        return {
            "kinds": list(self.kinds),
            "classes_searched": len(self.targets),
            "screened": self.screened,
            "steps": self.effort.steps,
            "batch": self.effort.images,
            "starts": STARTS,
            "windows": self.windows,
        }
