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

How hard to train depends on what is left to repair, so there are two courses from the same start:
``gentle`` leaves a net that is nearly there as accurate as it is, ``firm`` takes down an attack that
pruning has hardly touched, and is long, since a student of few images learns late to answer others (a
good teacher is patient: Beyer et al., arXiv 2106.05237).

A fifth of the validation images is kept apart: they are not trained on, and a round's net is a result
when none of another round, of either course, is better on them in agreement with the BadNet on clean
images and attack success both. Agreement is of class distributions, not of answers: the answers of so
few images tell good rounds apart by lot. A course stops when several rounds in a row bring no such net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from prune_core.data.attack import aim_of
from prune_core.data.images import LabeledImages, Split
from prune_core.data.pairs import find_pairs, known_truth
from prune_core.errors import InputError
from prune_core.files.constants import Weights
from prune_core.frontier import non_dominated
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel
from prune_core.model.parameters import Parameter, changed_weights, parameters_of, student_of
from prune_core.repair.augment import blended, varied
from prune_core.repair.losses import (
    agreement,
    attack_hinge,
    distillation,
    image_tensor,
    logits_of,
    shuffled_batches,
    target_tensor,
)
from prune_core.repair.universal_trigger import find_trigger, with_trigger
from prune_core.threads import fixed_threads

APART = 0.2  # the fraction of images that is kept apart


@dataclass(frozen=True)
class Course:
    """A round is ``batches`` batches of ``batch`` images. ``pressure`` and ``truth``: weights of the
    hinge and of the cross-entropy on attacked images, against nats of divergence on clean ones;
    ``clearance`` in logits. ``mixed``: the share of clean images that are blended with another.
    ``found_on`` images show a trigger that ``found_for`` batches are stamped with; ``size``: what it may
    change a pixel by, as a fraction of the span of pixels. ``patience`` in rounds."""

    name: str
    rounds: int
    learning_rate: float
    pressure: float
    size: float
    batches: int = 15
    batch: int = 64
    truth: float = 0.03
    mixed: float = 0.3
    clearance: float = 5.0
    found_on: int = 24
    found_for: int = 3
    patience: int = 8


GENTLE = Course("gentle", rounds=12, learning_rate=5e-5, pressure=0.01, size=0.1)
FIRM = Course("firm", rounds=45, learning_rate=2e-4, pressure=0.3, size=0.3)
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
    drawn = generator.get_state()  # every course draws the same lots
    nets: list[TunedNet] = []
    total, done = sum(course.rounds for course in courses), 0
    for course in courses:
        student = student_of(model.with_weights(weights))
        lesson = _Lesson(model, taught, aims, repair, course, torch.Generator().set_state(drawn))
        for number, changed in enumerate(_rounds(model, student, mask, weights, lesson)):
            rates = (agreement(logits_of(student, clean), answers), worst_rate(student, poisoned))
            if number or not nets:
                nets.append(TunedNet(course.name, number, changed, *rates))
            if number:
                tell(done + number, total)
            best = nets[max(_not_beaten(nets))]
            if number - (best.round if best.course == course.name else 0) >= course.patience:
                break
        done += course.rounds
    return sorted((nets[i] for i in _not_beaten(nets)), key=lambda net: (net.balance, net.round))


def _rounds(
    model: PrunableModel, student: PrunableModel, mask: ChannelMask, weights: Weights, lesson: _Lesson
) -> Iterator[Weights]:
    """Train ``student``; what it differs by from the BadNet at the start and after every round."""
    course = lesson.course
    parameters = parameters_of(student)
    trained = trained_parameters(student)
    held = _held_at_zero(student, mask)
    for parameter in trained:
        parameter.tensor.requires_grad_(True)
    before = {p.name: p.value() for p in parameters_of(model)}
    optimizer = torch.optim.Adam([p.tensor for p in trained], lr=course.learning_rate)
    yield {**weights, **changed_weights(parameters, before)}
    for number in range(course.rounds):
        for group in optimizer.param_groups:
            group["lr"] = course.learning_rate * 0.5 * (1 + np.cos(np.pi * number / course.rounds))
        for loss in lesson.losses(student):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                for tensor, rows in held:
                    tensor[rows] = 0
        yield {**weights, **changed_weights(parameters, before)}


