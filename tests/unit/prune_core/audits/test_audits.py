"""A repaired net attacked again, on a planted backdoor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_nets import TARGET, TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.audits import changed_triggers, perturbation, quantised
from prune_core.audits.entries import Entry, Skipped
from prune_core.audits.inverted import inversion_settings, inverted
from prune_core.audits.names import AUDITS, check_audits
from prune_core.audits.perturbation import perturbation_settings, perturbed
from prune_core.audits.plan import Bench, Piece, as_it_is, pieces
from prune_core.audits.run import audited, expected_seconds
from prune_core.audits.subject import Asked, Exhibits, Heap, Subject
from prune_core.audits.tuning import tuned, tuning_settings
from prune_core.data.images import LabeledImages
from prune_core.errors import InputError
from prune_core.masks import ChannelMask
from prune_core.model.model import PrunableModel

QUICK = {**tuning_settings(5), "steps": 3, "batch": 16}


def entry(attacked: tuple[int, int], clean: int = 90, before: int = 95) -> Entry:
    return Entry("int8", {}, None, (clean, 100), attacked, (1, 50), (before, 100), "nothing")


def weights(subject: Subject) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in subject.model.graph.state_dict().values()]


@pytest.fixture
def bench(tmp_path: Path) -> tuple[Subject, Bench]:
    subject = Subject(small_badnet(tmp_path))
    return subject, Bench.of(subject, small_split(1), small_split(2))


@pytest.mark.parametrize(
    ("attacked", "light"),
    [((0, 100), "green"), ((0, 20), "amber"), ((5, 100), "amber"), ((45, 100), "red"), ((5, 5), "red")],
)
def test_a_light_is_shown_by_the_upper_end_of_the_interval(attacked: tuple[int, int], light: str) -> None:
    """None of 20 images is no proof of 10 %."""
    assert entry(attacked).light == light


def test_a_net_that_is_broken_by_the_attack_is_not_called_safe() -> None:
    broken = entry((0, 100), clean=50)
    assert broken.light == "amber" and "nobody would use" in broken.why


def test_an_entry_is_read_back_as_it_was_and_others_are_refused() -> None:
    one = replace(entry((3, 100)), setting={"change": "moved", "pixels": [2, 2]}, seed=1)
    assert Entry.from_json(one.to_json()) == one
    with pytest.raises(ValueError):
        Entry.from_json({**one.to_json(), "attacked": [101, 100]})


def test_what_is_counted_was_not_attacked_with(bench: tuple[Subject, Bench]) -> None:
    shown = bench[1].exhibits
    (pool,), (valid,) = shown.pool, shown.valid
    seen = {image.numpy().tobytes() for image in pool.pixels}
    assert not any(image.numpy().tobytes() in seen for image in valid.pixels)
    assert len(pool.targets) + len(valid.targets) == len(small_split(1).poisoned)


def test_the_net_as_it_is(bench: tuple[Subject, Bench]) -> None:
    """The planted trigger works always; with its channel pruned never."""
    subject, found = bench
    (hits, of) = as_it_is(Asked(subject, found.exhibits)).attacked
    assert hits == of == len(small_split(2).poisoned)
    pruned = replace(subject, mask=ChannelMask.of({"c2": [TRIGGER_CHANNEL]}))
    assert as_it_is(Asked(pruned, found.exhibits)).attacked[0] < of / 2


def test_fine_tuning_leaves_the_net_as_found_and_pruned_channels_at_zero(
    bench: tuple[Subject, Bench],
) -> None:
    subject, found = bench
    mask = ChannelMask.of({"c2": [TRIGGER_CHANNEL]})
    before = weights(subject)
    asked = Asked(replace(subject, mask=mask), found.exhibits)
    net = tuned(asked, QUICK, seed=0)
    assert all(torch.equal(one, other) for one, other in zip(weights(subject), before, strict=True))
    after = weights(Subject(net))
    assert any(not torch.equal(one, other) for one, other in zip(after, before, strict=True))
    assert all(float(tensor[rows].abs().sum()) == 0 for tensor, rows in net.tensors_of(mask))
    again = weights(Subject(tuned(asked, QUICK, seed=0)))
    assert all(torch.equal(one, other) for one, other in zip(after, again, strict=True))


def test_enough_poisoned_images_wake_any_net(bench: tuple[Subject, Bench]) -> None:
    """Which is why a benign net goes through the same."""
    subject, found = bench
    asked = Asked(replace(subject, mask=ChannelMask.of({"c2": [TRIGGER_CHANNEL]})), found.exhibits)
    firm = {**tuning_settings(20), "steps": 60, "learning_rate": 0.01}
    net = tuned(asked, firm, seed=0)
    woken = as_it_is(replace(asked, subject=Subject(net)))
    assert woken.attack_success > as_it_is(asked).attack_success


def test_a_perturbation_is_small_and_only_ever_helps_on_what_it_is_found_for(
    bench: tuple[Subject, Bench],
) -> None:
    subject, found = bench
    asked = Asked(replace(subject, mask=ChannelMask.of({"c2": [TRIGGER_CHANNEL]})), found.exhibits)
    for start in ("trigger", "clean"):
        one = perturbed(asked, perturbation_settings(start), 0)
        assert one.clean == asked.clean and one.attacked[1] > 0
    everything = perturbed(Asked(subject, found.exhibits), perturbation_settings("trigger"), 0)
    assert everything.attack_success == 1


def test_a_perturbation_of_clean_images_is_counted_on_others_than_those_it_was_sought_with(
    bench: tuple[Subject, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, found = bench
    sought: list[bytes] = []
    made = perturbation._found

    def spied(net: PrunableModel, heap: Heap, *args: Any) -> torch.Tensor:
        sought.extend(image.numpy().tobytes() for image in heap.pixels)
        return made(net, heap, *args)

    monkeypatch.setattr(perturbation, "_found", spied)
    one = perturbed(Asked(subject, found.exhibits), perturbation_settings("clean"), 0)
    (free,) = found.exhibits.free_valid
    left = [i for i in free.pixels if i.numpy().tobytes() not in sought]
    assert one.valid[1] == len(left) > 0


def test_one_clean_image_is_too_few_to_seek_a_perturbation_and_count_it(bench: tuple[Subject, Bench]) -> None:
    subject, found = bench
    (free,) = found.exhibits.free_valid
    few = replace(found.exhibits, free_valid=(Heap(free.pixels[:1], free.targets[:1]),))
    todo, skipped = pieces(subject, replace(found, exhibits=few), ["perturbation"])
    assert {piece.setting["start"] for piece in todo} == {"trigger"}
    assert [one.audit for one in skipped] == ["perturbation of clean images"]


def pasted(scale: float, shift: float, rows: slice, span: float = 255) -> tuple[LabeledImages, LabeledImages]:
    """Clean images, and the same with ``scale * pixel + shift`` in some rows; of labels 0 to 3."""
    drawn = np.random.default_rng(0)
    clean = drawn.integers(20, 230, (80, 3, 12, 12)).astype(np.float32)
    labels = np.arange(80) % 4
    bad = clean[labels != 1].copy()
    bad[:, :, rows] = np.clip(scale * bad[:, :, rows] + shift, 0, span)
    return LabeledImages(clean, labels), LabeledImages(bad, np.full(len(bad), 1))


@pytest.mark.parametrize(
    ("scale", "shift", "rows"),
    [(0.0, 200.0, slice(0, 3)), (1.0, 15.0, slice(None)), (0.8, 30.0, slice(None))],
    ids=["pasted", "added", "blended"],
)
def test_a_trigger_is_found_from_pairs(scale: float, shift: float, rows: slice) -> None:
    clean, bad = pasted(scale, shift, rows)
    found = changed_triggers.find_trigger_by_pairs(clean, bad, (0.0, 255.0))
    assert found is not None
    assert np.allclose(found[0][:, rows], scale, atol=0.02) and np.allclose(found[1][:, rows], shift, atol=3)
    beside = np.ones(12, bool)
    beside[rows] = False
    assert (found[0][:, beside] == 1).all() and (found[1][:, beside] == 0).all()


def test_no_trigger_is_made_up_where_pairs_are_not_known() -> None:
    clean, bad = pasted(0.0, 200.0, slice(0, 3))
    shuffled = bad.keeping(np.random.default_rng(1).permutation(len(bad)))
    assert changed_triggers.find_trigger_by_pairs(clean, shuffled, (0.0, 255.0)) is None
    same = clean.keeping(clean.labels != 1)
    assert (
        changed_triggers.find_trigger_by_pairs(clean, replace(same, labels=bad.labels), (0.0, 255.0)) is None
    )


def test_changes_of_a_patch() -> None:
    """A patch of one colour in the top left corner, worked by hand."""
    scale, shift = torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    scale[..., :2, :2], shift[..., :2, :2] = 0, 10
    trigger = changed_triggers.FoundTrigger(scale, shift, (0.0, 10.0))
    assert trigger.box == (0, 0, 2, 2) and trigger.is_patch
    grey = torch.full((1, 1, 8, 8), 4.0)
    assert trigger(grey)[0, 0, 0].tolist() == [10, 10, 4, 4, 4, 4, 4, 4]
    assert trigger.with_strength(0.5)(grey)[0, 0, 0, 0] == 7
    assert trigger.opposite()(grey)[0, 0, 0, 0] == 0
    assert trigger.moved(6, 6).box == (6, 6, 8, 8)
    assert trigger.resized(0.5).with_strength(1).touched.sum() <= 4
    assert trigger.spread(0.5)(grey).flatten().tolist() == [7.0] * 64
    told = [setting for setting, _ in changed_triggers.changes(trigger)]
    assert told[0] == {"change": "none"} and {"change": "moved", "to": "the opposite place"} in told


def test_what_cannot_be_done_is_said_and_not_passed(bench: tuple[Subject, Bench]) -> None:
    subject, found = bench
    done, skipped = pieces(subject, replace(found, triggers=None), ["changed-trigger", "as-it-is"])
    assert [p.audit for p in done] == ["as-it-is"] and [s.audit for s in skipped] == ["changed-trigger"]


def test_without_onnx_runtime_int8_is_left_out(
    bench: tuple[Subject, Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantised, "onnx_runtime_version", lambda: None)
    subject, found = bench
    skipped = quantised.quantised(Asked(subject, found.exhibits), quantised.int8_settings())
    assert isinstance(skipped, Skipped) and "pip install" in skipped.why


def test_a_net_in_eight_bits(bench: tuple[Subject, Bench]) -> None:
    pytest.importorskip("onnxruntime")
    subject, found = bench
    made = quantised.quantised(Asked(subject, found.exhibits), quantised.int8_settings())
    assert isinstance(made, Entry), made
    assert made.attack_success > 0.9 and made.clean[1] == len(small_split(2).clean)


def test_the_planted_trigger_is_found_and_gone_with_its_channel(bench: tuple[Subject, Bench]) -> None:
    """A patch leads to the target; without the channel it takes far more of the image."""
    subject, found = bench
    setting = inversion_settings("patch", TARGET)
    there = inverted(Asked(subject, found.exhibits), setting, 0)
    pruned = replace(subject, mask=ChannelMask.of({"c2": [TRIGGER_CHANNEL]}))
    gone = inverted(Asked(pruned, found.exhibits), setting, 0)
    assert there.attack_success > 0.9 and there.found["size"] is not None
    assert gone.found["size"] is None or gone.found["size"] > there.found["size"]
    assert Entry.from_json(gone.to_json()) == gone


def test_a_trigger_that_needs_too_much_is_no_sign_of_a_backdoor() -> None:
    small = replace(entry((100, 100)), found={"size": 0.01, "limit": 0.03})
    assert small.light == "red" and "1.00 %" in small.why
    assert replace(small, found={"size": 0.2, "limit": 0.03}).light == "green"
    assert replace(small, found={"size": None, "limit": 0.03}).light == "green"


def test_no_piece_is_done_twice(bench: tuple[Subject, Bench], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept before a stop is not asked again."""
    subject, found = bench
    run: list[int] = []

    def piece(number: int) -> Piece:
        def made() -> Entry:
            if number == 2 and not stopped:
                raise KeyboardInterrupt
            run.append(number)
            return replace(entry((1, 100)), setting={"number": number})

        return Piece("int8", {"number": number}, None, made)

    monkeypatch.setattr("prune_core.audits.run.pieces", lambda *_: ([piece(n) for n in range(4)], []))
    kept: dict[str, Entry] = {}
    stopped = False
    with pytest.raises(KeyboardInterrupt):
        audited(subject, found, keep=lambda e: kept.update({e.key: e}))
    stopped = True
    result = audited(subject, found, known=kept)
    assert run == [0, 1, 2, 3] and len(result.entries) == 4


def test_an_audit_that_is_not_there() -> None:
    with pytest.raises(InputError, match="did you mean 'reactivation'"):
        check_audits(["reactivaton"])
    assert check_audits([]) == tuple(AUDITS)


def test_the_time_that_is_said_grows_with_what_is_to_do(bench: tuple[Subject, Bench]) -> None:
    subject, found = bench
    assert (
        expected_seconds(subject, found, [])
        == 0
        < expected_seconds(subject, found, pieces(subject, found, ["reactivation"])[0])
    )


def test_one_poisoned_image_is_too_few() -> None:
    split = small_split(1)
    one = split.keeping(np.arange(len(split.clean)), np.arange(1))
    with pytest.raises(InputError, match="1 poisoned image"):
        Exhibits.of(one, split, 4, torch.device("cpu"))
