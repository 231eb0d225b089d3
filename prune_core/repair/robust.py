"""``finetune`` along the way back to the BadNet, so that what was repaired does not wake so easily.

A repaired net mostly lies near the BadNet: a few poisoned images take it back. Path-aware minimisation (PAM:
Min et al., arXiv 2410.09838) takes its gradients not at the weights themselves but at points on the straight
line from them to the BadNet's, so that the attack has to be gone there too, and the weights move further
away. The authors step a fixed length towards the BadNet and show triggers of another method's inversion; here
each batch is at a share of the way that is drawn anew, and shows what ``finetune`` shows: clean images as the
BadNet answers them, and triggers found in the net of that very point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from prune_core.files.constants import Weights
from prune_core.masks import ChannelMask
from prune_core.model.parameters import Parameter, parameters_of
from prune_core.repair.finetune import aims_of, held_at_zero, rounds_of
from prune_core.repair.lesson import Copies, Course, Lesson
from prune_core.repair.losses import image_tensor
from prune_core.repair.nets import Given, MadeNet
from prune_core.repair.student import training_form
from prune_core.threads import steps_on_fixed_threads

ROBUST = Course("robust", rounds=12, learning_rate=6e-4, pressure=0.3, size=0.3)
WAY = 0.9  # of the way to the BadNet, up to which gradients are taken


@dataclass(frozen=True, eq=False)
class Way:
    """From the weights that are trained to the BadNet's.

    Attributes:
        ends: the BadNet's values by constant; pruned channels zero, as they stay.
        most: the share of the way up to which points are drawn.
        generator: draws them, on the CPU.
    """

    ends: Mapping[str, torch.Tensor]
    most: float
    generator: torch.Generator

    @contextmanager
    def point(self, trained: Sequence[Parameter]) -> Iterator[None]:
        """Within it the weights are those of a point of the way; the gradients stay."""
        share = self.most * float(torch.rand((), generator=self.generator))
        with torch.no_grad():
            before = [p.tensor.clone() for p in trained]
            for parameter in trained:
                parameter.tensor.lerp_(self.ends[parameter.name], share)
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, value in zip(trained, before, strict=True):
                    parameter.tensor.copy_(value)


@steps_on_fixed_threads
def finetune_robust(
    given: Given,
    mask: ChannelMask,
    weights: Weights,
    tell: Callable[[int, int, str], None] = lambda done, total, what: None,
    course: Course = ROBUST,
    most: float = WAY,
) -> Iterator[MadeNet]:
    """The nets of the later half of a course's rounds, the last one last: what is gained does not show in
    clean accuracy and attack success, so no hold-out could choose among them, and none is kept apart.

    Args:
        given: the BadNet, and clean images; poisoned ones are not looked at but for the target.
        mask, weights: the net to start from.
        tell: (rounds done, rounds, what).

    Raises InputError where no target is known, or there is no layer to train.
    """
    model, split = given.model, given.valid
    aims = aims_of(split, model.check_images(split.clean.shape, split.clean.name))
    pixels = image_tensor(split.clean, model.device)
    copies = Copies(model, pixels, course.batch, course.mixed, given.seed)
    lesson = Lesson(split, copies, aims, "finetune", course, given.seed)
    student = training_form(model.with_weights(weights))
    way = Way(_ends(given, mask), most, torch.Generator().manual_seed(given.seed))
    for number, changed in enumerate(rounds_of(model, student, mask, weights, lesson, way.point)):
        if number:
            tell(number, course.rounds, "finetune-robust")
        if number > course.rounds // 2:
            yield MadeNet(mask, changed, f"finetune-robust, round {number} of {course.rounds}")


def _ends(given: Given, mask: ChannelMask) -> dict[str, torch.Tensor]:
    badnet = training_form(given.model)
    parameters = parameters_of(badnet)
    held_at_zero(badnet, mask)
    return {p.name: p.tensor.detach() for p in parameters}
