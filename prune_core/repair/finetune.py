"""After pruning or scaling: train what is left, with the pruned channels held at zero.

Three repairs, told apart by what they have to know:

- ``finetune``: clean images and the target label, or labels. The net learns to answer clean images as the
  BadNet did (its logits are distilled, so labels are not used either), on varied copies; and clean images
  with a trigger that the net itself gives away (``found_triggers``) must lose the target by a clearance.
  Without that, training wakes the attack again.
- ``finetune-margin``: the same with poisoned images in place of found triggers. Their true labels
  are not used.
- ``unlearn``: the same as ``finetune-margin``, and poisoned images must get their true labels too.

The layer that tells the classes apart is never trained. Where few clean images are of the target
class, its bias alone could silence the target for good: attack success 0 at no cost that such images
could show, and no repair of anything.

The first layer that has weights is left alone too, where there are others: it takes a third of a batch's
time and repairs nothing that the next ones cannot.

How hard to train depends on what is left to repair, so there are two courses from the same start:
``gentle`` leaves a net that is nearly there as accurate as it is, ``firm`` takes down an attack that
pruning has hardly touched, and is long, since a student of few images learns late to answer others (a
good teacher is patient: Beyer et al., arXiv 2106.05237). Gentle is left early where the attack does not
fall, and firm left out where gentle has done.

A fifth of the validation images is kept apart: they are not trained on, and a round's net is a result
when none of another round, of either course, is better on them in agreement with the BadNet on clean
images and attack success both. Agreement is of class distributions, not of answers: the answers of so
few images tell good rounds apart by lot. A course stops when several rounds in a row bring no such net.

Version 1 trained all layers but the last, had a firm course of 45 smaller rounds, and asked the BadNet again
for each batch: docs/performance-more.md compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from prune_core.counts import wilson_interval
from prune_core.data.attack import aim_of
from prune_core.data.images import LabeledImages, Split
from prune_core.data.pairs import find_pairs, known_truth
from prune_core.errors import InputError
from prune_core.files.constants import Weights
from prune_core.frontier import non_dominated
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import Parameter, changed_weights, parameters_of
from prune_core.repair.lesson import Copies, Course, Lesson
from prune_core.repair.losses import agreement, image_tensor, logits_of
from prune_core.repair.student import training_form
from prune_core.threads import fixed_threads

APART = 0.2  # the fraction of images that is kept apart
ENOUGH = 0.95  # agreement at which, with no image of those kept apart attacked, no firmer course follows

GENTLE = Course("gentle", rounds=12, learning_rate=5e-5, pressure=0.01, size=0.1)
FIRM = Course("firm", rounds=20, learning_rate=6e-4, pressure=0.3, size=0.3)
COURSES = (GENTLE, FIRM)


@dataclass(frozen=True, eq=False)
class TunedNet:
    """The net after a round of a course (round 0: the start): what of the BadNet's constants it
    changes, and its rates (fractions) on the images kept apart. ``agreement``: 1 minus the total
    variation distance between its and the BadNet's class distribution, mean over clean images."""

    course: str
    round: int
    weights: Weights
    agreement: float
    attack_success: float

    @property
    def balance(self) -> float:
        """Agreement minus attack success; compare the frontier's knee."""
        return self.agreement - self.attack_success


@fixed_threads()
def finetune(
    model: PrunableModel,
    split: Split,
    mask: ChannelMask,
    weights: Weights,
    repair: str,
    seed: int = 0,
    courses: Sequence[Course] = COURSES,
    tell: Callable[[int, int], None] = lambda done, total: None,
) -> list[TunedNet]:
    """Nets that no other round's beats on the images kept apart, the best balanced last.

    The same seed gives the same nets on the same machine, on however many threads.

    Args:
        model: the BadNet, left as found; what it says to clean images is what is distilled.
        mask, weights: the net to start from; it is round 0, and may be all that comes back.
        repair: ``finetune``, ``finetune-margin`` or ``unlearn``.
        tell: (rounds done or left out, rounds at most), of all courses.

    Raises InputError for another repair, for ``unlearn`` without true labels, and when there are
    too few images to keep some apart.
    """
    check_repair(repair, split)
    aims = aims_of(split, model.check_images(split.clean.shape, split.clean.name))
    generator = torch.Generator().manual_seed(seed)
    clean_rows, clean_apart = kept_apart(len(split.clean), APART, generator)
    poisoned_rows, poisoned_apart = kept_apart(len(split.poisoned), APART, generator)
    clean = image_tensor(split.clean.keeping(clean_apart), model.device)
    answers, poisoned = logits_of(model, clean), split.poisoned.keeping(poisoned_apart)
    taught = split.keeping(clean_rows, poisoned_rows)
    nets: list[TunedNet] = []
    total, done = sum(course.rounds for course in courses), 0
    copies: dict[tuple[int, float], Copies] = {}  # every course is shown the same
    for place, course in enumerate(courses, 1):
        if any(net.attack_success == 0 and net.agreement >= ENOUGH for net in nets):
            break
        form = (course.batch, course.mixed)
        if form not in copies:
            pixels = image_tensor(taught.clean, model.device)
            copies[form] = Copies(model, pixels, course.batch, course.mixed, seed)
        student = training_form(model.with_weights(weights))
        lesson = Lesson(taught, copies[form], aims, repair, course, seed)
        for number, changed in enumerate(rounds_of(model, student, mask, weights, lesson)):
            rates = (agreement(logits_of(student, clean), answers), worst_rate(student, poisoned))
            if number or not nets:
                nets.append(TunedNet(course.name, number, changed, *rates))
            if number:
                tell(done + number, total)
            best = nets[max(_not_beaten(nets))]
            if number - (best.round if best.course == course.name else 0) >= course.patience:
                break
            followed = place < len(courses)
            if followed and number >= course.proof and _in_vain(nets, course, poisoned):
                break
        done += course.rounds
    return sorted((nets[i] for i in _not_beaten(nets)), key=lambda net: (net.balance, net.round))


