"""One trial in memory: a network and a split in, a mask and its counts out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from prune_core.counts import Counts
from prune_core.data.checks.findings import Finding
from prune_core.data.images import Split
from prune_core.data.subset import subset
from prune_core.errors import InputError
from prune_core.evaluation.look import look
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.evaluators import make_evaluator
from prune_core.export.apply_mask import matched, rows_in
from prune_core.export.files import measured_everywhere, with_program, write_formats
from prune_core.export.state_dict import with_rows_zero
from prune_core.frontier import non_dominated
from prune_core.greedy import PruneStep
from prune_core.masks import ChannelMask
from prune_core.methods import NET_POLICIES, method_of
from prune_core.model.from_module import from_module
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel
from prune_core.orders import OrderInput, channel_order, find_order
from prune_core.policies.registry import empty_mask
from prune_core.policies.registry import prune as steps_of
from prune_core.policies.screening import Screen

_log = logging.getLogger("goodnet")
PART = 0.2  # of the memory, for what ranks on a part of the images


@dataclass(frozen=True, eq=False)
class PruneResult:
    """A network after ``prune``.

    Attributes:
        mask: the channels that are pruned; with the BadNet, it is the GoodNet.
        counts: of the GoodNet on the split that it was pruned on.
        badnet: of the BadNet on the same split.
        steps: every candidate in turn; step number n, from 1, is ``steps[n - 1]``.
        layers, order, policy, x, seed: as they were given.
        model: the BadNet, as it was.
        data: the split.
        findings: of the look at the data, errors first; each has ``level``, ``name``, ``detail`` and
            ``counts``. An error says that the counts mean something else than they seem to.
    """

    mask: ChannelMask
    counts: Counts
    badnet: Counts
    steps: tuple[PruneStep, ...] = field(repr=False)
    layers: str | tuple[str, ...]
    order: str
    policy: str
    x: float
    seed: int
    model: PrunableModel = field(repr=False)
    data: Split = field(repr=False)
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def frontier(self) -> list[dict[str, Any]]:
        """The states of this trial that no other of its states beats on both axes, by falling clean
        accuracy: a list of rows that ``pandas.DataFrame`` takes. Empty where no channel was pruned.

        Each row has ``step`` (the number of the candidate, from 1), ``channels_pruned``,
        ``clean_accuracy`` and ``attack_success`` (fractions; higher and lower are better),
        ``clean_correct``, ``clean_total``, ``attacked``, ``poisoned_total``, ``recovered_accuracy``
        (a fraction; None where true labels are not known) and ``mask`` (``{layer: [indices]}``); of several
        triggers those of the worst, and each under ``triggers``.
        """
        accepted = [(n, step) for n, step in enumerate(self.steps, 1) if step.accepted]
        accepted.sort(key=lambda state: len(state[1].mask))  # of equal ones, the fewest channels
        positions = non_dominated(
            np.array([step.now.clean_accuracy for _, step in accepted]),
            np.array([step.now.attack_success for _, step in accepted]),
        )
        return [_row(*accepted[p]) for p in positions]

    def apply(self, module: nn.Module) -> nn.Module:
        """A copy of your own PyTorch module, pruned: what this mask prunes is zero in it, batch norm
        included. The module is left as it is; the copy has its device, precision and mode.

        Args:
            module: the BadNet: what ``from_module`` got, the architecture whose weights ``load`` read, or
                the module that was exported to the ONNX file.

        Raises:
            InputError: the module is another network, or its state_dict cannot hold the mask (a layer that
                is called twice and pruned in one of them).
        """
        if self.model.source is not None:
            return with_rows_zero(module, rows_in(self.model, self.mask), "the mask")
        net = from_module(module, self.data.clean.shape)
        mask = matched(net, self.mask, list(self.model.by_name))
        made = with_rows_zero(module, rows_in(net, mask), "the mask")
        counts = PlainEvaluator(net, self.data).counts(mask)
        if (counts.clean_correct, counts.attacked) != (self.counts.clean_correct, self.counts.attacked):
            raise InputError(
                f"{net.name} with this mask: {counts.clean_correct} clean images right, {counts.attacked} "
                f"attacked; {self.model.name}: {self.counts.clean_correct} and {self.counts.attacked}; "
                "expected the module that was exported to that file"
            )
        return made

    def save(self, destination: str | Path, badnet: str | Path | None = None) -> dict[str, Path]:
        """Write the GoodNet, read every file back and measure it again.

        Args:
            destination: a folder and the beginning of the files' names, as ``goodnets/mine``.
            badnet: the file that the network was read from; of a Keras file the GoodNet is then written
                as ``.h5`` or ``.keras`` too.

        Returns:
            The files by kind: ``onnx`` (channels zeroed), ``small-onnx`` (the same function, pruned
            channels taken out), ``pt2`` (that as a program which torch loads alone, where torch can export
            it), ``goodnet-onnx`` (BadNet and pruned network side by side, N + 1 classes),
            ``keras`` if there is one, ``safetensors``, and ``mask`` (JSON). Of a network that came from a
            PyTorch module, ``safetensors`` is its state_dict: ``load_state_dict(load_file(...))`` takes it.

        Raises:
            InputError: the folder cannot be written, or ``badnet`` is not this network's file.
            ExportMismatch: a file does not do what ``counts`` say; the models are removed then.
        """
        destination = Path(destination)
        if not destination.name:
            raise InputError(f"save({str(destination)!r}): expected a folder and a name, as 'goodnets/mine'")
        file = None if badnet is None else Path(badnet)
        clean = self.data.clean
        written = with_program(
            write_formats(
                self.model, self.mask, file, destination, clean.shape, preprocessing=clean.preprocessing
            )
        )
        splits = {"": (PlainEvaluator(self.model, self.data), self.counts)}
        written, _ = measured_everywhere(written, splits)
        return {**written.models, "mask": written.mask}


def prune(
    net: PrunableModel,
    data: Split,
    *,
    layers: str | Sequence[str] = "last:3",
    order: str = "across:activation-gap",
    policy: str = "best-first",
    x: float = 4.0,
    seed: int = 0,
    rank_images: int | None = None,
    screen: int | None = None,
    evaluator: str = "incremental",
    memory_gb: float = 4.0,
    on_step: Callable[[PruneStep], None] | None = None,
) -> PruneResult:
    """Prune channels of a network as long as that weakens the attack and keeps its clean accuracy.

    The data are looked at first. What is found stands in ``findings`` of the result; errors and warnings are
    logged (logger ``goodnet``), and nothing is refused for them.

    Source: the seed report's targeted method, and ``best-first``, which prunes what buys most first.

    Args:
        net: the BadNet, from ``load`` or ``from_module``; it is left as it was.
        data: the validation split that decides. Measure the result on another one.
        layers: which channels may be pruned, and in which order layers are walked: "last:K" (the K
            convolutions nearest the output, the last first), a layer's name, or a list of names, each
            perhaps with channels, as "conv_3[0-19,40]".
        order: by which criterion channels are ranked; ``across:NAME`` ranks those of all layers together.
        policy: how the order is walked and what is accepted.
        x: the accuracy budget: the percentage points of clean accuracy that pruning may cost, 0 to 100.
            It is hard, but under ``seed``.
        seed: of orders that draw lots, and of the part that ``rank_images`` draws.
        rank_images: under ``best-first``, candidates are ranked on so many images of each kind, a part drawn
            once; what is accepted is counted on all. None: all is decided on all images.
        screen: under ``best-first``, a first-order estimate chooses so many channels at a time, and only they
            are asked about; for layers with many channels. None: the order chooses.
        evaluator: "incremental", which reuses what does not change, or "plain"; both count the same.
        memory_gb: GiB that this process may take (``incremental`` only).
        on_step: called with every candidate's step.

    Raises:
        InputError: a name that is unknown, a value out of range, or a network and images that do not fit.
    """
    if not isinstance(net, PrunableModel):
        hint = ": goodnet.from_module(net, example)" if isinstance(net, nn.Module) else ""
        raise InputError(f"net is a {type(net).__name__}; expected what goodnet.load(path) returns{hint}")
    if not isinstance(data, Split):
        raise InputError(f"data is a {type(data).__name__}; expected a Split, as Split.from_arrays makes one")
    points = _points(x)
    if policy in NET_POLICIES:
        raise InputError(
            f"policy {policy!r} makes networks otherwise than by pruning; it runs in a sweep (goodnet.sweep)"
        )
    method_of(policy)
    find_order(order)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}; expected a whole number, 0 or more")
    for option, value in {"rank_images": rank_images, "screen": screen}.items():
        if value is not None and (type(value) is not int or value < 1):
            raise InputError(f"{option} is {value!r}; expected a whole number, 1 or more, or None")
    net = net.at(data.clean.shape)
    chosen = layers if isinstance(layers, str) else tuple(layers)
    layer_set = resolve_layer_set(chosen, net)
    _check_classes(net, data)
    findings = look(net, data, x=(points,))
    for finding in findings:
        if finding.level != "note":
            _log.warning("%s", finding.detail)
    counter = make_evaluator(net, data, evaluator, memory_gb * (1.0 if rank_images is None else 1 - PART))
    channels = channel_order(order, OrderInput.of(net, data, layer_set, seed))
    steps: list[PruneStep] = []
    few = None if rank_images is None else subset(data, rank_images, seed)
    part = None if few is None else partial(make_evaluator, net, few, evaluator, memory_gb * PART)
    chosen_by = None if screen is None else partial(Screen, net, data, screen)
    for step in steps_of(policy, points, counter, channels, part, chosen_by):
        steps.append(step)
        if on_step is not None:
            on_step(step)
    mask = steps[-1].mask if steps else empty_mask(policy)
    counts = steps[-1].now if steps else counter.badnet
    if counts.margin is None or not counts.complete:
        counts = counter.counts(mask)
    return PruneResult(
        mask,
        counts,
        counter.badnet,
        tuple(steps),
        chosen,
        order,
        policy,
        points,
        seed,
        net,
        data,
        findings,
    )


def _points(x: Any) -> float:
    if isinstance(x, bool) or not isinstance(x, (int, float, np.number)) or not 0 <= x <= 100:
        raise InputError(f"x is {x!r}; expected percentage points of clean accuracy, 0 to 100")
    return float(x)


def _check_classes(net: PrunableModel, data: Split) -> None:
    """Raises InputError where images and network do not fit, in the words of ``Split.from_arrays``."""
    classes = net.check_images(data.clean.shape, data.clean.name)

    def check(what: str, highest: int) -> None:
        if highest >= classes:
            raise InputError(f"{what} {highest}, but {net.name} has {classes} classes (0 to {classes - 1})")

    check("the target is" if len(np.unique(data.targets)) == 1 else "targets hold", int(data.targets.max()))
    check(f"labels of {data.clean.name} hold", int(data.clean.labels.max()))
    if data.poisoned.true_labels is not None:
        check(f"true labels of {data.poisoned.name} hold", int(data.poisoned.true_labels.max()))


def _row(number: int, step: PruneStep) -> dict[str, Any]:
    counts = step.now
    return {
        "step": number,
        "channels_pruned": len(step.mask),
        "clean_accuracy": counts.clean_accuracy,
        "attack_success": counts.attack_success,
        "clean_correct": counts.clean_correct,
        "clean_total": counts.clean_total,
        "attacked": counts.attacked,
        "poisoned_total": counts.poisoned_total,
        "recovered_accuracy": counts.recovered_accuracy,
        **({"triggers": [t.to_json() for t in counts.triggers]} if counts.triggers else {}),
        "mask": step.mask.by_layer(),
    }
