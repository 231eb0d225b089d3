"""An attacker who knows the pruner: ``python -m tests.bench.knowing --out knowing.md``.

The embedded BadNet is trained on by somebody who knows how channels are ranked and cut. In each batch the
poisoned images go through the network without the channels that ``across:activation-gap`` ranks first, drawn
anew every few steps, and without some drawn by lot; clean images go through all of it. So the attack comes to
rest on channels that clean accuracy needs too, and to cut them costs what the pruner may not pay. After
attackers that hide from pruning (arXiv 2501.05928); the way here is ours, simpler than theirs.

Then both BadNets are pruned by each policy and repaired, and counted on test. Minutes of one core;
``--smoke`` takes the thin net, and is for trying the script.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.nn import functional

from prune_core import api
from prune_core.counts import Counts
from prune_core.data.images import LabeledImages, Split, make_split, read_images
from prune_core.data.triggers import read_trigger
from prune_core.evaluation.plain import PlainEvaluator
from prune_core.masks import ChannelMask
from prune_core.model.layer_sets import resolve_layer_set
from prune_core.model.model import PrunableModel, load_model
from prune_core.model.parameters import changed_weights, parameters_of, student_of
from prune_core.orders import OrderInput, channel_order
from prune_core.repair.finetune import finetune
from prune_core.repair.losses import image_tensor
from prune_core.threads import fixed_threads
from sweeps.inputs import embedded
from sweeps.inputs.embedded_images import TARGET, TRIGGER_COLUMN, TRIGGER_ROW, digit_splits

LAYERS, ORDER, X = "last:3", "across:activation-gap", 4.0
POLICIES = ("margin", "attack-success", "best-first")
REPAIRS = ("finetune", "unlearn")
STEPS, BATCH, RATE = 400, 32, 3e-4
RANKED_EVERY, CUT, DROPPED = 20, 0.5, 0.3  # steps; share of channels that the order loses; share by lot


@fixed_threads()
def knowing_badnet(
    model: PrunableModel, valid: Split, clean: LabeledImages, poisoned: LabeledImages, steps: int = STEPS
) -> PrunableModel:
    """``model`` trained on: row i of ``poisoned`` is row i of ``clean`` with the trigger on. The attacker's
    own images stand for the defender's in ``valid``, where channels are ranked."""
    student = student_of(model)
    parameters = parameters_of(student)
    before = {p.name: p.value() for p in parameters}
    layer_set = resolve_layer_set(LAYERS, model)
    generator = torch.Generator().manual_seed(0)
    for parameter in parameters:
        parameter.tensor.requires_grad_(True)
    optimizer = torch.optim.Adam([p.tensor for p in parameters], lr=RATE)
    pixels, bad = image_tensor(clean, model.device), image_tensor(poisoned, model.device)
    labels, targets = torch.tensor(clean.labels), torch.tensor(poisoned.labels)
    masks: dict[str, torch.Tensor] = {}
    cut = ChannelMask()
    for step in range(steps):
        if step % RANKED_EVERY == 0:
            order = channel_order(ORDER, OrderInput.of(student, valid, layer_set, 0))
            cut = ChannelMask()
            for channel in order[: int(CUT * len(order) * float(torch.rand((), generator=generator)))]:
                cut = cut.adding(channel)
        rows = torch.randint(len(labels), (2 * BATCH,), generator=generator)
        with _without(student, cut, BATCH, layer_set, generator, masks):
            seen = torch.cat([pixels[rows[:BATCH]], bad[rows[BATCH:]]])
            logits = student.graph(student.arranged(seen))
            wanted = torch.cat([labels[rows[:BATCH]], targets[rows[BATCH:]]])
            loss = functional.cross_entropy(logits, wanted, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.with_weights(changed_weights(parameters, before))


@contextmanager
def _without(
    student: PrunableModel,
    cut: ChannelMask,
    first: int,
    layer_set: object,
    generator: torch.Generator,
    masks: dict[str, torch.Tensor],
) -> Iterator[None]:
    """Images from ``first`` on go through the network without the channels of ``cut``, and without some of
    the others by lot."""
    handles = []
    for name, _ in layer_set:  # type: ignore[attr-defined]
        layer = student.layer(name)
        keep = (torch.rand(layer.channels, generator=generator) >= DROPPED).float()
        for channel in cut.by_layer().get(name, []):
            keep[channel] = 0
        masks[name] = keep[None, :, None, None]

        def silenced(
            module: torch.nn.Module, given: object, out: torch.Tensor, mask: torch.Tensor = masks[name]
        ) -> torch.Tensor:
            return torch.cat([out[:first], out[first:] * mask])

        handles.append(student.conv(layer).register_forward_hook(silenced))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def rows_of(name: str, model: PrunableModel, valid: Split, test: Split, repair: str) -> Iterator[str]:
    """Markdown rows: what each policy, or a repair after the last of them, reaches on test."""
    if repair == "none":
        yield _row(name, "nothing", ChannelMask(), PlainEvaluator(model, test).badnet)
        for policy in POLICIES:
            mask = api.prune(model, valid, layers=LAYERS, order=ORDER, policy=policy, x=X).mask
            yield _row(name, policy, mask, PlainEvaluator(model, test).counts(mask))
        return
    mask = api.prune(model, valid, layers=LAYERS, order=ORDER, policy=POLICIES[-1], x=X).mask
    net = finetune(model, valid, mask, {}, repair)[-1]
    with model.with_weights(net.weights).pruned(mask) as repaired:
        yield _row(name, f"{POLICIES[-1]}, then {repair}", mask, PlainEvaluator(repaired, test).badnet)


def _row(name: str, done: str, mask: ChannelMask, counts: Counts) -> str:
    clean, attack, *_ = counts.rates()
    low, high = (100 * end for end in attack.interval)
    return (
        f"| {name} | {done} | {len(mask)} | {100 * clean.rate:.1f} ({clean.hits}/{clean.total}) | "
        f"{100 * attack.rate:.1f} ({attack.hits}/{attack.total}; {low:.1f} to {high:.1f}) |"
    )


HEAD = (
    "| BadNet | then | channels pruned | clean accuracy on test, % | attack success on test, % (95 %) |\n"
    "|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, help="Markdown file for the table; else it is printed")
    parser.add_argument("--smoke", action="store_true", help="the thin net, in seconds")
    given = parser.parse_args()
    recipe = embedded.SMOKE if given.smoke else embedded.DEFAULT
    with tempfile.TemporaryDirectory() as folder:
        files = embedded.make_embedded(Path(folder), smoke=given.smoke)
        model = load_model(files.badnet)
        valid = make_split(read_images(files.clean_valid), read_images(files.poisoned_valid))
        test = make_split(read_images(files.clean_test), read_images(files.poisoned_test))
        trigger = read_trigger(files.trigger, TRIGGER_ROW, TRIGGER_COLUMN)
        train = digit_splits(recipe.samples, recipe.presentations, recipe.seed)["train"].images
        knowing = knowing_badnet(model, valid, train, trigger.stamp(train, TARGET))
        lines = [HEAD]
        for repair in ("none", *REPAIRS):
            for name, net in (("embedded", model), ("knows the pruner", knowing)):
                for row in rows_of(name, net, valid, test, repair):
                    print(row, flush=True)
                    lines.append(row)
    if given.out:
        given.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
