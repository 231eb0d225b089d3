"""The study: states chosen on validation, reported on test; rows and pages that say so."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from prune_core.frontier import hypervolume
from sweeps.study import lowest_attack_within, means, study
from sweeps.study_page import study_markdown, study_png
from tests.factories import BADNET, make_counts, make_record, make_settings


def records():
    return [
        make_record("a", ((985, 400), None, (970, 100)), make_settings("l1", policy="margin")),
        make_record("b", ((960, 50),), make_settings("l1", policy="margin", x=10.0)),
        make_record("c", ((989, 499),), make_settings("index", policy="in-order")),
        make_record("d", settings=make_settings("tac", policy="margin"), reason="needs pairs"),
    ]


def test_a_way_takes_its_trials_together_and_test_only_reports() -> None:
    asked = []

    def test_counts(state):
        asked.append(state)
        return make_counts(900, 123)

    l1, index, tac = study(records(), test_counts)
    assert [(w.order, w.policy, w.trials) for w in (l1, index, tac)] == [
        ("l1", "margin", 2), ("index", "in-order", 1), ("tac", "margin", 1)]
    # The BadNet has 990 of 1000: within 2 points is 970 (100 attacked), within 4 also 960 (50).
    chosen = {p: (c.valid.clean_correct, c.valid.attacked) for p, c in l1.within.items()}
    assert chosen == {2.0: (970, 100), 4.0: (960, 50), 10.0: (960, 50)}
    assert {c.test.attacked for c in l1.within.values()} == {123}
    assert l1.hypervolume == pytest.approx(
        hypervolume(np.array([0.985, 0.97, 0.96]), np.array([0.8, 0.2, 0.1])))
    assert l1.candidates == 4 and l1.seconds == 24.0
    assert tac.failed == ("needs pairs",) and not tac.within
    assert len(asked) == 6  # one for each choice, none for other states


def test_equal_attacks_go_to_the_higher_accuracy_then_to_fewer_channels() -> None:
    (record,) = [make_record("a", ((970, 100), (980, 100), (980, 100)))]
    state = lowest_attack_within(record.states(), make_counts(*BADNET), 10)
    assert state is not None and (state.counts.clean_correct, len(state.mask)) == (980, 2)
    assert lowest_attack_within(record.states(), make_counts(*BADNET), 0.5) is None


def test_spread_is_over_seeds() -> None:
    same = [make_record(f"s{seed}", ((985, 500 - 100 * seed),), make_settings("random", seed=seed))
            for seed in (1, 3)]
    (way,) = study(same, lambda state: make_counts())
    assert list(way.by_seed) == [1, 3]
    assert way.spread == pytest.approx((way.by_seed[3] - way.by_seed[1]) / 2)
    assert means([way], "policy") == {"margin": way.hypervolume}


def test_the_page_shows_test_rates_with_intervals_and_what_failed() -> None:
    ways = study(records(), lambda state: make_counts(900, 123))
    page = study_markdown({"faces": ways}, {"faces": "study-faces.png"}, "Index loses.")
    assert "Index loses." in page and "![faces: the best ways](study-faces.png)" in page
    assert "90.0 / 24.6 (21.0 to 28.6)" in page  # 123 of 500
    assert "Not possible: tac: needs pairs" in page
    assert study_png("faces", ways).startswith(b"\x89PNG")
    assert study_png("none", [w for w in ways if not w.states]).startswith(b"\x89PNG")


def test_the_command_end_to_end_and_again(goodnet, smoke_config, tmp_path) -> None:
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"] |= {"layer_sets": ["last:2"], "orders": ["l1", "across:activation-gap"],
                      "policies": ["in-order", "best-first"], "x_thresholds": [10]}  # fmt: skip
    smoke_config.write_text(yaml.safe_dump(tree))
    command = ("study", smoke_config, "--out", tmp_path / "docs", "--executor", "inline", "--json")
    said = goodnet(*command)
    assert said.status == 0, said.err
    found = said.json["sweeps"]["smoke"]
    assert (found["trials"], found["ways"]) == (4, 4)
    page = (tmp_path / "docs" / "study.md").read_text()
    assert "| across:activation-gap | best-first |" in page
    assert (tmp_path / "docs" / "study-smoke.png").is_file()
    assert goodnet(*command).json == said.json  # nothing is run twice, nothing changes
    assert (tmp_path / "docs" / "study.md").read_text() == page