def check_repair(repair: str, split: Split) -> None:
    """Raises InputError when the split has not what the repair needs."""
    if repair not in ("finetune", "finetune-margin", "unlearn"):
        raise InputError(f"repair {repair!r} is unknown; expected one of finetune, finetune-margin, unlearn")
    if repair == "unlearn" and split.poisoned.true_labels is None:
        raise InputError(
            f"repair unlearn needs the true labels of poisoned images, and {split.poisoned.name} has no "
            "field 'true_label'; add it, or give a trigger picture instead of poisoned files"
        )
    if repair == "finetune":
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
    classes apart. Raises InputError when none is left."""
    held = [p for p in parameters_of(student) if p.kind in ("conv", "dense")]
    layers = list(dict.fromkeys(p.node for p in held))[:-1]
    if not layers:
        raise InputError(f"{student.name}: no layer before the last whose weights could be trained")
    return [p for p in held if p.node in layers]


def kept_apart(count: int, fraction: float, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, rows kept apart; both sorted. Raises InputError when one would be empty."""
    apart = int(count * fraction)
    if not 0 < apart < count:
        raise InputError(f"{count} images are too few for a hold-out of {fraction:.0%}")
    order = torch.randperm(count, generator=generator).numpy()
    return np.sort(order[apart:]), np.sort(order[:apart])


class _Lesson:
    """What a student is taught, batch by batch."""

    def __init__(
        self,
        badnet: PrunableModel,
        split: Split,
        aims: list[torch.Tensor],
        repair: str,
        course: Course,
        generator: torch.Generator,
    ) -> None:
        self.badnet, self.repair, self.course, self.generator = badnet, repair, course, generator
        self.aims = [aim.to(badnet.device) for aim in aims]
        self.clean = image_tensor(split.clean, badnet.device)
        self.span = (float(self.clean.min()), float(self.clean.max()))
        self._clean_batches = self._endless(len(self.clean))
        if repair != "finetune":  # which never gets to see a poisoned image
            images = split.poisoned
            self.poisoned = image_tensor(images, badnet.device)
            self.targets = target_tensor(images, badnet.device)
            if images.true_labels is not None:
                self.truth = torch.tensor(images.true_labels, device=badnet.device)
            self._poisoned_batches = self._endless(len(self.poisoned))

    def losses(self, student: PrunableModel) -> Iterator[torch.Tensor]:
        """One for each batch of a round."""
        course, trigger = self.course, None
        for number in range(course.batches):
            rows = next(self._clean_batches)
            seen = blended(varied(self.clean[rows], self.generator, self.span), self.generator, course.mixed)
            wanted = logits_of(self.badnet, seen, len(seen))
            if self.repair == "finetune":
                if trigger is None or number % course.found_for == 0:
                    some = self.clean[rows][: course.found_on]
                    aim = self.aims[number // course.found_for % len(self.aims)]
                    trigger = self._found(student, some, aim)
                bad, targets = with_trigger(seen, trigger, self.span), _of(aim, wanted)
            else:
                rows = next(self._poisoned_batches)
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
        return find_trigger(student, some, targets, self.span, self.generator, self.course.size)

    def _endless(self, count: int) -> Iterator[torch.Tensor]:
        while True:
            yield from shuffled_batches(count, self.course.batch, self.generator, self.badnet.device)


def _held_at_zero(student: PrunableModel, mask: ChannelMask) -> list[tuple[torch.Tensor, list[int]]]:
    """Set a mask's channels to zero for good; the tensors and rows that have to stay so."""
    held = list(student.tensors_of(mask))
    with torch.no_grad():
        for tensor, rows in held:
            tensor[rows] = 0
    return held


def _not_beaten(nets: list[TunedNet]) -> list[int]:
    found = non_dominated(
        np.array([net.agreement for net in nets]), np.array([net.attack_success for net in nets])
    )
    return [int(i) for i in found]


def _of(aim: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """(n,) what the attacker wants of images that the BadNet says ``logits`` to; -1: not known."""
    return aim[logits.argmax(dim=1)]


def worst_rate(net: PrunableModel, images: LabeledImages) -> float:
    """Attack success, of several triggers that of the worst."""
    attacked = logits_of(net, image_tensor(images, net.device)).argmax(1).cpu().numpy() == images.labels
    if images.triggers is None:
        return float(attacked.mean())
    return max(float(attacked[images.triggers == n].mean()) for n in np.unique(images.triggers))
