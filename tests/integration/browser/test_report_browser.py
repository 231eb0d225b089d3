"""The page for who decides, on a screen and on paper, in a real headless browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import browser_page
from reported import figures_of, small_report

from sweeps.decision.page import report_html

pytestmark = pytest.mark.browser

TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
UNSEEN = "[...document.querySelectorAll('[data-figure]')].filter(e => !e.getClientRects().length).length"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"


def test_it_is_read_on_screens_and_on_paper(tmp_path: Path) -> None:
    """Nothing is asked for, nothing is hidden, nothing is cut off; dark on a dark screen, never on paper."""
    told, _ = small_report(tmp_path)
    text = report_html(told)
    file = tmp_path / "report.html"
    file.write_text(text, encoding="utf-8")
    wrong: list[Any] = []
    with browser_page() as page:
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text))
        page.on("request", lambda asked: wrong.append(asked.url) if _outside(asked.url) else None)
        page.goto(file.as_uri())
        assert page.locator("h2").count() == 10
        assert page.locator("[data-figure]").count() == len(figures_of(text))
        for width in (360, 1500):
            page.set_viewport_size({"width": width, "height": 900})
            assert not page.evaluate(TOO_WIDE), f"{width} pixels are too few"
        assert page.evaluate(BROKEN) == 0 and page.evaluate(UNSEEN) == 0
        seen = {}
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            seen[scheme] = page.evaluate(BACKGROUND)
        assert seen["light"] != seen["dark"]
        page.emulate_media(color_scheme="dark", media="print")
        assert page.evaluate(BACKGROUND) == seen["light"] and page.evaluate(UNSEEN) == 0
        pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF") and len(pdf) < 3_000_000
    assert 3 <= pdf.count(b"/Type /Page\n") <= 12
    assert wrong == []


def _outside(url: str) -> bool:
    return not url.startswith(("file:", "data:"))
