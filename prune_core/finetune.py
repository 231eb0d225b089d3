"""After pruning or scaling: train what is left, with the pruned channels held at zero.

Three repairs, told apart by what they have to know:

- ``finetune``: clean images alone. The net learns to answer them as the BadNet did (its logits are
  distilled, so labels are not used either), on varied copies. Only the deeper half of the layers is
  trained: on the stand-in, training the early ones as well wakes the attack ten times as fast.
- ``finetune-margin``: the same, and poisoned images must lose the target by a clearance. Their true
  labels are not used.
- ``unlearn``: the same as ``finetune-margin``, and poisoned images must get their true labels too.

The layer that tells the classes apart is never trained. Where few clean images are of the target
class, its bias alone could silence the target for good: attack success 0 at no cost that such images
could show, and no repair of anything.

A fifth of the validation images is kept apart: they are not trained on, and a round's net is a result
when none of another round is better on them in clean accuracy and attack success both. Training stops
when several rounds in a row bring no such net.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from prune_core.augment import blended, varied
from prune_core.errors import InputError
from prune_core.frontier import non_dominated
from prune_core.images import LabeledImages, Split
from prune_core.losses import attack_hinge, distillation, image_tensor, logits_of, shuffled_batches
from prune_core.masks import ChannelMask
from prune_core.model import PrunableModel
from prune_core.parameters import Parameter, changed_weights, parameters_of, student_of
from prune_core.scaling import hold, merged
from prune_core.weights import Weights


@dataclass(frozen=True)
class TuningSettings:
    """A round is ``batches`` batches of ``batch`` images. ``pressure`` and ``truth``: weights of the
    hinge and of the cross-entropy on poisoned images, against nats of divergence on clean ones;
    ``clearance`` in logits. ``mixed``: the share of clean images that are blended with another.
    ``apart``: the fraction of images kept apart; ``patience`` in rounds. ``factor_...``: the same for
    the factors of a net that was scaled."""

    rounds: int = 10
    batches: int = 15
    batch: int = 64
    learning_rate: float = 2e-4
    pressure: float = 0.1
    truth: float = 0.03
    mixed: float = 0.3
    clearance: float = 5.0
    apart: float = 0.2
    patience: int = 4
    factor_rate: float = 0.01
    factor_pressure: float = 0.2
    factor_clearance: float = 3.0


DEFAULT = TuningSettings()


@dataclass(frozen=True, eq=False)
class TunedNet:
    """A round's net: what of the BadNet's constants it changes, and its rates (fractions) on the
    images kept apart."""

    round: int
    weights: Weights
    clean_accuracy: float
    attack_success: float

    @property
    def balance(self) -> float:
        """Clean accuracy minus attack success, as at the frontier's knee."""
        return self.clean_accuracy - self.attack_success


