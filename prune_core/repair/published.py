"""What published repairs share: clean images in batches, steps that suit raw pixels, pruned channels held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import fx, nn

from prune_core.errors import InputError
from prune_core.repair.augment import cropped
from prune_core.repair.losses import image_tensor, shuffled_batches
from prune_core.repair.nets import Given

Held = list[tuple[torch.Tensor, Any]]


class CleanBatches:
    """(pixels, labels) of the clean validation images, by lots that the seed draws. ``augmented``: cropped
    at random and mirrored, as the authors of ANP, RNP and FT-SAM do. Batches hold at least two images,
    without which there are no batch statistics. Raises InputError where there is only one."""

    def __init__(self, given: Given, size: int = 128, augmented: bool = False) -> None:
        self.device, self.size, self.augmented = given.model.device, size, augmented
        self.pixels = image_tensor(given.valid.clean, self.device)
        self.labels = torch.tensor(given.valid.clean.labels, device=self.device)
        self.generator = torch.Generator().manual_seed(given.seed)
        if len(self.pixels) < 2:
            raise InputError(
                f"{given.valid.clean.name}: one image cannot be trained on; expected 2 or more, some hundred"
            )

    def drawn(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``count`` batches, each image drawn anew from all."""
        for _ in range(count):
            yield self._batch(torch.randint(0, len(self.pixels), (self.size,), generator=self.generator))

    def epoch(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every image once; but for one that would be left over alone."""
        for rows in shuffled_batches(len(self.pixels), self.size, self.generator, self.device):
            if len(rows) > 1:
                yield self._batch(rows)

    def take(self, count: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """``count`` batches, epoch after epoch."""
        done = 0
        while True:
            for batch in self.epoch():
                if done == count:
                    return
                done += 1
                yield batch

    def _batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = rows.to(self.device)
        pixels = self.pixels[rows]
        return cropped(pixels, self.generator) if self.augmented else pixels, self.labels[rows]


@torch.no_grad()
def pixel_squares(
    graph: fx.GraphModule, run: Callable[[torch.Tensor], torch.Tensor], pixels: torch.Tensor
) -> dict[int, float]:
    """Of kernels that see pixels, by identity, the mean square of what they see, at least 1. The authors'
    pixels are about 1; a step of SGD on a kernel that sees pixels up to 255 would be as many times too
    long as their square."""
    behind, found = set[fx.Node](), dict[int, float]()
    for node in graph.graph.nodes:
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        convs = [] if module is None else [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        after = any(i in behind for i in node.all_input_nodes)
        if convs and not after:
            seen: list[float] = []
            handle = convs[0].register_forward_pre_hook(
                lambda m, args, seen=seen: seen.append(float(args[0].square().mean()))
            )
            try:
                run(pixels)
            finally:
                handle.remove()
            found[id(convs[0].weight)] = max(1.0, seen[0])
        if convs or after:
            behind.add(node)
    return found


def check_trained(parameters: Iterable[torch.Tensor], when: str) -> None:
    """Raises InputError where training has run away; ``when``: of which method, after how much of it."""
    if not all(bool(torch.isfinite(parameter).all()) for parameter in parameters):
        raise InputError(
            f"{when}: training has diverged (a weight is NaN or infinite); its published settings do not "
            "suit this network and these images, so take another repair"
        )


def zero(held: Iterable[tuple[torch.Tensor, Any]]) -> None:
    with torch.no_grad():
        for tensor, place in held:
            tensor[place] = 0
