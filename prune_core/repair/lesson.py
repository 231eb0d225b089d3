"""What fine-tuning teaches a student, batch by batch; see ``finetune`` for what each repair may look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.nn import functional

from prune_core.data.images import Split
from prune_core.model.model import PrunableModel
from prune_core.repair.augment import blended, varied
from prune_core.repair.losses import (
    attack_hinge,
    distillation,
    image_tensor,
    logits_of,
    shuffled_batches,
    target_tensor,
)
from prune_core.repair.universal_trigger import find_trigger, with_trigger

BATCHES = 120  # different ones; after them the same come again, and the BadNet's answers are known


@dataclass(frozen=True)
class Course:
    """A round is ``batches`` batches of ``batch`` clean images and ``attacked`` attacked ones. ``pressure``
    and ``truth``: weights of the hinge and of the cross-entropy on attacked images, against nats of
    divergence on clean ones; ``clearance`` in logits. ``mixed``: the share of clean images that are blended
    with another. ``found_on`` images show a trigger that ``found_for`` batches are stamped with; ``size``:
    what it may change a pixel by, as a fraction of the span of pixels. ``patience`` and ``proof``, how many
    rounds may pass before the attack has to have fallen where a firmer course follows, in rounds."""

    name: str
    rounds: int
    learning_rate: float
    pressure: float
    size: float
    batches: int = 15
    batch: int = 64
    attacked: int = 32
    truth: float = 0.03
    mixed: float = 0.3
    clearance: float = 5.0
    found_on: int = 16
    found_for: int = 3
    patience: int = 8
    proof: int = 3


class Copies:
    """Batches of varied clean images, and what the BadNet says to them.

    Each batch is drawn from a seed of its own, so it can be made again: of the past only the BadNet's
    answers are kept, and those are asked for once.
    """

    def __init__(
        self, badnet: PrunableModel, clean: torch.Tensor, batch: int, mixed: float, seed: int
    ) -> None:
        """``clean``: (N, C, H, W) on the BadNet's device; ``batch``, ``mixed`` as in ``Course``."""
        self.badnet, self.clean, self.mixed, self.seed = badnet, clean, mixed, seed
        self.span = (float(clean.min()), float(clean.max()))
        endless = _endless(len(clean), batch, torch.Generator().manual_seed(seed), badnet.device)
        self.rows = [next(endless) for _ in range(BATCHES)]
        self._answers: dict[int, torch.Tensor] = {}

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of batch ``number``, from 0: its images as they are and varied, (n, C, H, W) each, and the
        BadNet's logits for the varied ones, (n, classes)."""
        number %= BATCHES
        plain = self.clean[self.rows[number]]
        generator = torch.Generator().manual_seed(self.seed * BATCHES + number + 1)
        seen = blended(varied(plain, generator, self.span), generator, self.mixed)
        if number not in self._answers:
            self._answers[number] = logits_of(self.badnet, seen, len(seen))
        return plain, seen, self._answers[number]


class Lesson:
    """What a student is taught in one course."""

    def __init__(
        self,
        split: Split,
        copies: Copies,
        aims: list[torch.Tensor],
        repair: str,
        course: Course,
        seed: int,
    ) -> None:
        """``split``: the images to train on; ``aims`` as ``finetune.aims_of`` finds them."""
        self.copies, self.repair, self.course = copies, repair, course
        self.badnet, device = copies.badnet, copies.badnet.device
        self.generator = torch.Generator().manual_seed(seed)
        self.aims = [aim.to(device) for aim in aims]
        self._batches = 0
        if repair != "finetune":  # which never gets to see a poisoned image
            images = split.poisoned
            self.poisoned = image_tensor(images, device)
            self.targets = target_tensor(images, device)
            if images.true_labels is not None:
                self.truth = torch.tensor(images.true_labels, device=device)
            self._poisoned_rows = _endless(len(images), course.attacked, self.generator, device)

    def losses(self, student: PrunableModel) -> Iterator[torch.Tensor]:
        """One for each batch of a round."""
        course, trigger = self.course, None
        for number in range(course.batches):
            plain, seen, wanted = self.copies.batch(self._batches)
            self._batches += 1
            if self.repair == "finetune":
                if trigger is None or number % course.found_for == 0:
                    aim = self.aims[number // course.found_for % len(self.aims)]
                    trigger = self._found(student, plain[: course.found_on], aim)
                bad = with_trigger(seen[: course.attacked], trigger, self.copies.span)
                targets = _of(aim, wanted[: course.attacked])
            else:
                rows = next(self._poisoned_rows)
                bad, targets = self.poisoned[rows], self.targets[rows]
            both = student.graph(student.arranged(torch.cat([seen, bad])))
            clean, attacked = both[: len(seen)], both[len(seen) :]
            loss = distillation(clean, wanted)
            aimed = targets >= 0
            if aimed.all():
                loss = loss + course.pressure * attack_hinge(attacked, targets, course.clearance)
            elif aimed.any():
                hinge = attack_hinge(attacked[aimed], targets[aimed], course.clearance)
                loss = loss + course.pressure * hinge
            if self.repair == "unlearn":
                loss = loss + course.truth * functional.cross_entropy(attacked, self.truth[rows])
            yield loss

    def _found(self, student: PrunableModel, some: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
        """A trigger that leads clean images where the attacker wants them, as far as that is known."""
        if (aim == aim[0]).all():
            targets = aim[0].expand(len(some))
        else:
            targets = _of(aim, logits_of(self.badnet, some, len(some)))
            told = targets >= 0
            if told.any():
                some, targets = some[told], targets[told]
            else:  # none of these classes: any target will do for once
                targets = aim.max().expand(len(some))
        return find_trigger(student, some, targets, self.copies.span, self.generator, self.course.size)


def _endless(
    count: int, size: int, generator: torch.Generator, device: torch.device
) -> Iterator[torch.Tensor]:
    while True:
        yield from shuffled_batches(count, size, generator, device)


def _of(aim: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """(n,) what the attacker wants of images that the BadNet says ``logits`` to; -1: not known."""
    return aim[logits.argmax(dim=1)]
