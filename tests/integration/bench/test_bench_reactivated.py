"""``tests.bench.reactivated``: what is kept is read again, what its table says, how a state is chosen."""

from __future__ import annotations

import json
from pathlib import Path

from small_nets import TRIGGER_CHANNEL, small_badnet, small_split

from prune_core.audits.entries import Entry
from prune_core.masks import ChannelMask
from prune_core.repair.nets import MadeNet
from tests.bench.reactivated import chosen, table


def test_the_table_is_of_what_is_kept(tmp_path: Path) -> None:
    found = [Entry("as-it-is", {}, None, (90, 100), (1, 100), (0, 50), (90, 100), "")]
    found += [
        Entry("reactivation", {"poisoned_images": 5}, seed, (90, 100), (hits, 100), (0, 50), (90, 100), "")
        for seed, hits in ((0, 20), (1, 40))
    ]
    kept = [entry.to_json() for entry in found]
    (tmp_path / "zoo-sig.pruned.entries.json").write_text(json.dumps(kept))
    (tmp_path / "csaw.ft-sam.json").write_text(
        json.dumps({"mask": ChannelMask().to_json(), "note": "no state"})
    )
    sig, csaw = table(tmp_path).splitlines()[2:]
    assert sig.startswith(
        "| zoo/sig | ours: best-first, X = 4 | 90.0 | 1.0 (0.2 to 5.4) | – | 30.0 (20.0 to 40.0)"
    )
    assert csaw.startswith("| csaw | FT-SAM | no state |")


def test_ours_ends_as_a_trial_does_and_others_are_chosen_on_validation(tmp_path: Path) -> None:
    model, valid = small_badnet(tmp_path), small_split(1)
    repaired = MadeNet(ChannelMask.of({"c2": [TRIGGER_CHANNEL]}), {}, "repaired")
    badnet = MadeNet(ChannelMask(), {}, "nothing done")
    for ours, note in ((True, "nothing done"), (False, "repaired")):
        net, counts = chosen([repaired, badnet], model, valid, ours)
        assert net.note == f"within 4 points: {note}"
        assert (counts.attacked < counts.poisoned_total / 2) == (note == "repaired")
