"""A person's look at the page of a sweep of 1,000 trials, in a real headless browser."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import browser_page
from factories import make_frontier, make_record, make_settings

from prune_core.data.checks.findings import Finding
from sweeps.records.ran import Ran
from sweeps.records.trial_record import TrialRecord
from sweeps.reports.frontier_html import LARGEST, frontier_page
from sweeps.reports.page.links import RunLinks

pytestmark = pytest.mark.browser

TABS = (
    "frontier",
    "trials",
    "history",
    "importance",
    "slices",
    "parallel",
    "timeline",
    "channels",
    "distribution",
)
TRIALS = 1000
HOSTILE = "<img src=x onerror=document.title='owned'>"


def many(count: int, seed: int = 0) -> list[TrialRecord]:
    """Made-up trials of some sixty states, on six workers; one has a hostile name."""
    chance = random.Random(seed)
    free = [1.7e9] * 6
    records = []
    for number in range(count):
        order = HOSTILE if number == 7 else chance.choice(["activation", "l1", "tac", "random"])
        layers = chance.choice([("conv_4",), ("conv_4", "conv_3"), (HOSTILE, "conv_4")])
        settings = make_settings(
            order, layers, chance.choice([2.0, 4.0, 10.0]), chance.choice(["margin", "best-first"])
        )
        power = {"activation": 0.05, "l1": 0.03, "tac": 0.12}.get(order, 0.02)
        clean, attacked, steps = 990, 500, []
        for _ in range(80):
            if chance.random() < 0.25:
                steps.append(None)
                continue
            clean = max(990 - int(10 * settings.x), clean - chance.randint(0, 2))
            attacked = max(10, int(attacked * (1 - power * chance.random())))
            steps.append((clean, attacked))
        worker, seconds = chance.randrange(6), round(chance.uniform(4, 20), 1)
        ran = Ran(f"node-{worker // 3}/{4000 + worker}", free[worker], 100, chance.randrange(100))
        free[worker] += seconds + 1
        failed = "out of memory" if number % 97 == 5 else None
        record = make_record(f"{number:020x}", steps, settings, failed, seconds)
        records.append(replace(record, ran=ran))
    return records


@pytest.fixture(scope="module")
def records() -> list[TrialRecord]:
    return many(TRIALS)


@pytest.fixture(scope="module")
def file(records: list[TrialRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    links = RunLinks("https://lab.example", "3", "parent", {r.key: f"run-{r.key}" for r in records})
    text = frontier_page(
        records,
        make_frontier(records),
        "sweep-1",
        findings=[Finding("warning", "few-images", HOSTILE)],
        links=links,
        others={"earlier": many(60, seed=1)},
    )
    assert len(text.encode()) <= LARGEST
    path = tmp_path_factory.mktemp("page") / "frontier.html"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def page(file: Path, tmp_path: Path) -> Iterator[Any]:
    """The page, opened; whatever it says on the console, asks for or throws is a failure."""
    with browser_page(accept_downloads=True) as page:
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None
        )
        page.on(
            "request",
            lambda asked: (
                None if asked.url.startswith(("file:", "blob:", "data:")) else wrong.append(asked.url)
            ),
        )
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        yield page
        page.screenshot(path=tmp_path / "last.png")
        assert wrong == [] and page.title().startswith("sweep-1: ")


def test_it_opens_and_every_tab_draws(page: Any, file: Path) -> None:
    ready = int(page.locator("html").get_attribute("data-ready"))
    print(f"{TRIALS} trials: {file.stat().st_size:,} bytes, ready after {ready} ms")
    assert ready < 60_000  # two seconds on a quiet machine; here only that it ends
    assert page.get_by_text(HOSTILE, exact=False).first.is_visible()  # the finding, as text
    page.locator("#tab-frontier").focus()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for name in TABS:
            tab = page.locator(f"#tab-{name}")
            assert tab.get_attribute("aria-selected") == "true"
            panel = page.locator(f"#panel-{name}")
            drawn = panel.locator("table tbody tr" if name == "trials" else ".main-svg")
            drawn.first.wait_for(state="attached")
            assert panel.locator("p.empty").count() == 0
            page.keyboard.press("ArrowRight")  # from the last one to the first


def test_from_the_frontier_to_the_trial_to_the_command(page: Any, records: list[TrialRecord]) -> None:
    point = make_frontier(records).points[2]
    page.locator("#frontier .scatterlayer .trace path.point").first.wait_for(state="attached")
    # A click on the drawing: where Plotly says that the frontier's third state is.
    page.locator("#frontier").scroll_into_view_if_needed()
    place = page.evaluate(
        """() => { const d = document.getElementById("frontier"), box = d.getBoundingClientRect();
        const { xaxis, yaxis } = d._fullLayout, line = d.data.find((t) => t.name === "frontier, validation");
        return [box.x + xaxis._offset + xaxis.d2p(line.x[2]),
          box.y + yaxis._offset + yaxis.d2p(line.y[2])]; }"""
    )
    page.mouse.move(*place)
    page.locator("#tip").wait_for(state="visible")
    page.mouse.click(*place)
    detail = page.locator("#detail")
    detail.wait_for(state="visible")
    command = page.locator("#detail-command").inner_text()
    assert command == f"goodnet pick sweep-1 --trial {point.trial_key} --step {point.step}"
    link = page.locator("#detail-link").get_attribute("href")
    assert (
        link
        == f"https://lab.example/#/experiments/3/runs/run-{point.trial_key}?workflowType=machine_learning"
    )
    shown = detail.locator("ul.masks").inner_text()
    for layer, channels in point.mask.by_layer().items():
        assert f"{layer} {len(channels)}: " in shown
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.taken = text; }")
    page.locator("#detail-copy").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.evaluate("window.taken") == command
    page.locator("#curve .scatterlayer .trace").first.wait_for(state="attached")
    page.locator("#detail-before").click()  # a state off the frontier has its mask and command too
    assert page.locator("#detail-command").inner_text() != command
    # The same by keyboard alone, from the table.
    page.locator("#detail-close").press("Enter")
    assert detail.is_hidden()
    page.locator("#panel-frontier button.state").nth(2).press("Enter")
    assert page.locator("#detail-command").inner_text() == command


def test_filters_search_order_and_csv(page: Any, records: list[TrialRecord], tmp_path: Path) -> None:
    page.locator("#filter-order").select_option("=tac")
    page.locator("#filter-x").select_option("=4")
    page.locator("#frontier .legendtext").get_by_text("frontier of what is shown").wait_for()
    left = [r for r in records if r.settings.order == "tac" and r.settings.x == 4.0]
    assert f"{len(left)} of {TRIALS} trials shown" in page.locator("#told").inner_text()
    page.locator("#tab-trials").click()
    page.locator("#trials-search").fill("best-first")
    found = [r for r in left if r.settings.policy == "best-first"]
    page.get_by_text(f"{len(found)} of {TRIALS} trials", exact=True).wait_for()
    page.locator("#trials-table th button").get_by_text("seconds").click()
    column = page.locator("#trials-table tbody tr td:nth-child(18)").all_inner_texts()
    slowest = sorted((r.seconds for r in found), reverse=True)
    assert column == [f"{s:.1f}" for s in slowest[:50]]
    with page.expect_download() as download:
        page.locator("#trials-csv").click()
    download.value.save_as(tmp_path / "trials.csv")
    rows = list(csv.DictReader((tmp_path / "trials.csv").open(newline="")))
    assert [float(row["seconds"]) for row in rows] == [round(s, 2) for s in slowest]
    assert {row["trial"] for row in rows} == {r.key for r in found}
    page.locator("#filter-none").click()
    page.locator("#trials-search").fill("")
    page.get_by_text(f"{TRIALS} of {TRIALS} trials", exact=True).wait_for()
