"""Is the next trigger as easy to find? The smallest one for the attacker's class, sought in the net itself.

By the search of ``goodnet scan`` (Neural Cleanse, Wang et al., S&P 2019). Every net has such triggers; a
backdoor, also one that has outlived a repair, has a far smaller one. So the size is the figure, beside that
of the BadNet and of a benign net.
"""

from __future__ import annotations

from typing import Any

import torch

from prune_core.audits.entries import Entry
from prune_core.audits.subject import Asked
from prune_core.inversion.search import Effort, invert, success_of

AUDIT = "inversion"
STEPS, IMAGES = 100, 32
# Of an image's pixels covered, of opacity: a trigger that needs more is no sign of a backdoor.
LIMITS = {"patch": 0.03, "blend": 0.1}


def inversion_settings(kind: str, target: int) -> dict[str, Any]:
    return {"kind": kind, "target": target, "steps": STEPS, "images": IMAGES}


def inverted(asked: Asked, setting: dict[str, Any], seed: int) -> Entry:
    """Sought on half of validation's clean images; counted on the others and on test."""
    pixels, labels = asked.exhibits.clean
    half, kind = len(labels) // 2, setting["kind"]
    ends = [torch.full((pixels.shape[1], 1, 1), end, device=pixels.device) for end in asked.exhibits.span]
    span, goal = (ends[0], ends[1]), torch.tensor([setting["target"]], device=pixels.device)
    generator = torch.Generator().manual_seed(seed)
    effort = Effort(setting["steps"], setting["images"])
    with asked.subject.model.pruned(asked.subject.mask) as net:
        found = invert(net, pixels[:half], labels[:half], goal, kind, effort, span, generator)

        def counted(images: tuple[torch.Tensor, torch.Tensor]) -> tuple[int, int]:
            hits, of = success_of(net, *images, goal, found.stamps, span)
            return int(hits), max(1, int(of))

        size = float(found.size)
        whole = pixels.shape[2] * pixels.shape[3] if kind == "patch" else 1
        return Entry(
            AUDIT,
            setting,
            seed,
            clean=asked.clean,
            attacked=counted(asked.exhibits.clean_test),
            valid=counted((pixels[half:], labels[half:])),
            before=asked.clean,
            assumed="the net's gradients, clean images and the class that the attacker wants",
            found={"size": size / whole if size < float("inf") else None, "limit": LIMITS[kind]},
        )
