"""The study: states chosen on validation, reported on test; rows and pages that say so."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from prune_core.data.checks.findings import Finding
from prune_core.errors import InputError
from prune_core.frontier import hypervolume
from sweeps.commands import study_of
from sweeps.config.schema import head_of, load_config
from sweeps.events import SweepEvents
from sweeps.execution.inline import InlineExecutor
from sweeps.reports.study import grouped, lowest_attack_within, study, winners
from sweeps.reports.study_page import SHOWN, Part, study_markdown
from sweeps.reports.study_picture import _frontiers, study_png
from sweeps.storage.storage import open_storage
from sweeps.sweep import run_sweep
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
        ("l1", "margin", 2),
        ("index", "in-order", 1),
        ("tac", "margin", 1),
    ]
    # The BadNet has 990 of 1000: within 2 points is 970 (100 attacked), within 4 also 960 (50).
    chosen = {p: (c.valid.clean_correct, c.valid.attacked) for p, c in l1.within.items()}
    assert chosen == {2.0: (970, 100), 4.0: (960, 50), 10.0: (960, 50)}
    assert {c.test.attacked for c in l1.within.values()} == {123}
    assert l1.hypervolume == pytest.approx(
        hypervolume(np.array([0.985, 0.97, 0.96]), np.array([0.8, 0.2, 0.1]))
    )
    assert l1.candidates == 4 and l1.seconds == 24.0
    assert tac.failed == ("needs pairs",) and not tac.within
    assert len(asked) == 6  # one for each choice, none for other states


def test_equal_attacks_go_to_the_higher_accuracy_then_to_fewer_channels() -> None:
    (record,) = [make_record("a", ((970, 100), (980, 100), (980, 100)))]
    state = lowest_attack_within(record.states(), make_counts(*BADNET), 10)
    assert state is not None and (state.counts.clean_correct, len(state.mask)) == (980, 2)
    assert lowest_attack_within(record.states(), make_counts(*BADNET), 0.5) is None


def test_spread_is_over_seeds() -> None:
    same = [
        make_record(f"s{seed}", ((985, 500 - 100 * seed),), make_settings("random", seed=seed))
        for seed in (1, 3)
    ]
    (way,) = study(same, lambda state: make_counts())
    assert list(way.by_seed) == [1, 3]
    assert way.spread == pytest.approx((way.by_seed[3] - way.by_seed[1]) / 2)
    (group,) = grouped([way], "policy")
    assert (group.name, group.mean, group.spread) == ("margin", way.hypervolume, way.spread)


def test_groups_are_means_over_ways_and_of_one_trial() -> None:
    """Where no state is within, nothing is pruned: the BadNet's own attack success counts."""
    l1, index, _ = ways = study(records(), lambda state: make_counts(900, 123))
    by_policy = {g.name: g for g in grouped(ways, "policy")}
    assert list(by_policy) == ["margin", "in-order"]  # the failed way is in no mean
    margin = by_policy["margin"]
    assert (margin.ways, margin.mean, margin.best, margin.spread) == (1, l1.hypervolume, l1.hypervolume, None)
    assert (margin.candidates, margin.seconds) == (2.0, 12.0)  # 4 channels and 24 s in two trials
    deep = study([make_record("e", ((800, 10),), make_settings("l1"))], lambda state: make_counts())
    (group,) = grouped([*deep, l1], "order")
    assert group.mean == pytest.approx((deep[0].hypervolume + l1.hypervolume) / 2)
    assert group.attack[4.0] == pytest.approx((500 / 500 + 123 / 500) / 2)
    assert index.attack(2.0) == 123 / 500


def test_winners_are_chosen_on_validation_within_each_kind() -> None:
    """Not on test, where the loser would win here; and nets of different kinds never compete."""
    found = study(
        [
            make_record("a", ((985, 40),), make_settings("l1")),
            make_record("b", ((985, 60),), make_settings("tac")),
            make_record("c", ((985, 60),), make_settings("clp", policy="in-order")),
            make_record("d", ((985, 1),), make_settings("none", policy="scale")),
        ],
        lambda state: make_counts(980, 500 if state.counts.attacked == 40 else 0),
    )
    best = winners(found)
    assert {k: {p: w.order for p, w in by.items()} for k, by in best.items()} == {
        "scaling": {2.0: "none", 4.0: "none", 10.0: "none"},
        "pruning": {2.0: "l1", 4.0: "l1", 10.0: "l1"},
    }


