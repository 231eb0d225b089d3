"""What the page of a sweep is told, and that nothing in it is taken for markup."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from typing import Any

import pytest
from factories import make_counts, make_frontier, make_record, make_settings

from prune_core.counts import Counts, TriggerCounts
from prune_core.data.checks.findings import Finding
from prune_core.greedy import PruneStep
from prune_core.masks import Channel
from sweeps.records.ran import Ran
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.frontier_html import SCRIPTS, frontier_page
from sweeps.reports.frontier_scene import CAVEAT, make_scene
from sweeps.reports.page.data import PageData
from sweeps.reports.page.links import RunLinks, linked
from sweeps.results import Frontier

A = make_record("a", [(985, 400), None, (970, 100)], make_settings("index", x=4.0))
B = make_record("b", [(980, 450), (300, 50)], make_settings("l1", x=100.0, policy="final-layer"))
FAILED = make_record("c", reason="no memory", settings=make_settings("random", x=2.0))
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}{% raw %}\u2028%{x}$\\frac"


def data_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    return json.loads(text)


def links_of(page: str) -> Any:
    (text,) = re.findall(r'<script type="application/json" id="links">(.*?)</script>', page, re.S)
    return json.loads(text)


def told(records: list[TrialRecord], room: int = 10**9, **more: Any) -> dict[str, Any]:
    frontier = make_frontier(records)
    return json.loads(PageData(records, frontier, make_scene(records, frontier, "s"), "s", **more).text(room))


def test_page_is_self_contained_and_says_the_caveat() -> None:
    page = frontier_page([A, B], make_frontier([A, B]), "sweep-1")
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=", page)
    assert CAVEAT in page and "plotly.js v" in page and len(page) < 2_500_000 and "default-src 'none'" in page
    assert '"sendChartToCloud"' in page
    rows = re.findall(r"<tr[^>]*>.*?</tr>", page.partition("<tbody>")[2].partition("</tbody>")[0], re.S)
    assert len(rows) == 1 + 3 and "BadNet" in rows[0]
    told = re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]+>", " ", rows[2])))
    for words in ("margin, index, conv_4+conv_3, X = 4", "97.00% [95.75–97.89]", "22.00% [18.59–25.84]"):
        assert words in told
    assert "+2.50 25 images" in told  # of the BadNet's 990 on test 965 are left


def test_findings_stand_at_the_top() -> None:
    found = [Finding("warning", "few-images", "only 8 clean <images>")]
    page = frontier_page([A], make_frontier([A]), "s", findings=found)
    assert page.index("only 8 clean &lt;images&gt;") < page.index("<form")
    assert "found nothing to warn of" in frontier_page([A], make_frontier([A]), "s", findings=[])
    assert "found nothing" not in frontier_page([A], make_frontier([A]), "s")  # nobody looked


def test_states_are_told_by_what_changes() -> None:
    states = told([A, B, FAILED])["states"]
    assert states[0] == {"s": [1, 2], "p": [1, 1], "c": [-5, -15], "a": [[-100, -300]], "d": [1, 2]}
    assert states[2] == {"s": [], "p": [], "c": [], "a": [[]], "d": []}
    numbered = told([A, B, FAILED])["numbered"]
    assert (numbered["layers"], numbered["layer"]) == (["conv_4"], [0, 0, 0])
    assert numbered["index"] == [0, 2, 1]


def test_a_channel_that_comes_back_is_taken_off() -> None:
    first, second = A.steps[0], A.steps[2]
    back = PruneStep(
        Channel("conv_3", 5),
        True,
        second.now,
        first.mask.without(Channel("conv_4", 0)).adding(Channel("conv_3", 5)),
        second.now,
    )
    swapped = replace(A, steps=(first, back), mask=back.mask)
    assert told([swapped])["states"][0]["d"] == [1, [2, -1]]


def test_several_triggers_are_told_apart() -> None:
    def counts(*attacked: int) -> Counts:
        return Counts.of(980, 1000, [TriggerCounts(n, n, 500, 1.0) for n in attacked])

    step = replace(A.steps[0], now=counts(300, 40))
    record = replace(A, steps=(step,), mask=step.mask, badnet_valid=counts(500, 499), valid=step.now)
    found = told([record])
    assert found["states"][0]["a"] == [[-200], [-459]] and found["badnet"]["valid"] == [
        980,
        1000,
        500,
        500,
        499,
        500,
    ]


def test_a_page_that_would_be_too_large_leaves_states_out_but_none_of_the_frontier() -> None:
    long = make_record("long", [(990 - n, 500 - n) for n in range(400)])
    best = make_record("best", [(985, 450), (984, 90), (983, 88)])
    whole = told([long, best])
    assert whole["told"] == {"states": 403, "kept": 403, "masks": True}
    size = len(json.dumps(whole, separators=(",", ":")))
    no_masks = told([long, best], size - 10)
    assert no_masks["told"] == {"states": 403, "kept": 403, "masks": False} and no_masks["numbered"] is None
    thin = told([long, best], len(json.dumps(no_masks, separators=(",", ":"))) - 10)
    assert thin["told"]["kept"] < 403 and not thin["told"]["masks"]
    for found in (whole, thin, told([long, best], 0)):
        steps = [list(sums(way["s"])) for way in found["states"]]
        assert all(point["step"] in steps[point["trial"]] for point in found["frontier"])
        assert steps[0][-1] == 400  # a trial's end stays too


def sums(values: list[int]) -> list[int]:
    return [sum(values[: k + 1]) for k in range(len(values))]


def test_trials_tell_where_they_ran_and_what_was_known() -> None:
    found = told(
        [replace(A, ran=Ran("node/7", 1.7e9, 20, 5)), B], others={"old": [B, FAILED]}, channels={"conv_4": 80}
    )
    trials = found["trials"]
    assert (trials["started"], trials["asked"], trials["known"]) == ([1.7e9, None], [20, None], [5, None])
    assert trials["names"][trials["worker"][0]] == "node/7" and trials["worker"][1] is None
    assert found["others"] == {"old": [[pytest.approx(0.315, abs=0.2), 0.1]]}
    assert found["channels"]["conv_4"]["of"] == 80 and found["channels"]["conv_4"]["in"] == [
        [0, 3],
        [1, 1],
        [2, 1],
    ]
    assert "too few" in found["importance"]["found"][0]["why_not"]
    assert "end of the sweep" in told([A], running=True)["importance"]["missing"]


def test_hostile_names_stay_text() -> None:
    settings = make_settings(HOSTILE, (HOSTILE,), policy="margin")
    record = replace(make_record(HOSTILE, [(985, 400)], settings), ran=Ran(HOSTILE, 1.0, 1, 1))
    failed = make_record("f", reason=HOSTILE)
    finding = Finding("warning", HOSTILE, HOSTILE)
    links = RunLinks("https://example.org", HOSTILE, HOSTILE, {HOSTILE: HOSTILE})
    records, frontier = [record, failed], make_frontier([record])
    page = frontier_page(
        records,
        frontier,
        HOSTILE,
        findings=[finding],
        links=links,
        others={HOSTILE: records},
        channels={HOSTILE: 9},
    )
    plain = frontier_page([A], make_frontier([A]), "s")
    assert len(re.findall("<script", page)) == len(re.findall("<script", plain))
    assert len(re.findall("</script", page)) == len(re.findall("</script", plain)) == len(SCRIPTS) + 3
    own = page.partition('<script type="application/json"')[0]
    assert "<img" not in own and "{{ 7*7 }}" in own and "alert(1)&lt;/script&gt;" in own
    data = data_of(page)
    assert data["name"] == HOSTILE and data["trials"]["key"][0] == HOSTILE and HOSTILE in data["channels"]
    found = links_of(page)
    assert "<" not in found["base"] and found["base"].startswith("https://example.org/#/")
    assert HOSTILE in found["runs"] and links_of(plain) is None


@pytest.mark.parametrize(
    ("address", "base"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/#/experiments/3/runs/"),
        ("https://me:secret@lab.example/mlflow/?q=1", "https://lab.example/mlflow/#/experiments/3/runs/"),
        ("sqlite:///runs/mlflow.db", None),
        ("postgresql://db/x", None),
        ("javascript:alert(1)", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_links_lead_only_where_a_browser_can_go(address: str, base: str | None) -> None:
    links = RunLinks(address, "3")
    assert links.base == base and (links.to_json() is None) == (base is None)


def test_links_come_when_mlflow_has_given_runs_their_ids() -> None:
    links = RunLinks("http://lab", "3", "parent", {"a": "run-a"})
    before = frontier_page([A], make_frontier([A]), "s").encode()
    assert linked(before, links).decode() == frontier_page([A], make_frontier([A]), "s", links=links)
    assert linked(before, RunLinks("sqlite:///x", "3")) == before and linked(b"other", links) == b"other"


def test_nothing_to_show_is_a_page_too() -> None:
    for records in ([], [FAILED], [make_record("n", [None, None])]):
        data = data_of(frontier_page(records, Frontier((), 0.0), "s"))
        assert data["frontier"] == [] and len(data["states"]) == len(records)
    assert make_counts(990, 500).clean_total == data["badnet"]["valid"][1]