def rounds_of(
    model: PrunableModel,
    student: PrunableModel,
    mask: ChannelMask,
    weights: Weights,
    lesson: Lesson,
    point: Callable[[Sequence[Parameter]], AbstractContextManager[None]] = lambda trained: nullcontext(),
) -> Iterator[Weights]:
    """Train ``student``; what it differs by from the BadNet at the start and after every round. ``point``:
    within it the weights are those at which the gradient of a batch is taken."""
    course = lesson.course
    parameters = parameters_of(student)
    trained = trained_parameters(student)
    held = held_at_zero(student, mask)
    for parameter in trained:
        parameter.tensor.requires_grad_(True)
    before = {p.name: p.value() for p in parameters_of(model)}
    optimizer = torch.optim.Adam([p.tensor for p in trained], lr=course.learning_rate, fused=True)
    yield {**weights, **changed_weights(parameters, before)}
    for number in range(course.rounds):
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * 0.5 * (1 + np.cos(np.pi * number / course.rounds))
        losses = lesson.losses(student)
        for _ in range(course.batches):
            with point(trained):
                loss = next(losses)
                optimizer.zero_grad()
                loss.backward()
            optimizer.step()
            with torch.no_grad():
                for tensor, rows in held:
                    tensor[rows] = 0
        yield {**weights, **changed_weights(parameters, before)}


def check_repair(repair: str, split: Split) -> None:
    """Raises InputError when the split has not what the repair needs."""
    known = ("finetune", "finetune-robust", "finetune-margin", "unlearn")
    if repair not in known:
        raise InputError(f"repair {repair!r} is unknown; expected one of {', '.join(known)}")
    if repair == "unlearn" and split.poisoned.true_labels is None:
        raise InputError(
            f"repair unlearn needs the true labels of poisoned images, and {split.poisoned.name} has no "
            "field 'true_label'; add it, or give a trigger picture instead of poisoned files"
        )
    if repair in ("finetune", "finetune-robust"):
        aims_of(split, int(max(split.clean.labels.max(), split.targets.max())) + 1)


def aims_of(split: Split, classes: int) -> list[torch.Tensor]:
    """Of each trigger, (classes,) int64: the class that the attacker wants of an image of each class, -1
    where it is not known; each aim once. Raises InputError where it is known of no class."""
    truth = known_truth(split, find_pairs(split)) if _varied(split) else None
    found: dict[bytes, torch.Tensor] = {}
    for rows in split.rows_by_trigger:
        aim = aim_of(split.targets[rows], None if truth is None else truth[rows], classes)
        if aim is None:
            raise InputError(
                f"repair finetune needs to know which class the attacker wants of which, and "
                f"{split.poisoned.name} has several targets and no field 'true_label'; add it"
            )
        found[aim.tobytes()] = torch.from_numpy(aim)
    return list(found.values())


def _varied(split: Split) -> bool:
    return any((split.targets[rows] != split.targets[rows][0]).any() for rows in split.rows_by_trigger)


def trained_parameters(student: PrunableModel) -> list[Parameter]:
    """Kernels and biases of convolutions and dense layers, but never of the last, which tells the
    classes apart, and of the first only where no other is left. Raises InputError when none is left."""
    held = [p for p in parameters_of(student) if p.kind in ("conv", "dense")]
    layers = list(dict.fromkeys(p.node for p in held))[:-1]
    if not layers:
        raise InputError(f"{student.name}: no layer before the last whose weights could be trained")
    return [p for p in held if p.node in (layers[1:] or layers)]


def kept_apart(count: int, fraction: float, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, rows kept apart; both sorted. Raises InputError when one would be empty."""
    apart = int(count * fraction)
    if not 0 < apart < count:
        raise InputError(f"{count} images are too few for a hold-out of {fraction:.0%}")
    order = torch.randperm(count, generator=generator).numpy()
    return np.sort(order[apart:]), np.sort(order[:apart])


def held_at_zero(student: PrunableModel, mask: ChannelMask) -> list[tuple[torch.Tensor, list[int]]]:
    """Set a mask's channels to zero for good; the tensors and rows that have to stay so."""
    held = list(student.tensors_of(mask))
    with torch.no_grad():
        for tensor, rows in held:
            tensor[rows] = 0
    return held


def _in_vain(nets: list[TunedNet], course: Course, poisoned: LabeledImages) -> bool:
    """Whether the images kept apart show a course's attack for certain, and no fall since the start: by
    95 % intervals of the lowest rate of its rounds."""
    of_each = [len(poisoned)]
    if poisoned.triggers is not None:
        of_each = np.unique(poisoned.triggers, return_counts=True)[1].tolist()
    count = min(of_each)
    lowest = min(net.attack_success for net in nets if net.course == course.name and net.round)
    low, high = wilson_interval(lowest * count, count)
    return low > wilson_interval(0, count)[1] and high >= nets[0].attack_success


def _not_beaten(nets: list[TunedNet]) -> list[int]:
    found = non_dominated(
        np.array([net.agreement for net in nets]), np.array([net.attack_success for net in nets])
    )
    return [int(i) for i in found]


def worst_rate(net: PrunableModel, images: LabeledImages) -> float:
    """Attack success, of several triggers that of the worst."""
    attacked = logits_of(net, image_tensor(images, net.device)).argmax(1).cpu().numpy() == images.labels
    if images.triggers is None:
        return float(attacked.mean())
    return max(float(attacked[images.triggers == n].mean()) for n in np.unique(images.triggers))