def test_the_page_shows_what_the_ways_say() -> None:
    """Each figure of a row, computed here from the records by hand."""
    ways = study(records(), lambda state: make_counts(900, 123))
    page = study_markdown([Part("faces", ways, "study-faces.png", "Left out: last:2.", "n")], "Index loses.")
    assert "Index loses." in page and "![faces: the best ways](study-faces.png)" in page
    assert "Left out: last:2." in page
    # States (985, 400), (970, 100), (960, 50) of 1000 and 500: three strips of the square.
    area = 0.985 * 0.2 + 0.97 * 0.6 + 0.96 * 0.1
    test = "90.0 / 24.6"  # 900 of 1000, 123 of 500
    assert (
        f"| l1 | margin | conv_4 conv_3 | {area:.4f} | - | {test} | {test} | {test} | 4 | 24 |"
        in page.splitlines()
    )
    assert f"| margin | 1 | {area:.3f} | {area:.3f} | - | 24.6 | 24.6 | 24.6 | 2 | 12 |" in page
    assert ("| pruning | 2 points | margin, l1, 2 layers | 97.0 / 20.0 | 90.0 / 24.6 (21.0 to 28.6) | 2 |"
            in page)  # fmt: skip
    assert "Not possible: tac: needs pairs" in page


def test_kinds_have_tables_of_their_own() -> None:
    changed = make_record("d", ((985, 1),), make_settings("none", policy="scale"))
    ways = study([*records(), changed], lambda state: make_counts(900, 123))
    before, _, after = study_markdown([Part("faces", ways, "p.png")]).partition("### faces: scaling")
    pruned, scaled = "\n| l1 | margin |", "\n| none | scale |"
    assert pruned in before and scaled not in before
    assert scaled in after and pruned not in after and "Weights are changed" in after


def test_a_long_table_is_folded() -> None:
    many = [
        make_record(f"r{k}", ((985, k),), make_settings("l1", layers=(f"conv_{k}",)))
        for k in range(SHOWN + 2)
    ]
    page = study_markdown([Part("p", study(many, lambda s: make_counts()), "p.png")])
    assert "<summary>The other 2</summary>" in page
    folded = page[page.index("<details>") : page.index("</details>")]
    assert folded.count("\n| l1 | margin |") == 2


def test_sweeps_of_one_net_share_their_winners() -> None:
    one = study(records()[:1], lambda state: make_counts())
    two = study(records()[1:2], lambda state: make_counts())
    page = study_markdown([Part("a", one, "a.png", "", "net"), Part("b", two, "b.png", "", "net")])
    head = page[: page.index("## a")]
    assert "a, b:" in head and head.count("| pruning | 10 points |") == 1
    apart = study_markdown([Part("a", one, "a.png", "", "n1"), Part("b", two, "b.png", "", "n2")])
    assert apart.count("| pruning | 10 points |") == 2


def test_what_was_found_in_the_data_stands_with_the_figures() -> None:
    """As code, since it may name what a file holds; notes only with the sweep itself."""
    found = (
        Finding("warning", "few-images", "66 clean\n# images of ![](http://a/b.png)"),
        Finding("note", "few-images", "400 poisoned images"),
    )
    ways = study(records(), lambda state: make_counts())
    page = study_markdown([Part("a", ways, "a.png", findings=found), Part("b", ways, "b.png")])
    head, of_a, of_b = (text.splitlines() for text in (
        page[: page.index("## a")], page[page.index("## a") : page.index("## b")], page[page.index("## b") :]
    ))  # fmt: skip
    warning = "    warning: 66 clean # images of ![](http://a/b.png)"
    assert head.count(warning) == of_a.count(warning) == 1
    assert "    note: 400 poisoned images" in of_a and "note:" not in "".join(head)
    assert "Found in the data:" not in of_b