def finetune(
    model: PrunableModel,
    split: Split,
    mask: ChannelMask,
    weights: Weights,
    repair: str,
    seed: int = 0,
    settings: TuningSettings = DEFAULT,
    tell: Callable[[int, int], None] = lambda done, total: None,
    scaled_layers: Sequence[tuple[str, list[int]]] = (),
) -> list[TunedNet]:
    """Nets that no other round's beats on the images kept apart, the best balanced last.

    Args:
        model: the BadNet, left as found; what it says to clean images is what is distilled.
        mask, weights: the net to start from; it is round 0, and may be all that comes back.
        repair: ``finetune``, ``finetune-margin`` or ``unlearn``.
        tell: (rounds done, rounds at most).
        scaled_layers: (``finetune`` of a net that was scaled) channels whose factors go on being
            learned, under the attack hinge as in ``scaling``, while weights see clean images alone:
            what the weights wake, the factors hold down.

    Raises InputError for another repair, for ``unlearn`` without true labels, and when there are
    too few images to keep some apart.
    """
    check_repair(repair, split)
    student = student_of(model.with_weights(weights))
    parameters = parameters_of(student)
    trained = trained_parameters(student, deeper_half=repair == "finetune")
    held = _held_at_zero(student, mask)
    for parameter in trained:
        parameter.tensor.requires_grad_(True)
    before = {p.name: p.value() for p in parameters_of(model)}
    generator = torch.Generator().manual_seed(seed)
    clean_rows, clean_apart = kept_apart(len(split.clean), settings.apart, generator)
    poisoned_rows, poisoned_apart = kept_apart(len(split.poisoned), settings.apart, generator)
    lesson = _Lesson(
        model, split, repair, settings, generator, clean_rows, poisoned_rows, bool(scaled_layers)
    )
    clean, poisoned = split.clean.keeping(clean_apart), split.poisoned.keeping(poisoned_apart)
    factors = _Factors(student, scaled_layers, parameters, settings)
    optimizer = torch.optim.Adam([p.tensor for p in trained], lr=settings.learning_rate)
    nets: list[TunedNet] = []
    best: list[int] = []
    for number in range(settings.rounds + 1):
        if number:
            for group in optimizer.param_groups:
                done = (number - 1) / settings.rounds
                group["lr"] = settings.learning_rate * 0.5 * (1 + np.cos(np.pi * done))
            for loss in lesson.losses(student, settings.batches):
                optimizer.zero_grad()
                loss.backward()
                if scaled_layers:
                    factors.learn(lesson)
                optimizer.step()
                with torch.no_grad():
                    for tensor, rows in held:
                        tensor[rows] = 0
            tell(number, settings.rounds)
        changed = {**weights, **changed_weights(parameters, before), **factors.merged()}
        rates = (_right(student, clean), _called(student, poisoned, split.target))
        nets.append(TunedNet(number, changed, *rates))
        best = _not_beaten(nets)
        if number - max(best) >= settings.patience:
            break
    return sorted((nets[i] for i in best), key=lambda net: (net.balance, net.round))


def check_repair(repair: str, split: Split) -> None:
    """Raises InputError when the split has not what the repair needs."""
    if repair not in ("finetune", "finetune-margin", "unlearn"):
        raise InputError(f"repair {repair!r} is unknown; there are finetune, finetune-margin, unlearn")
    if repair == "unlearn" and split.poisoned.true_labels is None:
        raise InputError(
            f"repair unlearn needs the true labels of poisoned images, and {split.poisoned.name} has no "
            "field 'true_label'; add it, or give a trigger picture instead of poisoned files"
        )


def trained_parameters(student: PrunableModel, deeper_half: bool) -> list[Parameter]:
    """Kernels and biases of convolutions and dense layers, or of the deeper half of these layers, but
    never of the last, which tells the classes apart. Raises InputError when none is left."""
    held = [p for p in parameters_of(student) if p.kind in ("conv", "dense")]
    layers = list(dict.fromkeys(p.node for p in held))[:-1]
    if not layers:
        raise InputError(f"{student.name}: no layer before the last whose weights could be trained")
    chosen = layers[len(layers) // 2 :] if deeper_half else layers
    return [p for p in held if p.node in chosen]


def kept_apart(
    count: int, fraction: float, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, rows kept apart; both sorted. Raises InputError when one would be empty."""
    apart = int(count * fraction)
    if not 0 < apart < count:
        raise InputError(f"{count} images are too few to keep {fraction:.0%} of them apart from training")
    order = torch.randperm(count, generator=generator).numpy()
    return np.sort(order[apart:]), np.sort(order[:apart])


class _Lesson:
    """What a student is taught, batch by batch."""

    def __init__(
        self, badnet: PrunableModel, split: Split, repair: str, settings: TuningSettings,
        generator: torch.Generator, clean_rows: np.ndarray, poisoned_rows: np.ndarray,
        scaled: bool,
    ) -> None:
        self.badnet, self.repair, self.settings, self.generator = badnet, repair, settings, generator
        self.target = split.target
        self.clean = image_tensor(split.clean.keeping(clean_rows), badnet.device)
        self.span = (float(self.clean.min()), float(self.clean.max()))
        self._clean_batches = self._endless(len(self.clean))
        if repair != "finetune" or scaled:
            images = split.poisoned.keeping(poisoned_rows)
            self.poisoned = image_tensor(images, badnet.device)
            if images.true_labels is not None:
                self.truth = torch.from_numpy(images.true_labels).to(badnet.device)
            self._poisoned_batches = self._endless(len(self.poisoned))

    def losses(self, student: PrunableModel, batches: int) -> Iterator[torch.Tensor]:
        for _ in range(batches):
            seen = blended(
                varied(self.clean[next(self._clean_batches)], self.generator, self.span),
                self.generator, self.settings.mixed,
            )
            wanted = logits_of(self.badnet, seen, len(seen))
            if self.repair == "finetune":  # no poisoned image here
                yield distillation(student.graph(student.arranged(seen)), wanted)
                continue
            rows = next(self._poisoned_batches)
            both = student.graph(student.arranged(torch.cat([seen, self.poisoned[rows]])))
            clean, attacked = both[: len(seen)], both[len(seen) :]
            loss = distillation(clean, wanted) + self.settings.pressure * attack_hinge(
                attacked, self.target, self.settings.clearance
            )
            if self.repair == "unlearn":
                loss = loss + self.settings.truth * functional.cross_entropy(attacked, self.truth[rows])
            yield loss

    def poisoned_hinge(self, student: PrunableModel, clearance: float) -> torch.Tensor:
        attacked = student.graph(student.arranged(self.poisoned[next(self._poisoned_batches)]))
        return attack_hinge(attacked, self.target, clearance)

    def _endless(self, count: int) -> Iterator[torch.Tensor]:
        while True:
            yield from shuffled_batches(
                count, self.settings.batch, self.generator, self.badnet.device
            )


class _Factors:
    """Factors in [0, 1] of a scaled net's channels, on top of those that are in its weights."""

    def __init__(
        self, student: PrunableModel, scaled_layers: Sequence[tuple[str, list[int]]],
        parameters: list[Parameter], settings: TuningSettings,
    ) -> None:
        self.student, self.parameters, self.settings = student, parameters, settings
        self.layers = {name: student.layer(name) for name, _ in scaled_layers}
        self.free = dict(scaled_layers)
        device = student.device
        self.factors = {
            name: torch.ones(layer.channels, device=device, requires_grad=True)
            for name, layer in self.layers.items()
        }
        if self.factors:
            hold(student, self.factors)
            self.optimizer = torch.optim.Adam(self.factors.values(), lr=settings.factor_rate)

    def learn(self, lesson: _Lesson) -> None:
        """A step, with the gradients that the clean loss has left plus the hinge's; weights get none
        of the hinge."""
        held = list(self.factors.values())
        hinge = lesson.poisoned_hinge(self.student, self.settings.factor_clearance)
        for factor, more in zip(
            held, torch.autograd.grad(self.settings.factor_pressure * hinge, held), strict=True
        ):
            factor.grad = more if factor.grad is None else factor.grad + more
        self.optimizer.step()
        self.optimizer.zero_grad()
        with torch.no_grad():
            for name, factor in self.factors.items():
                kept = torch.ones_like(factor)
                kept[self.free[name]] = factor[self.free[name]].clamp(0, 1)
                factor.copy_(kept)

    def merged(self) -> dict[str, np.ndarray]:
        arrays = {name: factor.detach().cpu().numpy() for name, factor in self.factors.items()}
        return merged(arrays, self.layers, self.parameters)


def _held_at_zero(
    student: PrunableModel, mask: ChannelMask
) -> list[tuple[torch.Tensor, list[int]]]:
    """Set a mask's channels to zero for good; the tensors and rows that have to stay so."""
    held = list(student.tensors_of(mask))
    with torch.no_grad():
        for tensor, rows in held:
            tensor[rows] = 0
    return held


def _not_beaten(nets: list[TunedNet]) -> list[int]:
    found = non_dominated(
        np.array([net.clean_accuracy for net in nets]), np.array([net.attack_success for net in nets])
    )
    return [int(i) for i in found]


def _right(net: PrunableModel, images: LabeledImages) -> float:
    answers = logits_of(net, image_tensor(images, net.device)).argmax(1).cpu().numpy()
    return float((answers == images.labels).mean())


def _called(net: PrunableModel, images: LabeledImages, target: int) -> float:
    answers = logits_of(net, image_tensor(images, net.device)).argmax(1).cpu().numpy()
    return float((answers == target).mean())