def test_pictures_are_made_of_any_number_of_ways() -> None:
    ways = study(records(), lambda state: make_counts(900, 123))
    assert study_png("faces", ways).startswith(b"\x89PNG")
    assert study_png("none", [w for w in ways if not w.states]).startswith(b"\x89PNG")


def test_a_frontier_is_not_drawn_better_than_it_is() -> None:
    """Between two states one gets the attack of the more accurate one, not yet that of the other."""
    axes = Figure().subplots()
    _frontiers(axes, study([make_record("a", ((985, 400), (970, 100)))], lambda s: make_counts()))
    (line,) = axes.lines
    assert line.get_drawstyle() == "steps-post"  # each height holds from its state to the next
    assert list(line.get_xdata()) == [0.985, 0.97] and list(line.get_ydata()) == [0.8, 0.2]


def test_two_sweeps_of_one_name_are_refused(smoke_config, tmp_path) -> None:
    config = load_config(smoke_config)
    with pytest.raises(InputError, match="two sweeps are called 'smoke'"):
        study_of([(config, ""), (config, "")], lambda c: pytest.fail("ran"), tmp_path, tmp_path / "no")


def test_searches_of_several_seeds_are_told_of_as_one_sweep(smoke_config, tmp_path) -> None:
    """Whatever two seeds draw in common counts once."""
    drawn = ["sweep.search=random", "sweep.samples=3", "sweep.search_seeds=[0,1]", "sweep.study=none"]
    config = load_config(smoke_config, [*drawn, f"storage={tmp_path}/runs"])
    found = []

    def run(one, storage):
        executor = InlineExecutor(one.evaluator, one.resources)
        found.append(run_sweep(one, storage, executor, SweepEvents()))
        return found[-1]

    told = study_of([(config, "")], run, tmp_path / "out", tmp_path / "no")
    assert [r.manifest.config.sweep.search_seeds for r in found] == [(0,), (1,)]
    both = {record.key for result in found for record in result.records}
    assert told["sweeps"]["smoke"]["trials"] == len(both) > 3
    with pytest.raises(InputError, match=r"search_seeds: several .* expected one .* as \[0\]"):
        run_sweep(config, open_storage(config.storage), None, SweepEvents())


def test_the_head_of_a_configuration_is_its_first_comment(tmp_path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("# One net.\n#  Left out: much.\nbadnet: x  # not this\n# nor this\n")
    assert head_of(path) == "One net. Left out: much."
    path.write_text("badnet: x\n")
    assert head_of(path) == ""


def test_the_command_end_to_end_and_again(goodnet, smoke_config, tmp_path) -> None:
    tree = yaml.safe_load(smoke_config.read_text())
    tree["sweep"] |= {"layer_sets": ["last:2"], "orders": ["l1", "across:activation-gap"],
                      "policies": ["in-order", "best-first"], "x_thresholds": [10]}  # fmt: skip
    smoke_config.write_text("# Left out: the rest.\n" + yaml.safe_dump(tree))
    command = ("study", smoke_config, "--out", tmp_path / "docs", "--executor", "inline", "--json")
    said = goodnet(*command)
    assert said.status == 0, said.err
    found = said.json["sweeps"]["smoke"]
    assert (found["trials"], found["ways"]) == (4, 4)
    page = (tmp_path / "docs" / "study.md").read_text()
    assert "| across:activation-gap | best-first |" in page
    assert "Left out: the rest." in page
    assert "few-images" in {f["name"] for f in found["findings"]} and "    warning: 66 clean" in page
    # The page's figure is the sweep's own: the frontier's best within 10 points, measured on test.
    points = goodnet("frontier", "--storage", tmp_path / "runs", "--json").json["points"]
    lowest = min(points, key=lambda p: p["attack_success"])
    rates = f"{100 * lowest['test']['clean_accuracy']:.1f} / {100 * lowest['test']['attack_success']:.1f}"
    (row,) = [line for line in page.splitlines() if line.startswith("| pruning | 10 points |")]
    assert f"| {rates} (" in row
    assert (tmp_path / "docs" / "study-smoke.png").is_file()
    assert goodnet(*command).json == said.json  # nothing is run twice, nothing changes
    assert (tmp_path / "docs" / "study.md").read_text() == page
